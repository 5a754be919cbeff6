"""A recording of any length → windows that an encoder can take, in bounded memory.

Windows start every `chunk − 2 · stride` samples and overlap by the stride on each side. Each answers for a span of its
own, its middle; the spans follow each other without a gap from the first sample to the last. The last window ends with
the recording and is as long as the others, so that none is a sliver. Files are read and resampled as a stream.

This file travels with checkpoints: it imports only numpy and others that do, and soundfile and soxr where a long file
is to be read.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from .levels import Levels
from .waveforms import check_span, rate_fault, span_of, span_samples

BLOCK_SECONDS = 10  # of a file, read at once


@dataclass
class Window:
    """samples (n,), mono, float32; `start` and `stop`: the samples of the recording that it answers for."""

    samples: np.ndarray
    start: int
    stop: int


def cut_windows(blocks: Iterable[np.ndarray], chunk: int, stride: int) -> Iterator[Window]:
    """Samples in blocks of any size → windows of `chunk` samples; a recording that fits one window gives one.

    Holds no more than two windows and a block at once.
    """
    blocks = iter(blocks)
    held, offset, ended = np.zeros(0, np.float32), 0, False  # `held` starts at sample `offset`
    begin, answered = 0, 0
    while True:
        while not ended and offset + len(held) <= begin + chunk:  # one sample more says that this is not the last
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
    """Samples that are in memory anyway, in blocks: cutting them then copies no more than a block at a time."""
    return (samples[start : start + length] for start in range(0, max(1, len(samples)), length))


def long_file(audio, seconds: float) -> bool:
    """Whether a recording, or the span of it that is asked for, is of a file (path, bytes, `{"path"}`, `{"bytes"}`)
    that soundfile reads, and longer than that."""
    with _open(audio) as file:
        if file is None:
            return False
        first, last = _bounds(audio, file)
        return last - first > seconds * file.samplerate


def stream_file(
    audio, rate: int, channel: int | None, tell: Callable[[str], None] | None = None
) -> Iterator[np.ndarray]:
    """A file, or a span of it, block by block, as float32 samples at `rate`; one channel of it, or with None their
    mean.

    Args:
        tell: called at the end with a sentence on each thing that is odd about its sound.

    Raises:
        ValueError: the span lies beyond the file.
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
    for sentence in levels.oddities() if tell else ():
        tell(sentence)


def _bounds(audio, file) -> tuple[int, int]:
    """The first sample of the span that is asked for, and the one behind its last."""
    start, end = span_of(audio)
    if start or end is not None:
        check_span(file.frames, file.samplerate, start, end)
    first, last = span_samples(start, end, file.samplerate)
    return first, file.frames if last is None else min(last, file.frames)


def _blocks(audio, file) -> Iterator[np.ndarray]:
    """The samples of a file, or of the span that is asked for, (n, channels) at a time."""
    first, last = _bounds(audio, file)
    size, place = BLOCK_SECONDS * file.samplerate, 0
    if first and file.seekable():
        place = file.seek(first)
    # By numbers of samples: kinds that cannot be entered in the middle, such as GSM 6.10, are read in no other way.
    while len(samples := file.read(min(size, last - place), dtype="float32", always_2d=True)):
        if place + len(samples) > first:
            yield samples[max(0, first - place) :]
        place += len(samples)


def read_channels(audio, sampling_rate: int | None) -> list:
    """The channels of a recording, each as `{"array", "sampling_rate"}` or, for a file, its number.

    Raises:
        ValueError: it has one channel, or its channels cannot be told apart.
    """
    with _open(audio) as file:
        if file is not None:
            return list(range(_require_two(file.channels)))
    span = {name: audio[name] for name in ("start", "end") if isinstance(audio, dict) and name in audio}
    if isinstance(audio, dict) and audio.get("array") is not None:
        audio, sampling_rate = audio["array"], audio.get("sampling_rate") or sampling_rate
    if isinstance(audio, (str, bytes, dict, os.PathLike)):
        raise ValueError('channels="split" needs a file that is there and that soundfile reads (such as WAV or FLAC).')
    samples = np.asarray(audio)
    if samples.ndim == 2:
        samples = samples if samples.shape[0] <= samples.shape[1] else samples.T
    count = samples.shape[0] if samples.ndim == 2 else 1
    return [{"array": samples[c], "sampling_rate": sampling_rate, **span} for c in range(_require_two(count))]


def _require_two(count: int) -> int:
    if count < 2:
        raise ValueError('channels="split" needs a channel for each speaker, and this recording has one channel.')
    return count


def _open(audio):
    """A soundfile of a path or bytes; nothing where it is neither, or in a format that soundfile does not read."""
    if isinstance(audio, dict) and audio.get("array") is None:
        audio = audio.get("path") if audio.get("bytes") is None else audio["bytes"]
    if isinstance(audio, bytes):
        audio = io.BytesIO(audio)
    elif not (isinstance(audio, (str, os.PathLike)) and os.path.isfile(audio)):
        return nullcontext()
    try:
        import soundfile

        file = soundfile.SoundFile(audio)
    except (ImportError, RuntimeError, TypeError):  # soundfile's own error is a RuntimeError; TypeError of `.raw`
        return nullcontext()
    if fault := rate_fault(file.samplerate):
        file.close()
        raise ValueError(f"{fault}; convert it again from its source, or leave it out.")
    return file
