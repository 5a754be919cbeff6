"""The processor: recordings and texts → model inputs.

`MMERProcessor` combines the feature extractor of the audio encoder and the tokenizer of the text encoder. It reads
audio in all common forms, and returns padded tensors with one mask per modality: 1 = data, 0 = padding. A row that
lacks a modality has an all-zero mask; a batch that lacks a modality has no keys for it. Each recording and text is
encoded before padding, so an example gets the same features in any batch.
"""

import functools
import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin, SequenceFeatureExtractor

from .waveforms import is_list, is_list_of_recordings, is_missing, read_recording

SPECIAL_TOKENS = 8  # maximum number that a tokenizer adds to a text
SHORTEST_WAVEFORM = 0.025  # seconds; the receptive field of the convolutions in wav2vec2, HuBERT and WavLM

# Accepted options of a call and their values. Others are refused rather than ignored.
OPTIONS = {
    "return_tensors": ("pt",),
    "padding": (True, "longest", "max_length"),
    "truncation": (True,),
    "return_attention_mask": (True,),
}
NESTED_OPTIONS = ("common_kwargs", "text_kwargs", "audio_kwargs")


class ExampleError(ValueError):
    """An error in one example of a batch; `index` is its row."""

    def __init__(self, index: int, message: str):
        super().__init__(message)
        self.index = index

    def __reduce__(self):
        return type(self), (self.index, *self.args)  # without it, a pool of processes hangs at the first error


class MMERProcessor(ProcessorMixin):
    """Processor of MMER: prepares audio and text for the model.

    Args:
        feature_extractor: the feature extractor of the audio encoder, either for log-mel features (`input_features`, as
            in Whisper) or for raw waveforms (`input_values`, as in wav2vec2, HuBERT and WavLM).
        tokenizer: the tokenizer of the text encoder. It must have a padding token.

    Raises:
        ValueError: the feature extractor is of neither kind, or the tokenizer has no padding token.
    """

    def __init__(self, feature_extractor: SequenceFeatureExtractor, tokenizer: PreTrainedTokenizerBase):
        super().__init__(feature_extractor, tokenizer)
        _check_feature_extractor(feature_extractor)
        feature_extractor.return_attention_mask = True  # for stock pipelines, which call it directly
        if tokenizer.pad_token_id is None:
            raise ValueError("The tokenizer has no padding token; set `tokenizer.pad_token`.")

    @property
    def reads_spectrograms(self) -> bool:
        """Whether the audio encoder takes log-mel features (Whisper) instead of waveforms."""
        return "input_features" in self.feature_extractor.model_input_names

    @property
    def window_seconds(self) -> float:
        """The maximum length of a recording in seconds: 30 for Whisper, infinity for others."""
        samples = getattr(self.feature_extractor, "n_samples", math.inf)
        return samples / self.feature_extractor.sampling_rate

    @property
    def model_input_names(self) -> list[str]:
        """The four keys of a batch with both modalities, in order."""
        audio = "input_features" if self.reads_spectrograms else "input_values"
        return [audio, f"{audio}_mask", "input_ids", "attention_mask"]

    def __call__(self, audio: Any = None, text: Any = None, **kwargs: Any) -> BatchFeature:
        """Prepare one example or a list of B examples.

        Args:
            audio: one recording or a list, with None for missing ones. A recording is a path, a URL, bytes, an open
                binary file, base64 (also as a data URI), a NumPy array, a list of floats, a torch tensor, a pair of
                samples and sampling rate in either order, or a dict as in `datasets`: `{"array", "sampling_rate"}` or
                `{"bytes", "path"}`. A dict can select a span by `start` and `end`, in seconds. Arrays are 1-D, or 2-D
                with up to six channels on the shorter axis; channels are averaged. Integers are PCM and are scaled to
                [-1, 1]. NaN, as in pandas, means missing.
            text: one string or a list. None, NaN, "" and blanks mean missing.
            **kwargs: the options below. Others are only accepted with the values that always apply
                (`return_tensors="pt"`, `truncation=True`). Options may be nested in `common_kwargs`, `text_kwargs` and
                `audio_kwargs`.

        Keyword Args:
            sampling_rate (int): of arrays that come without one. Default: that of the feature extractor.
            max_length (int): number of tokens at which texts are cut. Default: `model_max_length` of the tokenizer.
            padding (str | bool): "longest" (or True), the default, or "max_length" for texts. Audio is padded to the
                longest clip.

        Returns:
            For Whisper `input_features (B, mels, T_a)` and `input_features_mask (B, T_a)`, otherwise
            `input_values (B, samples)` and `input_values_mask (B, samples)`; `input_ids (B, T_t)` and
            `attention_mask (B, T_t)`.

        Raises:
            ValueError: there is no input, the lists differ in length, a row has neither modality, an option is not
                supported, or a recording does not exist, is empty, cannot be decoded or is not finite. Errors in a row
                are an `ExampleError`, whose `index` is the row.
            ImportError: decoding or resampling needs a package that is not installed.
        """
        sampling_rate, text_options = _read_options(kwargs, self.tokenizer.init_kwargs)
        _check_max_length(text_options["max_length"], self.tokenizer.num_special_tokens_to_add())
        audio, text = _as_rows(audio, is_list_of_recordings), _as_rows(text, is_list)
        if not audio and not text:
            raise ValueError("Nothing to process: give `audio`, `text` or both.")
        if audio is not None and text is not None and len(audio) != len(text):
            raise ValueError(
                f"`audio` has {len(audio)} entries and `text` has {len(text)}; "
                "give one of each per example, None if it is missing."
            )
        inputs = {**self.encode_audio(audio or [], sampling_rate), **self.encode_text(text or [], **text_options)}
        limit = text_options["max_length"] or self.tokenizer.model_max_length
        if cut := self.count_cut_texts(text or [], limit):
            warnings.warn(
                f"{cut} of {len(text)} texts were cut at {limit} tokens: only their beginning is used.", stacklevel=2
            )
        masks = [value for key, value in inputs.items() if key.endswith("_mask")]
        require_a_modality(len(audio or text), masks)
        return BatchFeature(inputs)

    def encode_audio(
        self, audio: list, sampling_rate: int | None = None, warn: Callable[[str], None] | None = None
    ) -> dict[str, torch.Tensor]:
        """The audio part of a call: B recordings or None → features and mask; no keys if all are None.

        Recordings longer than the window of the feature extractor (Whisper: 30 s) are cropped, with one warning.
        `warn` is called with a message for each problem of the sound; by default it is a warning that names the row.
        """
        clips = [
            None if is_missing(item) else self._read_row(b, item, sampling_rate, warn) for b, item in enumerate(audio)
        ]
        clips = self._crop(clips)
        encode = self._log_mel if self.reads_spectrograms else self._waveform
        rows = [None if clip is None else encode(clip) for clip in clips]  # (mels, T_a) or (samples,) each
        name = self.model_input_names[0]
        return _batch(rows, name, f"{name}_mask")

    def encode_text(
        self, text: list[str | None], max_length: int | None = None, fill: bool = False
    ) -> dict[str, torch.Tensor]:
        """The text part of a call: B strings or None → `input_ids`, `attention_mask`; no keys if all are missing.

        Texts are cut at `max_length` (default: `model_max_length` of the tokenizer). They are padded on the right,
        regardless of `padding_side`, to the longest text or, with `fill`, to `max_length`.
        """
        present = [b for b, string in enumerate(text) if not _is_missing_text(b, string)]
        if not present:
            return {}
        tokens = self.tokenizer(
            [text[b] for b in present],
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        rows = [None] * len(text)
        for b, ids in zip(present, tokens, strict=True):
            rows[b] = torch.tensor(ids, dtype=torch.long) if ids else None
        batch = _batch(rows, "input_ids", "attention_mask", value=self.tokenizer.pad_token_id)
        if fill and batch:
            length = (max_length or self.tokenizer.model_max_length) - batch["input_ids"].shape[1]
            for name, value in (("input_ids", self.tokenizer.pad_token_id), ("attention_mask", 0)):
                batch[name] = torch.nn.functional.pad(batch[name], (0, length), value=value)
        return batch

    def count_cut_texts(self, text: list[str | None], max_length: int | None = None) -> int:
        """The number of texts with more tokens than `max_length` (default: `model_max_length` of the tokenizer)."""
        limit = max_length or self.tokenizer.model_max_length
        # A token covers at least one byte, so only few texts need to be tokenized.
        long = [string for string in text if isinstance(string, str) and len(string.encode()) > limit - SPECIAL_TOKENS]
        if not long:
            return 0
        tokens = self.tokenizer(long, truncation=False, verbose=False, return_attention_mask=False)["input_ids"]
        return sum(len(ids) > limit for ids in tokens)

    def to_dict(self) -> dict:
        """The saved form, with the location of its code."""
        return super().to_dict() | {"auto_map": {"AutoProcessor": "processing_mmer.MMERProcessor"}}

    def read_audio(
        self, audio, sampling_rate: int | None = None, warn: Callable[[str], None] | None = None
    ) -> np.ndarray:
        """Read one recording in any form of `__call__` → float32 samples, mono, at the rate of the feature extractor.

        Args:
            warn: called with a message for each problem of the sound; by default a Python warning.

        Raises:
            ValueError: the recording does not exist, is empty, cannot be decoded, is not finite or has an unknown form.
            ImportError: decoding or resampling needs a package that is not installed.
        """
        rate = self.feature_extractor.sampling_rate
        array_rate = rate if sampling_rate is None else sampling_rate
        return read_recording(audio, rate, array_rate, warn or functools.partial(_warn, "the recording"))

    def _read_row(self, index: int, audio, sampling_rate: int | None, warn: Callable[[str], None] | None) -> np.ndarray:
        name = f"audio[{index}]{source_name(audio)}"
        try:
            return self.read_audio(audio, sampling_rate, warn or functools.partial(_warn, name))
        except ValueError as error:
            raise ExampleError(index, f"{name}: {error}") from error

    def _crop(self, clips: list[np.ndarray | None]) -> list[np.ndarray | None]:
        """Crop clips to the window of the feature extractor, if it has one."""
        window = getattr(self.feature_extractor, "n_samples", None)
        if window is None:
            return clips
        cropped = sum(clip is not None and len(clip) > window for clip in clips)
        if cropped:
            warnings.warn(
                f"{cropped} of {len(clips)} recordings are longer than {self.feature_extractor.chunk_length} s and "
                "were cropped. Split them, or use the pipeline, which scores long recordings in windows.",
                stacklevel=4,
            )
        return [None if clip is None else clip[:window] for clip in clips]

    def _log_mel(self, clip: np.ndarray) -> torch.Tensor:
        """(samples,) → (mels, T_a), T_a = ceil(samples / hop): the first T_a frames of Whisper's 30 s features.

        A frame depends on half an STFT window on either side. Padding with one window of silence therefore gives the
        same frames as padding to 30 s, at the cost of two frames instead of thousands. The padding must not exceed
        30 s, where Whisper's own features mirror the signal.
        """
        extractor = self.feature_extractor
        features = extractor(
            clip,
            sampling_rate=extractor.sampling_rate,
            padding="max_length",
            max_length=min(len(clip) + extractor.n_fft, extractor.n_samples),
            truncation=False,
        )["input_features"][0]
        return torch.from_numpy(features[:, : math.ceil(len(clip) / extractor.hop_length)])

    def _waveform(self, clip: np.ndarray) -> torch.Tensor:
        """(samples,) → (samples,), padded with silence to 25 ms and normalised if the feature extractor does so."""
        rate = self.feature_extractor.sampling_rate
        clip = np.pad(clip, (0, max(0, round(SHORTEST_WAVEFORM * rate) - len(clip))))
        return torch.from_numpy(self.feature_extractor(clip, sampling_rate=rate)["input_values"][0])


def pad_rows(rows: list[torch.Tensor | None], dim: int = -1, value: float = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack B rows of different lengths along `dim`, padded at the end. A row of None is all padding.

    Args:
        rows: tensors of equal shape except for `dim`, at least one of which is not None. Different dtypes are promoted.
        dim: the time axis.
        value: the padding value.

    Returns:
        The rows (B, …), and the mask (B, T), int64, 1 = data.
    """
    present = [row for row in rows if row is not None]
    shape = list(present[0].shape)
    shape[dim] = max(row.shape[dim] for row in present)
    dtype = functools.reduce(torch.promote_types, (row.dtype for row in present))
    batch = present[0].new_full((len(rows), *shape), value, dtype=dtype)
    mask = torch.zeros(len(rows), shape[dim], dtype=torch.long)
    for b, row in enumerate(rows):
        if row is not None:
            batch[b].narrow(dim, 0, row.shape[dim]).copy_(row)
            mask[b, : row.shape[dim]] = 1
    return batch, mask


def states_of_vectors(value, name: str) -> torch.Tensor | None:
    """Vectors (T, D) of a modality that has no encoder, in any form → one state (1, T, D); None if they are missing.

    Raises:
        ValueError: they are not T vectors of equally many numbers.
    """
    if value is None:
        return None
    try:
        vectors = torch.as_tensor(value, dtype=torch.float32)
    except (TypeError, ValueError):
        vectors = torch.empty(0)
    if vectors.ndim != 2 or not len(vectors):
        raise ValueError(f"{name} must be a list of vectors of equally many numbers, (T, D), or None.")
    return vectors[None]


def stack_states(states: list, modality: str) -> dict[str, torch.Tensor]:
    """B times states (L+1, T, D) or None → the inputs of a model: states (B, L+1, T, D) and mask (B, T)."""
    stacked, mask = pad_rows([None if of_row is None else torch.as_tensor(of_row) for of_row in states], dim=-2)
    return {f"{modality}_hidden_states": stacked, f"{modality}_mask": mask}


def require_a_modality(batch_size: int, masks: list[torch.Tensor]) -> None:
    """Raise an `ExampleError` for the first of B rows in which all masks (B, T) are zero."""
    for b in range(batch_size):
        if not any(mask[b].any() for mask in masks):
            raise ExampleError(b, f"Example {b} has neither audio nor text; give at least one, or leave it out.")


def _batch(rows: list[torch.Tensor | None], name: str, mask_name: str, value: float = 0) -> dict[str, torch.Tensor]:
    if all(row is None for row in rows):
        return {}
    content, mask = pad_rows(rows, value=value)
    return {name: content, mask_name: mask}


def _as_rows(value, is_batch) -> list | None:
    if value is None:
        return None
    if hasattr(value, "to_list") or (isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))):
        value = list(value)  # also a column of pandas or `datasets`
    return list(value) if is_batch(value) else [value]


def _is_missing_text(index: int, text: str | None) -> bool:
    if is_missing(text):
        return True
    if not isinstance(text, str):
        raise ExampleError(index, f"text[{index}] is a {type(text).__name__}; give a string, or None if it is missing.")
    return not text.strip()


def _check_feature_extractor(feature_extractor) -> None:
    names = feature_extractor.model_input_names
    whisper_shaped = "input_features" in names and hasattr(feature_extractor, "n_samples")
    if not whisper_shaped and "input_values" not in names:
        raise ValueError(
            f"{type(feature_extractor).__name__} is not supported: give a WhisperFeatureExtractor, or one for raw "
            "waveforms such as Wav2Vec2FeatureExtractor."
        )


def _read_options(options: dict, tokenizer_options: dict) -> tuple[int | None, dict]:
    """The options of a call → the sampling rate, and the arguments of `encode_text`.

    If the tokenizer was created with `padding="max_length"`, that is the default. A `max_length` alone is not used as a
    default: many tokenizers have one from their own training, while training here cuts at `model_max_length`.
    """
    flat = {name: value for name, value in options.items() if name not in NESTED_OPTIONS}
    fills = tokenizer_options.get("padding") == "max_length"
    defaults = ("padding", "max_length") if fills else ()
    text = {name: tokenizer_options[name] for name in defaults if name in tokenizer_options} | flat
    audio = dict(flat)
    for nested, merged in (("common_kwargs", (text, audio)), ("text_kwargs", (text,)), ("audio_kwargs", (audio,))):
        given = options.get(nested) or {}
        if twice := [name for name in flat.keys() & given.keys() if flat[name] != given[name]]:
            raise ValueError(f"Given twice, directly and in `{nested}`: {', '.join(sorted(twice))}.")
        for modality_options in merged:
            modality_options.update(given)
    for name, value in (text | audio).items():
        if name in ("sampling_rate", "max_length"):
            continue
        if name not in OPTIONS:
            raise ValueError(f"Unknown option `{name}`. Options are sampling_rate, max_length, {', '.join(OPTIONS)}.")
        if value is not None and value not in OPTIONS[name]:
            raise ValueError(f"`{name}={value!r}` is not supported: it is always {OPTIONS[name][0]!r}.")
    fill = text.get("padding") == "max_length"
    return audio.get("sampling_rate"), {"max_length": text.get("max_length"), "fill": fill}


def _check_max_length(max_length: int | None, specials: int) -> None:
    """Raise a ValueError if a length leaves no token of a text. Tokenizers would cut nothing, or everything."""
    if max_length is None or (isinstance(max_length, int) and max_length > specials):
        return
    raise ValueError(
        f"`max_length={max_length!r}` is not possible: give a whole number greater than the {specials} special tokens "
        "of each text."
    )


def source_name(audio) -> str:
    """` ('path')` of a recording from a file, with its span; shortened if it is a long base64 string; else empty."""
    path, span = audio, ""
    if isinstance(audio, dict):
        path, start, end = (None if is_missing(audio.get(name)) else audio[name] for name in ("path", "start", "end"))
        if start is not None or end is not None:
            span = f", {start or 0} s to {'its end' if end is None else f'{end} s'}"
    if not isinstance(path, (str, os.PathLike)):
        return ""
    path = os.fspath(path)
    return f" ({path!r}{span})" if len(path) <= 300 else f" ({path[:60]!r}…{span})"


def _warn(name: str, message: str) -> None:
    warnings.warn(f"{name}: {message}.", stacklevel=2)


MMERProcessor.register_for_auto_class()

__all__ = ["MMERProcessor"]
