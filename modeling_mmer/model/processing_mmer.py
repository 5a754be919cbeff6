"""Recordings and transcripts in, model inputs out.

`MMERProcessor` joins the feature extractor of the audio encoder and the tokenizer of the text encoder. It reads audio
in any usual form, and gives B examples as padded tensors with one mask per modality: 1 = data, 0 = padding. A row
without a modality has an all-zero mask there; a batch without a modality lacks its keys. Every clip and every text is
encoded alone, before any padding, so a batch gives each example exactly what it gets by itself.

This file travels with checkpoints: it imports only torch, transformers, numpy and others that do.
"""

import functools
import math
import os
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin

from .waveforms import is_list, is_missing, is_one_recording, read_recording

SPECIAL_TOKENS = 8  # that a tokenizer adds to a text, at most
SHORTEST_WAVEFORM = 0.025  # seconds: the receptive field of the convolutions of wav2vec2, HuBERT and WavLM

# What a call may ask for beside its inputs; anything else is refused rather than ignored.
OPTIONS = {
    "return_tensors": ("pt",),
    "padding": (True, "longest", "max_length"),
    "truncation": (True,),
    "return_attention_mask": (True,),
}
NESTED_OPTIONS = ("common_kwargs", "text_kwargs", "audio_kwargs")


class ExampleError(ValueError):
    """A fault in one example of a batch; `index` is its row."""

    def __init__(self, index: int, message: str):
        super().__init__(message)
        self.index = index

    def __reduce__(self):
        return type(self), (self.index, *self.args)  # without it, several processes hang at the first fault


class MMERProcessor(ProcessorMixin):
    """Audio and text to the inputs of MMER.

    Args:
        feature_extractor: of the audio encoder. Either Whisper-shaped (`input_features`: log-mel) or for raw waveforms
            (`input_values`: wav2vec2, HuBERT, WavLM).
        tokenizer: of the text encoder. It must have a padding token.

    Raises:
        ValueError: if the feature extractor is of neither kind, or the tokenizer has no padding token.
    """

    def __init__(self, feature_extractor, tokenizer):
        super().__init__(feature_extractor, tokenizer)
        _check_feature_extractor(feature_extractor)
        feature_extractor.return_attention_mask = True  # by itself, in a stock pipeline, it pads and must say where
        if tokenizer.pad_token_id is None:
            raise ValueError("The tokenizer has no padding token; set `tokenizer.pad_token`.")

    @property
    def reads_spectrograms(self) -> bool:
        """Whether the audio encoder wants log-mel features (Whisper) rather than the waveform."""
        return "input_features" in self.feature_extractor.model_input_names

    @property
    def window_seconds(self) -> float:
        """What the audio encoder hears of a recording: Whisper the first 30 s, others all of it."""
        samples = getattr(self.feature_extractor, "n_samples", math.inf)
        return samples / self.feature_extractor.sampling_rate

    @property
    def model_input_names(self) -> list[str]:
        """The four keys of a batch that has both modalities, in order."""
        audio = "input_features" if self.reads_spectrograms else "input_values"
        return [audio, f"{audio}_mask", "input_ids", "attention_mask"]

    def __call__(self, audio=None, text=None, **kwargs) -> BatchFeature:
        """Encodes one example or a list of B examples.

        Args:
            audio: one recording or a list of them, None where it is missing. A recording is a path, a URL, bytes,
                an open binary file, base64 (also as a data URI), a numpy array, a list of floats, a torch tensor, a
                pair of such samples and their rate, in either order, or a dict as `datasets` gives it: `{"array",
                "sampling_rate"}` or `{"bytes", "path"}`. A dict may ask for a span of its recording by `start` and
                `end`, in seconds. Arrays are 1-D, or 2-D with up to six channels on the shorter axis; channels are
                averaged. Integers are PCM and are scaled to [-1, 1]. NaN is a missing recording, as pandas has it.
            text: one string or a list of them. None, NaN, "" and blanks are missing text.
            sampling_rate: of bare arrays; files and dicts know their own. Default: the feature extractor's.
            max_length: tokens at which texts are cut. Default: the tokenizer's `model_max_length`.
            padding: "longest" (or True), the default, or "max_length" for texts; audio is padded to the longest clip.
            **kwargs: what happens anyway (`return_tensors="pt"`, `truncation=True`). Options may also be given as in
                other processors, in `common_kwargs`, `text_kwargs` and `audio_kwargs`.

        Returns:
            For Whisper `input_features (B, mels, T_a)` and `input_features_mask (B, T_a)`, otherwise
            `input_values (B, samples)` and `input_values_mask (B, samples)`; `input_ids (B, T_t)` and
            `attention_mask (B, T_t)`.

        Raises:
            ValueError: if nothing is given, the lists differ in length, a row has neither modality, an option asks for
                something else, or a recording is missing, empty, undecodable or not finite. Faults of one row are an
                `ExampleError`, whose `index` and message name it.
            ImportError: if decoding or resampling needs a package that is not installed.
        """
        sampling_rate, of_text = _read_options(kwargs, self.tokenizer.init_kwargs)
        _check_max_length(of_text["max_length"], self.tokenizer.num_special_tokens_to_add())
        audio, text = _as_rows(audio, _is_audio_list), _as_rows(text, is_list)
        if not audio and not text:
            raise ValueError("Nothing to process: give `audio`, `text` or both.")
        if audio is not None and text is not None and len(audio) != len(text):
            raise ValueError(
                f"`audio` has {len(audio)} entries and `text` has {len(text)}; "
                "give one of each per example, None where it is missing."
            )
        inputs = {**self.encode_audio(audio or [], sampling_rate), **self.encode_text(text or [], **of_text)}
        if cut := self.count_cut_texts(text or [], of_text["max_length"]):
            warnings.warn(
                f"{cut} of {len(text)} texts were cut at {of_text['max_length'] or self.tokenizer.model_max_length} "
                "tokens: only their beginning is read.",
                stacklevel=2,
            )
        masks = [value for key, value in inputs.items() if key.endswith("_mask")]
        require_a_modality(len(audio or text), masks)
        return BatchFeature(inputs)

    def encode_audio(
        self, audio: list, sampling_rate: int | None = None, tell: Callable[[str], None] | None = None
    ) -> dict[str, torch.Tensor]:
        """The audio half of a call: B recordings or None → features and mask; no keys if all are None.

        Recordings beyond the extractor's window (Whisper: 30 s) are cropped to it, with one warning that counts them.
        `tell` is called with what is odd about the sound of a recording, in place of a warning that names its row.
        """
        clips = [
            None if is_missing(item) else self._read_row(b, item, sampling_rate, tell) for b, item in enumerate(audio)
        ]
        clips = self._crop(clips)
        encode = self._log_mel if self.reads_spectrograms else self._waveform
        rows = [None if clip is None else encode(clip) for clip in clips]  # (mels, T_a) or (samples,) each
        name = self.model_input_names[0]
        return _batch(rows, name, f"{name}_mask")

    def encode_text(
        self, text: list[str | None], max_length: int | None = None, fill: bool = False
    ) -> dict[str, torch.Tensor]:
        """The text half of a call: B strings or None → `input_ids`, `attention_mask`; no keys if all are missing.

        Texts are cut at `max_length` (default: the tokenizer's `model_max_length`) and padded on the right, whatever
        its `padding_side`, to the longest of them or, with `fill`, to `max_length`.
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
        """How many of some texts have more tokens than `max_length` (default: the tokenizer's `model_max_length`)."""
        limit = max_length or self.tokenizer.model_max_length
        # A token stands for a byte at least: few texts need to be looked at.
        long = [string for string in text if isinstance(string, str) and len(string.encode()) > limit - SPECIAL_TOKENS]
        if not long:
            return 0
        tokens = self.tokenizer(long, truncation=False, verbose=False, return_attention_mask=False)["input_ids"]
        return sum(len(ids) > limit for ids in tokens)

    def to_dict(self) -> dict:
        """As saved: with the place of its code."""
        return super().to_dict() | {"auto_map": {"AutoProcessor": "processing_mmer.MMERProcessor"}}

    def read_audio(
        self, audio, sampling_rate: int | None = None, tell: Callable[[str], None] | None = None
    ) -> np.ndarray:
        """One recording in any form of `__call__` → float32 samples, mono, at the feature extractor's rate.

        Args:
            tell: called with a sentence on each thing that is odd about its sound; by default it is a warning.

        Raises:
            ValueError: if it is missing, empty, undecodable, not finite or of an unknown form.
            ImportError: if decoding or resampling needs a package that is not installed.
        """
        rate = self.feature_extractor.sampling_rate
        array_rate = rate if sampling_rate is None else sampling_rate
        return read_recording(audio, rate, array_rate, tell or functools.partial(_warn, "the recording"))

    def _read_row(self, index: int, audio, sampling_rate: int | None, tell: Callable[[str], None] | None) -> np.ndarray:
        name = f"audio[{index}]{source_name(audio)}"
        try:
            return self.read_audio(audio, sampling_rate, tell or functools.partial(_warn, name))
        except ValueError as error:
            raise ExampleError(index, f"{name}: {error}") from error

    def _crop(self, clips: list[np.ndarray | None]) -> list[np.ndarray | None]:
        """Clips no longer than the extractor's window; extractors without a window leave them as they are."""
        window = getattr(self.feature_extractor, "n_samples", None)
        if window is None:
            return clips
        cropped = sum(clip is not None and len(clip) > window for clip in clips)
        if cropped:
            warnings.warn(
                f"{cropped} of {len(clips)} recordings last longer than {self.feature_extractor.chunk_length} s and "
                "were cropped to it. Split longer recordings, or use the pipeline, which reads them in windows.",
                stacklevel=4,
            )
        return [None if clip is None else clip[:window] for clip in clips]

    def _log_mel(self, clip: np.ndarray) -> torch.Tensor:
        """(samples,) → (mels, T_a), T_a = ceil(samples / hop): the first T_a frames of Whisper's 30 s features.

        A frame sees half an STFT window to either side. One window of silence after the clip shows its frames what
        the silence up to 30 s would show them, at the cost of two frames instead of thousands. It must not reach
        beyond the 30 s: there Whisper's own frames see the signal mirrored.
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
        """(samples,) → (samples,), followed by silence up to 25 ms and then normalised if the extractor does so."""
        rate = self.feature_extractor.sampling_rate
        clip = np.pad(clip, (0, max(0, round(SHORTEST_WAVEFORM * rate) - len(clip))))
        return torch.from_numpy(self.feature_extractor(clip, sampling_rate=rate)["input_values"][0])


# Batches


def pad_rows(rows: list[torch.Tensor | None], dim: int = -1, value: float = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Stacks B rows that differ in length along `dim`, padded behind; None is all padding.

    Args:
        rows: tensors whose shapes agree but for `dim`; at least one is not None. Of several dtypes the batch gets the
            one that holds them all.
        dim: the time axis.
        value: of the padding.

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


def require_a_modality(batch_size: int, masks: list[torch.Tensor]) -> None:
    """Raises an `ExampleError` at the first of B rows in which all masks (B, T) are zero."""
    for b in range(batch_size):
        if not any(mask[b].any() for mask in masks):
            raise ExampleError(b, f"Example {b} has neither audio nor text; give at least one, or leave it out.")


def _batch(rows: list[torch.Tensor | None], name: str, mask_name: str, value: float = 0) -> dict[str, torch.Tensor]:
    if all(row is None for row in rows):
        return {}
    content, mask = pad_rows(rows, value=value)
    return {name: content, mask_name: mask}


def _is_audio_list(value) -> bool:
    """A list of recordings; a list of numbers is one recording."""
    return is_list(value) and not is_one_recording(value)


def _as_rows(value, is_batch) -> list | None:
    if value is None:
        return None
    if hasattr(value, "to_list") or (isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))):
        value = list(value)  # a column of pandas or `datasets`, too
    return list(value) if is_batch(value) else [value]


def _is_missing_text(index: int, text: str | None) -> bool:
    if is_missing(text):
        return True
    if not isinstance(text, str):
        raise ExampleError(index, f"text[{index}] is a {type(text).__name__}; give a string, or None if it is missing.")
    return not text.strip()


# Checks


def _check_feature_extractor(feature_extractor) -> None:
    names = feature_extractor.model_input_names
    whisper_shaped = "input_features" in names and hasattr(feature_extractor, "n_samples")
    if not whisper_shaped and "input_values" not in names:
        raise ValueError(
            f"{type(feature_extractor).__name__} is not supported: give a WhisperFeatureExtractor, or one for raw "
            "waveforms such as Wav2Vec2FeatureExtractor."
        )


def _read_options(options: dict, of_tokenizer: dict) -> tuple[int | None, dict]:
    """A call's options → the sampling rate, and the arguments of `encode_text`.

    A tokenizer that was made with `padding="max_length"` does so by default. A bare `max_length` among what it was made
    with is no default: many tokenizers carry one from their own training, and training here cuts at
    `model_max_length`.
    """
    flat = {name: value for name, value in options.items() if name not in NESTED_OPTIONS}
    fills = of_tokenizer.get("padding") == "max_length"
    text = {name: of_tokenizer[name] for name in ("padding", "max_length") if fills and name in of_tokenizer} | flat
    audio = dict(flat)
    for nested, merged in (("common_kwargs", (text, audio)), ("text_kwargs", (text,)), ("audio_kwargs", (audio,))):
        given = options.get(nested) or {}
        if twice := [name for name in flat.keys() & given.keys() if flat[name] != given[name]]:
            raise ValueError(f"Given twice, alone and in `{nested}`: {', '.join(sorted(twice))}.")
        for of_modality in merged:
            of_modality.update(given)
    for name, value in (text | audio).items():
        if name in ("sampling_rate", "max_length"):
            continue
        if name not in OPTIONS:
            raise ValueError(f"Unknown option `{name}`: there are sampling_rate, max_length, {', '.join(OPTIONS)}.")
        if value is not None and value not in OPTIONS[name]:
            raise ValueError(f"`{name}={value!r}` is not available: it is always {OPTIONS[name][0]!r}.")
    fill = text.get("padding") == "max_length"
    return audio.get("sampling_rate"), {"max_length": text.get("max_length"), "fill": fill}


def _check_max_length(max_length: int | None, specials: int) -> None:
    """Raises a ValueError at a length that leaves no token of a text: tokenizers then cut nothing, or everything."""
    if max_length is None or (isinstance(max_length, int) and max_length > specials):
        return
    raise ValueError(
        f"`max_length={max_length!r}` is not possible: give a whole number above the {specials} special tokens that "
        "every text gets."
    )


def source_name(audio) -> str:
    """` ('path')` where the recording came from a file, shortened if it is a long base64 string; and its span."""
    path, span = audio, ""
    if isinstance(audio, dict):
        path, start, end = (None if is_missing(audio.get(name)) else audio[name] for name in ("path", "start", "end"))
        span = (
            "" if start is None and end is None else f", {start or 0} s to {'its end' if end is None else f'{end} s'}"
        )
    if not isinstance(path, (str, os.PathLike)):
        return ""
    path = os.fspath(path)
    return f" ({path!r}{span})" if len(path) <= 300 else f" ({path[:60]!r}…{span})"


def _warn(name: str, sentence: str) -> None:
    warnings.warn(f"{name}: {sentence}.", stacklevel=2)


MMERProcessor.register_for_auto_class()

__all__ = ["MMERProcessor"]
