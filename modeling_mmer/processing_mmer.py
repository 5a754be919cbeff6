"""Recordings and transcripts in, model inputs out.

`MMERProcessor` joins the feature extractor of the audio encoder and the tokenizer of the text encoder. It reads audio
in any usual form, and gives B examples as padded tensors with one mask per modality: 1 = data, 0 = padding. A row
without a modality has an all-zero mask there; a batch without a modality lacks its keys. Every clip and every text is
encoded alone, before any padding, so a batch gives each example exactly what it gets by itself.

This file travels with checkpoints: it imports only torch, transformers and numpy.
"""

import base64
import binascii
import math
import numbers
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin
from transformers.audio_utils import TORCHCODEC_ONLY_FILETYPES, get_audio_filetype, load_audio

LOUDEST = (
    2.0**31
)  # full scale is 1, of integers kept as floats 2³¹; what is beyond is damage, and overflows in a spectrum
SHORTEST_WAVEFORM = 0.025  # seconds: the receptive field of the convolutions of wav2vec2, HuBERT and WavLM

# What a call may ask for beside its inputs; anything else is refused rather than ignored.
OPTIONS = {
    "return_tensors": ("pt",),
    "padding": (True, "longest", "max_length"),
    "truncation": (True,),
    "return_attention_mask": (True,),
}
NESTED_OPTIONS = ("common_kwargs", "text_kwargs", "audio_kwargs")

AUDIO_FORMS = (
    "a path, a URL, bytes, a base64 string, a numpy array, a list of floats, a torch tensor, "
    '{"array", "sampling_rate"} or {"bytes", "path"}'
)


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
    def model_input_names(self) -> list[str]:
        """The four keys of a batch that has both modalities, in order."""
        audio = "input_features" if self.reads_spectrograms else "input_values"
        return [audio, f"{audio}_mask", "input_ids", "attention_mask"]

    def __call__(self, audio=None, text=None, **kwargs) -> BatchFeature:
        """Encodes one example or a list of B examples.

        Args:
            audio: one recording or a list of them, None where it is missing. A recording is a path, a URL, bytes,
                base64 (also as a data URI), a numpy array, a list of floats, a torch tensor, or a dict as `datasets`
                gives it: `{"array", "sampling_rate"}` or `{"bytes", "path"}`. Arrays are 1-D, or 2-D with the channels
                on the shorter axis; channels are averaged. Integers are PCM and are scaled to [-1, 1].
            text: one string or a list of them. None, "" and blanks are missing text.
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
        audio, text = _as_rows(audio, _is_audio_list), _as_rows(text, _is_list)
        if not audio and not text:
            raise ValueError("Nothing to process: give `audio`, `text` or both.")
        if audio is not None and text is not None and len(audio) != len(text):
            raise ValueError(
                f"`audio` has {len(audio)} entries and `text` has {len(text)}; "
                "give one of each per example, None where it is missing."
            )
        inputs = {**self.encode_audio(audio or [], sampling_rate), **self.encode_text(text or [], **of_text)}
        masks = [value for key, value in inputs.items() if key.endswith("_mask")]
        require_a_modality(len(audio or text), masks)
        return BatchFeature(inputs)

    def encode_audio(self, audio: list, sampling_rate: int | None = None) -> dict[str, torch.Tensor]:
        """The audio half of a call: B recordings or None → features and mask; no keys if all are None.

        Recordings beyond the extractor's window (Whisper: 30 s) are cropped to it, with one warning that counts them.
        """
        clips = [None if item is None else self._read_row(b, item, sampling_rate) for b, item in enumerate(audio)]
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

    def to_dict(self) -> dict:
        """As saved: with the place of its code."""
        return super().to_dict() | {"auto_map": {"AutoProcessor": "processing_mmer.MMERProcessor"}}

    def read_audio(self, audio, sampling_rate: int | None = None) -> np.ndarray:
        """One recording in any form of `__call__` → float32 samples, mono, at the feature extractor's rate.

        Raises:
            ValueError: if it is missing, empty, undecodable, not finite or of an unknown form.
            ImportError: if decoding or resampling needs a package that is not installed.
        """
        rate = self.feature_extractor.sampling_rate
        return read_recording(audio, rate, rate if sampling_rate is None else sampling_rate)

    def _read_row(self, index: int, audio, sampling_rate: int | None) -> np.ndarray:
        try:
            return self.read_audio(audio, sampling_rate)
        except ValueError as error:
            raise ExampleError(index, f"audio[{index}]{_source_name(audio)}: {error}") from error

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
        rows: tensors of one dtype, whose shapes agree but for `dim`; at least one is not None.
        dim: the time axis.
        value: of the padding.

    Returns:
        The rows (B, …), and the mask (B, T), int64, 1 = data.
    """
    present = [row for row in rows if row is not None]
    shape = list(present[0].shape)
    shape[dim] = max(row.shape[dim] for row in present)
    batch = present[0].new_full((len(rows), *shape), value)
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


def _is_list(value) -> bool:
    return isinstance(value, (list, tuple))


def _is_audio_list(value) -> bool:
    """A list of recordings; a list of numbers is one recording."""
    return _is_list(value) and not (len(value) > 0 and isinstance(value[0], numbers.Real))


def _as_rows(value, is_batch) -> list | None:
    if value is None:
        return None
    return list(value) if is_batch(value) else [value]


def _is_missing_text(index: int, text: str | None) -> bool:
    if text is None:
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


# Reading audio


def read_recording(audio, rate: int, array_rate: int) -> np.ndarray:
    """Any form of recording → float32 (samples,), mono, at `rate`; see [`MMERProcessor.read_audio`].

    Args:
        array_rate: of arrays that do not say otherwise.
    """
    waveform = _read_any(audio, rate, array_rate)
    if waveform.size == 0:
        raise ValueError("the recording is empty (0 samples); give None for missing audio.")
    if not (np.abs(waveform) <= LOUDEST).all():  # false of NaN
        raise ValueError(
            "the recording has samples that are not finite (NaN or infinity), or larger than any sound (full scale is "
            "1); repair or remove it."
        )
    return waveform


def _read_any(audio, rate: int, array_rate: int) -> np.ndarray:
    """Any form of recording → float32 (samples,) at `rate`. Arrays that do not say otherwise are at `array_rate`."""
    if isinstance(audio, dict):
        if audio.get("array") is not None:
            return _read_array(audio["array"], rate, audio.get("sampling_rate") or array_rate)
        source = audio.get("path") if audio.get("bytes") is None else audio["bytes"]
        if source is None:
            raise ValueError(f"the dict has the keys {sorted(audio)}; give {AUDIO_FORMS}.")
        return _read_any(source, rate, array_rate)
    if isinstance(audio, bytes):
        return _decode(base64.b64encode(audio).decode("ascii"), rate)
    if isinstance(audio, (str, os.PathLike)):
        return _decode(_check_source(os.fspath(audio)), rate)
    if _is_list(audio) and audio and _is_audio_list(audio):
        raise ValueError("it is a list of recordings, where one is expected.")
    if isinstance(audio, (np.ndarray, torch.Tensor)) or _is_list(audio):
        return _read_array(audio, rate, array_rate)
    if hasattr(audio, "get_all_samples"):  # a decoder, which is what `datasets` gives where torchcodec is installed
        samples = audio.get_all_samples()
        return _read_array(samples.data, rate, samples.sample_rate)
    raise ValueError(f"audio cannot be a {type(audio).__name__}; give {AUDIO_FORMS}.")


def _check_source(source: str) -> str:
    """A URL, data URI, existing file or base64 of known audio; anything else is a path that does not exist."""
    if source.startswith(("http://", "https://", "data:")) or os.path.isfile(source) or _is_base64_audio(source):
        return source
    raise ValueError("there is no such file; check the path (relative ones start at the working directory).")


def _is_base64_audio(source: str) -> bool:
    try:
        get_audio_filetype(base64.b64decode(source[:256], validate=True))
    except (ValueError, binascii.Error):
        return False
    return True


def _decode(source: str, rate: int) -> np.ndarray:
    """A path, URL or base64 string → float32 (samples,) at `rate`, channels averaged.

    soundfile goes first, so that a file reads the same on every machine. What it cannot read (mp4, m4a, webm) is for
    torchcodec or, but for URLs, the program ffmpeg, where one of them is installed.
    """
    try:
        try:
            return load_audio(source, sampling_rate=rate, backend="soundfile")
        except (ImportError, RuntimeError):
            return load_audio(source, sampling_rate=rate)
    except ImportError:
        raise
    except Exception as error:  # whatever the decoders and the network may raise
        if (samples := _decode_by_ffmpeg(source, rate)) is not None:
            return samples
        raise ValueError(f"cannot be decoded ({error}); convert it to WAV or FLAC, or leave it out.") from error


def _decode_by_ffmpeg(source: str, rate: int) -> np.ndarray | None:
    """A path or base64 string of a kind that soundfile does not know → float32 (samples,) at `rate`, channels averaged;
    None where ffmpeg is not installed, or hears nothing in it."""
    if shutil.which("ffmpeg") is None or source.startswith(("http://", "https://")):
        return None
    from transformers.pipelines.audio_utils import ffmpeg_read  # imports every pipeline

    content = Path(source).read_bytes() if os.path.isfile(source) else base64.b64decode(source.rpartition(",")[2])
    try:
        return ffmpeg_read(content, rate) if get_audio_filetype(content) in TORCHCODEC_ONLY_FILETYPES else None
    except ValueError:
        return None


def _read_array(audio, rate: int, array_rate: int) -> np.ndarray:
    """An array, tensor or list of numbers at `array_rate` → float32 (samples,) at `rate`, channels averaged."""
    if isinstance(audio, torch.Tensor):
        audio = audio.detach().cpu()
        audio = audio.float().numpy() if audio.is_floating_point() else audio.numpy()
    samples = _scale(np.asarray(audio))
    if samples.ndim not in (1, 2):
        raise ValueError(f"the array has the shape {samples.shape}; give (samples,) or (channels, samples).")
    if samples.size == 0:
        return samples
    if samples.ndim == 2:
        samples = samples.mean(axis=0 if samples.shape[0] <= samples.shape[1] else 1)
    return _resample(samples, array_rate, rate)


def _scale(samples: np.ndarray) -> np.ndarray:
    """Samples → float32; integer PCM is scaled to [-1, 1] by its width, unsigned bytes as in WAV (128 = 0)."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype in (np.int8, np.int16, np.int32):
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    if samples.dtype.kind in "iu" and (samples.size == 0 or np.abs(samples).max() <= 1):
        return samples.astype(np.float32)
    raise ValueError(f"samples of type {samples.dtype} have no known scale; give floats in [-1, 1], int16 or int32.")


def _resample(samples: np.ndarray, orig_rate: int, rate: int) -> np.ndarray:
    """float32 (samples,) at `orig_rate` → at `rate`; the same steps as `load_audio` takes for files."""
    if not orig_rate > 0:
        raise ValueError(f"a sampling rate of {orig_rate} is not possible; give it in Hz.")
    if orig_rate == rate:
        return samples
    try:
        import soxr
    except ImportError as error:
        raise ImportError(
            f"Resampling from {orig_rate} to {rate} Hz needs soxr: `pip install soxr`, or give audio at {rate} Hz."
        ) from error
    length = math.ceil(len(samples) * rate / orig_rate)
    samples = soxr.resample(samples, orig_rate, rate, quality="soxr_hq")
    return np.pad(samples, (0, max(0, length - len(samples))))[:length]


def _source_name(audio) -> str:
    """` ('path')` where the recording came from a file, shortened if it is a long base64 string."""
    path = audio.get("path") if isinstance(audio, dict) else audio
    if not isinstance(path, (str, os.PathLike)):
        return ""
    path = os.fspath(path)
    return f" ({path!r})" if len(path) <= 300 else f" ({path[:60]!r}…)"


MMERProcessor.register_for_auto_class()

__all__ = ["MMERProcessor"]
