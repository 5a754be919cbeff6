"""A recording of any length → windows for an encoder, in bounded memory.

Windows start every `chunk − 2 · stride` samples and overlap by the stride on each side. The result of a window is used
for its middle; these spans cover the recording without gaps. The last window ends with the recording and has the same
length as the others. Files are read and resampled as a stream.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from .levels import Levels
from .waveforms import check_span, rate_fault, span_of, span_samples

BLOCK_SECONDS = 10  # length of the blocks in which files are read


@dataclass
class Window:
    """samples: (n,), mono, float32. start, stop: the span that the window covers, in samples of the recording."""

    samples: np.ndarray
    start: int
    stop: int


def cut_windows(blocks: Iterable[np.ndarray], chunk: int, stride: int) -> Iterator[Window]:
    """Samples in blocks of any size → windows of `chunk` samples. A recording up to that length is one window.

    At most two windows and a block are in memory.
    """
    blocks = iter(blocks)
    held, offset, ended = np.zeros(0, np.float32), 0, False  # the buffer `held` starts at sample `offset`
    begin, answered = 0, 0
    while True:
        while not ended and offset + len(held) <= begin + chunk:  # one more sample: it is not the last
            block = next(blocks, None)
            ended = block is None
            held = held if ended else np.concatenate([held, block])
        total = offset + len(held)
        if ended and total <= begin + chunk:
            first = max(0, total - chunk)
            yield Window(held[first - offset :], answered, total)
            return
        stop = begin + chunk - stride
        yield Window(held[begin - offset : begin - offset + chunk], answered, stop)
        held, offset = held[begin - offset :].copy(), begin  # the last window may start before the next one
        begin, answered = begin + chunk - 2 * stride, stop


def in_blocks(samples: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Split an array into blocks, so that `cut_windows` copies at most a block at a time."""
    return (samples[start : start + length] for start in range(0, max(1, len(samples)), length))


def long_file(audio, seconds: float) -> bool:
    """Whether a recording (or its selected span) is a file (path, bytes, `{"path"}`, `{"bytes"}`) that soundfile can
    read, and longer than `seconds`."""
    with _open(audio) as file:
        if file is None:
            return False
        first, last = _bounds(audio, file)
        return last - first > seconds * file.samplerate


def stream_file(
    audio, rate: int, channel: int | None, warn: Callable[[str], None] | None = None
) -> Iterator[np.ndarray]:
    """Read a file, or its selected span, in blocks of float32 samples at `rate`.

    Args:
        channel: the channel to read; None averages all channels.
        warn: called at the end with a message for each problem of the sound.

    Raises:
        ValueError: the span exceeds the file.
    """
    import soxr

    levels = Levels()
    with _open(audio) as file:
        resampler = None
        if file.samplerate != rate:
            resampler = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="soxr_hq")
        block = np.zeros(0, np.float32)
        for samples in _blocks(audio, file):
            levels.take(samples.T if channel is None else samples[:, channel])
            block = samples.mean(axis=1) if channel is None else np.ascontiguousarray(samples[:, channel])
            yield block if resampler is None else resampler.resample_chunk(block)
        if resampler is not None:
            yield resampler.resample_chunk(block[:0], last=True)
    for message in levels.problems() if warn else ():
        warn(message)


def _bounds(audio, file) -> tuple[int, int]:
    """The first sample of the selected span, and the one after its last."""
    start, end = span_of(audio)
    if start or end is not None:
        check_span(file.frames, file.samplerate, start, end)
    first, last = span_samples(start, end, file.samplerate)
    return first, file.frames if last is None else min(last, file.frames)


def _blocks(audio, file) -> Iterator[np.ndarray]:
    """The samples of a file or its selected span, in blocks (n, channels)."""
    first, last = _bounds(audio, file)
    size, place = BLOCK_SECONDS * file.samplerate, 0
    if first and file.seekable():
        place = file.seek(first)
    # Read a number of samples each time: formats that cannot seek, such as GSM 6.10, require it.
    while len(samples := file.read(min(size, last - place), dtype="float32", always_2d=True)):
        if place + len(samples) > first:
            yield samples[max(0, first - place) :]
        place += len(samples)


def read_channels(audio, sampling_rate: int | None, fewest: int = 2) -> list:
    """The channels of a recording: for a file their numbers, otherwise one `{"array", "sampling_rate"}` each.

    Raises:
        ValueError: the recording has fewer channels than `fewest`, or its channels cannot be read.
    """
    with _open(audio) as file:
        if file is not None:
            return list(range(_require(fewest, file.channels)))
    span = {name: audio[name] for name in ("start", "end") if isinstance(audio, dict) and name in audio}
    if isinstance(audio, dict) and audio.get("array") is not None:
        audio, sampling_rate = audio["array"], audio.get("sampling_rate") or sampling_rate
    if isinstance(audio, (str, bytes, dict, os.PathLike)):
        raise ValueError("single channels need an existing file that soundfile can read (such as WAV or FLAC).")
    samples = np.asarray(audio)
    if samples.ndim == 2:
        samples = samples if samples.shape[0] <= samples.shape[1] else samples.T
    channels = samples if samples.ndim == 2 else samples[None]
    _require(fewest, len(channels))
    return [{"array": channel, "sampling_rate": sampling_rate, **span} for channel in channels]


def _require(fewest: int, count: int) -> int:
    if count < fewest:
        raise ValueError('channels="split" needs one channel per speaker, but this recording has only one channel.')
    return count


def _open(audio):
    """Open a path or bytes with soundfile; a context of None for other inputs and formats it cannot read."""
    if isinstance(audio, dict) and audio.get("array") is None:
        audio = audio.get("path") if audio.get("bytes") is None else audio["bytes"]
    if isinstance(audio, bytes):
        audio = io.BytesIO(audio)
    elif not (isinstance(audio, (str, os.PathLike)) and os.path.isfile(audio)):
        return nullcontext()
    try:
        import soundfile

        file = soundfile.SoundFile(audio)
    except (ImportError, RuntimeError, TypeError):  # soundfile raises RuntimeError, and TypeError for `.raw`
        return nullcontext()
    if fault := rate_fault(file.samplerate):
        file.close()
        raise ValueError(f"{fault}; convert the file again from its source, or leave it out.")
    return file
