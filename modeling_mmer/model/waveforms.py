"""Recordings in all common forms → samples: files, bytes, arrays, pairs of samples and rate, and spans of these."""

import base64
import binascii
import io
import math
import numbers
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from transformers.audio_utils import TORCHCODEC_ONLY_FILETYPES, get_audio_filetype, load_audio

from .levels import Levels

# Hz. Other rates in a header are damage. Resampling a few seconds from a very low rate would fill the memory, and from
# a very high rate it would leave nothing.
LOWEST_RATE, HIGHEST_RATE = 100, 768_000
MOST_CHANNELS = 6  # of an array (5.1). An array with more rows is more likely a batch
TOLERANCE = 0.1  # seconds by which a span may exceed its recording, because labels are rounded

AUDIO_FORMS = (
    "a path, a URL, bytes, an open binary file, a base64 string, a numpy array, a list of floats, a torch tensor, "
    '(array, sampling_rate), {"array", "sampling_rate"} or {"bytes", "path"}'
)


def is_missing(value) -> bool:
    """Whether a value is None or a missing value of pandas (NaN, NA, NaT)."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and math.isnan(value)


def is_list(value) -> bool:
    return isinstance(value, (list, tuple))


def is_pair(value) -> bool:
    """Whether this is `(rate, samples)`, as in Gradio, or `(samples, rate)`, as in soundfile and torchaudio."""
    if not is_list(value) or len(value) != 2:
        return False
    return sum(map(_is_rate, value)) == 1 and any(map(_is_samples, value))


def is_one_recording(value) -> bool:
    """Whether a list or tuple is one recording (numbers, or a pair of samples and rate) and not a batch."""
    if is_pair(value):
        return True
    return len(value) > 0 and all(map(is_number, value)) and not all(map(is_missing, value))


def is_list_of_recordings(value) -> bool:
    return is_list(value) and not is_one_recording(value)


def plain(audio):
    """Simplify a recording to None, a path, bytes, an array, a dict, or a decoder of torchcodec.

    Raises:
        ValueError: it is a file that is open in text mode.
    """
    if is_missing(audio):
        return None
    if is_pair(audio):
        samples, rate = audio if _is_samples(audio[0]) else reversed(audio)
        return {"array": samples, "sampling_rate": rate}
    if hasattr(audio, "read"):
        if hasattr(audio, "seek") and getattr(audio, "seekable", lambda: True)():
            audio.seek(0)  # so that it can be read again
        content = audio.read()
        if not isinstance(content, bytes):
            raise ValueError('the file is open in text mode; open it with mode "rb".')
        return content
    return audio


def with_span(audio, start: float | None, end: float | None):
    """Add a span in seconds, if there is one, to a recording."""
    span = {name: time for name, time in (("start", start), ("end", end)) if not is_missing(time)}
    if is_missing(audio) or not span:
        return audio
    audio = plain(audio)
    if not isinstance(audio, dict):
        form = "path" if isinstance(audio, (str, os.PathLike)) else "bytes" if isinstance(audio, bytes) else "array"
        audio = {form: audio}
    return {**audio, **span}


def span_of(audio) -> tuple[float, float | None]:
    """The `start` and `end` of a recording given as a dict, in seconds; an end of None is the end of the recording.

    Raises:
        ValueError: the span is invalid.
    """
    start, end = (audio.get(name) if isinstance(audio, dict) else None for name in ("start", "end"))
    start, end = (None if is_missing(time) else time for time in (start, end))
    for time in (start, end):
        if time is not None and not (is_number(time) and 0 <= time < math.inf):
            raise ValueError(f"start and end of a span must be seconds from the start of the recording, not {time!r}.")
    if end is not None and end <= (start or 0):
        raise ValueError(f"the span from {start or 0:g} to {end:g} s is empty; start must be before end, in seconds.")
    return float(start or 0), None if end is None else float(end)


def span_samples(start: float | None, end: float | None, rate: float) -> tuple[int, int | None]:
    """A span in seconds → its first sample, and the one after its last; None is the end of the recording."""
    return round((start or 0) * rate), None if end is None else round(end * rate)


def is_number(value) -> bool:
    is_scalar = isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim == 0
    return isinstance(value.item() if is_scalar else value, numbers.Real) and not isinstance(value, bool)


def _is_rate(value) -> bool:
    return is_number(value) and value > 0  # False for NaN, which is a missing recording


def _is_samples(value) -> bool:
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return value.ndim > 0
    return is_list(value) and all(map(is_number, value))


def read_recording(audio, rate: int, array_rate: int, warn: Callable[[str], None] | None = None) -> np.ndarray:
    """Any form of recording → float32 (samples,), mono, at `rate`. See [`MMERProcessor.read_audio`].

    Args:
        array_rate: sampling rate of arrays that come without one.
        warn: called with a message for each problem of the sound.

    Raises:
        ValueError: the recording cannot be read, is empty, or has invalid samples.
    """
    audio = plain(audio)
    if is_list(audio) and any(is_list(part) or isinstance(part, (np.ndarray, torch.Tensor)) for part in audio):
        if not is_one_recording(audio):
            raise ValueError('it is a list of recordings, but one is expected; give channels as {"array": …}.')
    start, end = span_of(audio)
    samples, own_rate = _read_any(audio, rate, array_rate, start, end)
    if samples.size == 0:
        raise ValueError("the recording is empty (0 samples); give None for missing audio.")
    levels = Levels()
    levels.take(samples)
    levels.require_finite()
    for message in levels.problems() if warn else ():
        warn(message)
    waveform = samples if samples.ndim == 1 else samples.mean(axis=0) if len(samples) > 1 else samples[0]
    return np.ascontiguousarray(_resample(waveform, own_rate, rate), dtype=np.float32)


def cut_span(samples: np.ndarray, rate: float, start: float, end: float | None) -> np.ndarray:
    """Cut a span from samples (…, n).

    Raises:
        ValueError: the span exceeds the recording.
    """
    first, last = span_samples(start, end, rate)
    check_span(samples.shape[-1], rate, start, end)
    return samples[..., first:last]


def check_span(n: int, rate: float, start: float, end: float | None) -> None:
    """Raise a ValueError if a span exceeds a recording of n samples."""
    if start > 0 and start * rate >= n or end is not None and end > n / rate + TOLERANCE:
        until = "its end" if end is None else f"{end:g} s"
        raise ValueError(f"the span from {start:g} s to {until} exceeds the recording, which is {n / rate:g} s long.")


def _read_any(audio, rate: int, array_rate: int, start: float, end: float | None) -> tuple[np.ndarray, float]:
    """Any form of recording → its span as float32 (samples,) or (channels, samples), and the rate."""
    if isinstance(audio, dict):
        if audio.get("array") is not None:
            return _read_any(audio["array"], rate, audio.get("sampling_rate") or array_rate, start, end)
        source = audio.get("path") if audio.get("bytes") is None else audio["bytes"]
        if source is None or isinstance(source, dict):
            raise ValueError(f"the dict has the keys {sorted(audio)}; give {AUDIO_FORMS}.")
        return _read_any(plain(source), rate, array_rate, start, end)
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return _decode(bytes(audio), rate, start, end)
    if isinstance(audio, (str, os.PathLike)):
        return _decode(_check_source(os.fspath(audio)), rate, start, end)
    holds_no_text = is_list(audio) and not any(isinstance(part, (str, bytes)) for part in audio)
    if isinstance(audio, (np.ndarray, torch.Tensor)) or holds_no_text:
        array_rate = _check_rate(array_rate)
        return cut_span(_read_array(audio), array_rate, start, end), array_rate
    if hasattr(audio, "get_all_samples"):  # a decoder, as returned by `datasets` with torchcodec
        samples = audio.get_all_samples()
        return cut_span(samples.data.float().numpy(), samples.sample_rate, start, end), samples.sample_rate
    raise ValueError(f"audio cannot be a {type(audio).__name__}; give {AUDIO_FORMS}.")


def _check_source(source: str) -> str | bytes:
    """Return a URL or existing path as it is, and a data URI or base64 decoded. Anything else is a missing file."""
    if _is_url(source) or os.path.isfile(source):
        return source
    if source.startswith("data:") or _is_base64_audio(source):
        try:
            return base64.b64decode(source.rpartition(",")[2])
        except binascii.Error as error:
            raise ValueError(f"cannot be decoded: the base64 is incomplete ({error}).") from error
    raise ValueError("the file does not exist; check the path (relative paths start at the working directory).")


def _is_base64_audio(source: str) -> bool:
    try:
        get_audio_filetype(base64.b64decode(source[:256], validate=True))
    except (ValueError, binascii.Error):
        return False
    return True


def _decode(source: str | bytes, rate: int, start: float, end: float | None) -> tuple[np.ndarray, float]:
    """A span of a file, URL or bytes → float32 (channels, samples) and their rate, or (samples,) at `rate`.

    soundfile is tried first, so that a file gives the same samples on every machine. Other formats (mp4, m4a, webm)
    need torchcodec or, except for URLs, the program ffmpeg.
    """
    if not _is_url(source):
        # soundfile raises RuntimeError, and TypeError for `.raw` files, which have no header
        with suppress(ImportError, RuntimeError, TypeError, OSError):
            return read_file(source, start, end)
    return cut_span(_decode_otherwise(source, rate), rate, start, end), rate


def _is_url(source: str | bytes) -> bool:
    return isinstance(source, str) and source.startswith(("http://", "https://"))


def rate_fault(rate: int) -> str | None:
    """What is wrong with the sampling rate in a header; None if it is valid."""
    if LOWEST_RATE <= rate <= HIGHEST_RATE:
        return None
    return f"its header has a sampling rate of {rate:,} Hz (possible are {LOWEST_RATE:,} to {HIGHEST_RATE:,})"


def read_file(source: str | bytes, start: float = 0, end: float | None = None) -> tuple[np.ndarray, float]:
    """Read a span of a file with soundfile → float32 (channels, samples), and their rate. Only the span is decoded, or,
    in formats that cannot seek, the file up to its end.

    Raises:
        ValueError: the span exceeds the file.
    """
    import soundfile

    with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
        if fault := rate_fault(file.samplerate):
            raise ValueError(fault)
        first, last = span_samples(start, end, file.samplerate)
        if first or last is not None:
            check_span(file.frames, file.samplerate, start, end)
        if not file.seekable():  # for example GSM 6.10, which must be read from its beginning, with a number of frames
            samples = file.read(file.frames if last is None else last, dtype="float32", always_2d=True)[first:]
        else:
            file.seek(first)
            samples = file.read(-1 if last is None else last - first, dtype="float32", always_2d=True)
        return samples.T, file.samplerate


def _decode_otherwise(source: str | bytes, rate: int) -> np.ndarray:
    """A URL, or a format that soundfile cannot read → float32 (samples,) at `rate`, channels averaged."""
    source_name = base64.b64encode(source).decode("ascii") if isinstance(source, bytes) else source
    try:
        if _is_url(source):
            with suppress(ImportError, RuntimeError):
                return load_audio(source_name, sampling_rate=rate, backend="soundfile")
        return load_audio(source_name, sampling_rate=rate)
    except ImportError:
        raise
    except Exception as error:  # decoders and the network raise many kinds
        if (samples := _decode_by_ffmpeg(source, rate)) is not None:
            return samples
        raise ValueError(f"cannot be decoded ({error}); convert it to WAV or FLAC, or leave it out.") from error


def _decode_by_ffmpeg(source: str | bytes, rate: int) -> np.ndarray | None:
    """A file or bytes → float32 (samples,) at `rate`, channels averaged; None if ffmpeg is not installed or cannot
    decode it."""
    if shutil.which("ffmpeg") is None or (isinstance(source, str) and not os.path.isfile(source)):
        return None
    from transformers.pipelines.audio_utils import ffmpeg_read  # slow: imports all pipelines

    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        return ffmpeg_read(content, rate) if get_audio_filetype(content) in TORCHCODEC_ONLY_FILETYPES else None
    except ValueError:
        return None


def _read_array(audio) -> np.ndarray:
    """An array, tensor or list of numbers → float32 (samples,) or (channels, samples)."""
    if isinstance(audio, torch.Tensor):
        audio = audio.detach().cpu()
        audio = audio.float().numpy() if audio.is_floating_point() else audio.numpy()
    try:
        samples = _scale(np.asarray(audio))
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        raise ValueError(f"the list contains something other than numbers; give {AUDIO_FORMS}.") from error
    if samples.ndim not in (1, 2):
        raise ValueError(f"the array has the shape {samples.shape}; give (samples,) or (channels, samples).")
    if samples.size == 0:
        return samples.reshape(-1)
    if samples.ndim == 2:
        samples = samples if samples.shape[0] <= samples.shape[1] else samples.T
        if len(samples) > MOST_CHANNELS:
            raise ValueError(
                f"an array of shape {np.shape(audio)} has {len(samples)} channels or, more likely, is a batch: give a "
                f"list of {len(samples)} recordings, or average the channels."
            )
    return samples


def _scale(samples: np.ndarray) -> np.ndarray:
    """Samples → float32. Integer PCM is scaled to [-1, 1] by its width; unsigned bytes as in WAV (128 = 0)."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype in (np.int8, np.int16, np.int32):
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    if samples.dtype.kind in "iu" and (samples.size == 0 or np.abs(samples).max() <= 1):
        return samples.astype(np.float32)
    raise ValueError(f"the scale of {samples.dtype} samples is not known; give floats in [-1, 1], int16 or int32.")


def _check_rate(rate: float) -> float:
    if not (is_number(rate) and LOWEST_RATE <= rate <= HIGHEST_RATE):
        raise ValueError(f"a sampling rate of {rate} is not possible; give it in Hz.")
    return rate.item() if hasattr(rate, "item") else rate


def _resample(samples: np.ndarray, orig_rate: float, rate: int) -> np.ndarray:
    """float32 (samples,) at `orig_rate` → at `rate`, with the same steps as `load_audio` of transformers."""
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
