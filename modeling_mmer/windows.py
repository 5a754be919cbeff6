"""A recording of any length → windows that an encoder can take, in bounded memory.

Windows start every `chunk − 2 · stride` samples and overlap by the stride on each side. Each answers for a span of its
own, its middle; the spans follow each other without a gap from the first sample to the last. The last window ends with
the recording and is as long as the others, so that none is a sliver. Files are read and resampled as a stream.

This file travels with checkpoints: it imports only numpy, and soundfile and soxr where a long file is to be read.
"""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

BLOCK_SECONDS = 10  # of a file, read at once
# Hz. Outside of these a header is damaged: from too low a rate a few seconds would be resampled to fill the memory, and
# of too high a one nothing would be left.
LOWEST_RATE, HIGHEST_RATE = 100, 768_000


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


def rate_fault(rate: int) -> str | None:
    """What is wrong with the rate that a file's header gives; None if nothing is."""
    if LOWEST_RATE <= rate <= HIGHEST_RATE:
        return None
    return f"its header says {rate:,} samples a second (possible are {LOWEST_RATE:,} to {HIGHEST_RATE:,})"


def check_header(audio) -> None:
    """Refuses a file (path or bytes) whose header is damaged; what soundfile does not read passes.

    Raises:
        ValueError: the rate is not possible.
    """
    with _open(audio):
        pass


def in_blocks(samples: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Samples that are in memory anyway, in blocks: cutting them then copies no more than a block at a time."""
    return (samples[start : start + length] for start in range(0, max(1, len(samples)), length))


def long_file(audio, seconds: float) -> bool:
    """Whether a recording is a file (path, bytes, `{"path"}`, `{"bytes"}`) that soundfile reads, longer than that."""
    with _open(audio) as file:
        return file is not None and file.frames > seconds * file.samplerate


def stream_file(audio, rate: int, channel: int | None) -> Iterator[np.ndarray]:
    """A file, block by block, as float32 samples at `rate`; one channel of it, or with None their mean."""
    import soxr

    with _open(audio) as file:
        resampler = None
        if file.samplerate != rate:
            resampler = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="soxr_hq")
        block = np.zeros(0, np.float32)
        for samples in file.blocks(BLOCK_SECONDS * file.samplerate, dtype="float32", always_2d=True):
            block = samples.mean(axis=1) if channel is None else np.ascontiguousarray(samples[:, channel])
            yield block if resampler is None else resampler.resample_chunk(block)
        if resampler is not None:
            yield resampler.resample_chunk(block[:0], last=True)


def read_channels(audio, sampling_rate: int | None) -> list:
    """The channels of a recording, each as `{"array", "sampling_rate"}` or, for a file, its number.

    Raises:
        ValueError: it has one channel, or its channels cannot be told apart.
    """
    with _open(audio) as file:
        if file is not None:
            return list(range(_require_two(file.channels)))
    if isinstance(audio, dict) and audio.get("array") is not None:
        audio, sampling_rate = audio["array"], audio.get("sampling_rate") or sampling_rate
    if isinstance(audio, (str, bytes, dict, os.PathLike)):
        raise ValueError('channels="split" needs a file that is there and that soundfile reads (such as WAV or FLAC).')
    samples = np.asarray(audio)
    if samples.ndim == 2:
        samples = samples if samples.shape[0] <= samples.shape[1] else samples.T
    count = samples.shape[0] if samples.ndim == 2 else 1
    return [{"array": samples[c], "sampling_rate": sampling_rate} for c in range(_require_two(count))]


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
