"""What `handler.py` answers with the graphs of this folder: what the pipeline of transformers would, without torch."""

import io
import math
from typing import Any

import numpy as np
import soundfile
import soxr
from onnx_inference import RATE, WINDOW, judge

KEYS = ("audio", "text", "sampling_rate", "start", "end", "channel")
TOLERANCE = 0.1  # seconds by which a span may exceed its recording, because times are rounded
LOUDEST = 2.0**31  # full scale is 1, or this for integers stored as floats


def answer(
    given: dict[str, Any],
    top_k: int | None = None,
    return_timestamps: bool = False,
    chunk_length_s: float | None = None,
    stride_length_s: float | None = None,
    channels: str = "mix",
) -> dict[str, Any]:
    """One input → its result. Arguments and result are those of the pipeline.

    Args:
        given: `audio` (the bytes of a file, or samples as numbers with their `sampling_rate`), `text` or both; `start`
            and `end` select a span in seconds, `channel` one channel, counted from 0.

    Raises:
        ValueError: the input cannot be judged, or an argument is invalid.
    """
    if unknown := [key for key in given if key not in KEYS]:
        raise ValueError(f"it has {', '.join(map(repr, unknown))}, which no input has: give {', '.join(KEYS)}.")
    if top_k is not None and not (isinstance(top_k, int) and top_k >= 1):
        raise ValueError(f"top_k must be a whole number of at least 1, not {top_k}.")
    if channels not in ("mix", "split"):
        raise ValueError(f'channels must be "mix" or "split", not {channels!r}.')
    length, stride = window_and_stride(chunk_length_s, stride_length_s or 0)
    audio, text = given.get("audio"), given.get("text")
    if audio is None:
        if (text := checked_text(text)) is None:
            raise ValueError("it has neither audio nor text; give at least one.")
        return of_one(None, text, length, stride, top_k, return_timestamps)
    samples = read(audio, given.get("sampling_rate"), given.get("start"), given.get("end"))
    if channels == "split":
        speakers = zip(samples, texts_of(text, len(samples)), strict=True)
        split = [of_one(one, spoken, length, stride, top_k, return_timestamps) for one, spoken in speakers]
        return {"channels": split}
    mono = one_channel(samples, given.get("channel"))
    return of_one(mono, checked_text(text), length, stride, top_k, return_timestamps)


def of_one(
    samples: np.ndarray | None, text: str | None, length: int, stride: int, top_k: int | None, over_time: bool
) -> dict[str, Any]:
    """The result of a recording (n,) at the rate of the model, a text or both; `over_time` adds `chunks`."""
    windows = None if samples is None else cut(len(samples), length, stride)
    result = shortened(judge(samples, text, windows and [(first, last, n) for first, last, _, n in windows]), top_k)
    if over_time:
        result["chunks"] = [
            {"timestamp": (start / RATE, (start + n) / RATE)} | shortened(judge(samples[first:last]), top_k)
            for first, last, start, n in windows or []
        ]
    return result


def shortened(result: dict[str, Any], top_k: int | None) -> dict[str, Any]:
    for task in (task for task in result.values() if isinstance(task, dict)):
        task["scores"] = dict(list(task["scores"].items())[:top_k])
    return result


def cut(total: int, length: int, stride: int) -> list[tuple[int, int, int, int]]:
    """Windows of a recording: the first sample and the one after the last that are heard, then the first that the
    result is used for, and for how many. The last window is as long as the others."""
    windows, first, start = [], 0, 0
    while first + length < total:
        windows.append((first, first + length, start, first + length - stride - start))
        first, start = first + length - 2 * stride, first + length - stride
    return [*windows, (max(0, total - length), total, start, total - start)]


def window_and_stride(chunk_length_s: float | None, stride_length_s: float) -> tuple[int, int]:
    """The length of a window and its stride, in samples."""
    seconds = WINDOW / RATE if chunk_length_s is None else chunk_length_s
    for value in (seconds, stride_length_s):
        if not is_time(value):
            raise ValueError(f"chunk_length_s and stride_length_s must be numbers of seconds, not {value!r}.")
    length, stride = round(seconds * RATE), round(stride_length_s * RATE)
    if length > WINDOW:
        raise ValueError(f"chunk_length_s is {seconds:g}, but the audio encoder takes at most {WINDOW / RATE:g} s.")
    if length < 1 or 2 * stride >= length:
        raise ValueError(f"chunk_length_s ({seconds:g}) must be greater than twice stride_length_s and than 0.")
    return length, stride


def checked_text(text: Any) -> str | None:
    if text is not None and not isinstance(text, str):
        raise ValueError(f"text cannot be a {type(text).__name__}: give a string. Times of words are not taken.")
    return text if text and text.strip() else None


def texts_of(texts: Any, count: int) -> list[str | None]:
    """The text of each channel."""
    if count < 2:
        raise ValueError('channels="split" needs one channel per speaker, but this recording has only one channel.')
    if texts is not None and (not isinstance(texts, list) or len(texts) != count):
        raise ValueError(f'channels="split" needs a list of {count} texts, one per channel, or no text.')
    return [None] * count if texts is None else [checked_text(text) for text in texts]


def one_channel(samples: np.ndarray, channel: Any) -> np.ndarray:
    """One channel of samples (channels, n), or the mean of all."""
    if channel is None:
        return samples.mean(axis=0)
    if not isinstance(channel, int) or not 0 <= channel < len(samples):
        raise ValueError(f"there is no channel {channel}: the recording has {len(samples)}, counted from 0.")
    return samples[channel]


def read(audio: Any, rate: Any, start: Any, end: Any) -> np.ndarray:
    """The span of a recording → float32 samples (channels, n) at the rate of the model."""
    if isinstance(audio, bytes):
        try:
            samples, rate = soundfile.read(io.BytesIO(audio), dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, TypeError) as error:
            raise ValueError(f"cannot be decoded ({error}); convert it to WAV or FLAC, or leave it out.") from error
    else:
        samples, rate = np.array(audio)[:, None], RATE if rate is None else rate
        if samples.dtype.kind != "f" and np.abs(samples).max(initial=0) > 1:
            raise ValueError("the scale of integer samples is not known; give floats in [-1, 1].")
        samples = samples.astype(np.float32)
    if not is_time(rate) or not 100 <= rate <= 768_000:
        raise ValueError(f"a sampling rate of {rate} is not possible; give it in Hz.")
    samples = samples[span(len(samples), rate, start, end)]
    if len(samples) == 0:
        raise ValueError("the recording is empty (0 samples).")
    if not np.abs(samples).max() <= LOUDEST:
        raise ValueError("the recording has samples that are not finite, or far too large (full scale is 1).")
    return np.stack([resampled(channel, rate) for channel in samples.T])


def span(total: int, rate: float, start: Any, end: Any) -> slice:
    """The samples from `start` to `end`, in seconds."""
    for time in (start, end):
        if time is not None and not is_time(time):
            raise ValueError(f"start and end of a span must be seconds from the start of the recording, not {time!r}.")
    begin = start or 0
    if end is not None and end <= begin:
        raise ValueError(f"the span from {begin:g} to {end:g} s is empty; start must be before end, in seconds.")
    if begin and begin * rate >= total or end is not None and end > total / rate + TOLERANCE:
        raise ValueError(f"the span exceeds the recording, which is {total / rate:g} s long.")
    return slice(round(begin * rate), None if end is None else round(end * rate))


def resampled(samples: np.ndarray, rate: float) -> np.ndarray:
    samples = np.ascontiguousarray(samples)
    if rate == RATE:
        return samples
    length = math.ceil(len(samples) * RATE / rate)
    samples = soxr.resample(samples, rate, RATE, quality="soxr_hq")
    return np.pad(samples, (0, max(0, length - len(samples))))[:length]


def is_time(value: Any) -> bool:
    """Whether this is a finite number that is not negative."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
