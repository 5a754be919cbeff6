"""The sound of a recording: whether its channels are speakers, the parts between its pauses, and its waveform."""

from collections.abc import Iterator

import numpy as np
import soundfile

ALIKE = 0.9  # correlation: channels above it are one microphone's stereo, below it two speakers
BLOCK = 2**18  # samples that are in memory at once
POINTS, POINTS_PER_SECOND = 600, 5  # of a waveform: at least, and of a long recording

FRAME = 0.05  # seconds
QUIETEST = -60.0  # dB of full scale: nothing below it is heard
DYNAMICS = 35.0  # dB below the loud frames: quieter ones are pauses
STEADY = 6.0  # dB between loud and quiet frames; a recording with less has no pauses
PAUSE = 0.4  # seconds of a pause that ends a part
SHORTEST = 0.3  # seconds of a part; shorter sounds are clicks
EDGE = 0.1  # seconds before and after a part that belong to it
LONGEST, MOST = 8.0, 150  # seconds of a part; in recordings of more than so many such parts they are longer


def has_a_speaker_per_channel(path: str) -> bool:
    """Whether a recording has two channels that sound unlike each other, as calls have."""
    with soundfile.SoundFile(path) as file:
        if file.channels != 2:
            return False
        products = np.zeros((2, 2))
        for block in file.blocks(BLOCK, dtype="float32", always_2d=True):
            products += block.T.astype(np.float64) @ block
    powers = np.diag(products)
    return bool(powers.min() > 1e-6 * powers.max() and abs(products[0, 1]) < ALIKE * np.sqrt(powers.prod()))


def peaks_of(path: str) -> np.ndarray:
    """The loudest sample of each of many parts of a recording, (channels, points); full scale is 1."""
    with soundfile.SoundFile(path) as file:
        points = max(POINTS, POINTS_PER_SECOND * file.frames // file.samplerate)
        size = max(1, -(-file.frames // points))
        peaks = [np.abs(part).max(axis=0) for part in file.blocks(size, dtype="float32", always_2d=True) if len(part)]
    return np.array(peaks).T


def levels_of(path: str) -> np.ndarray:
    """The level of each frame, (channels, F), in dB of full scale."""
    with soundfile.SoundFile(path) as file:
        size = round(FRAME * file.samplerate)
        blocks = file.blocks(size * 1000, dtype="float32", always_2d=True)
        powers = [
            np.mean(np.square(block[: len(block) // size * size]).reshape(-1, size, file.channels), axis=1)
            for block in blocks
        ]
    return 10 * np.log10(np.concatenate(powers).T + 1e-12)


def parts_of(levels: np.ndarray) -> list[tuple[float, float]]:
    """The parts of a recording between its pauses, (start, end) in seconds, by the level of its frames (F,).

    Neighbours are joined, and what has no pauses is cut, to parts of at most `LONGEST` seconds.
    """
    total = len(levels) * FRAME
    longest = max(LONGEST, total / MOST)
    parts: list[tuple[float, float]] = []
    for start, end in _sounding(levels):
        if parts and start - parts[-1][1] < PAUSE:
            parts[-1] = (parts[-1][0], end)
        else:
            parts.append((start, end))
    parts = [(start, end) for start, end in parts if end - start >= SHORTEST]
    joined: list[tuple[float, float]] = []
    for start, end in parts:
        if joined and start - joined[-1][1] < 2 * PAUSE and end - joined[-1][0] <= longest:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    edges = [(max(0.0, start - EDGE), min(total, end + EDGE)) for start, end in joined]
    return [piece for start, end in edges for piece in _cut(start, end, longest)]


def _sounding(levels: np.ndarray) -> Iterator[tuple[float, float]]:
    """Stretches of frames that are no pause, in seconds."""
    quiet, loud = np.percentile(levels, (10, 95)) if len(levels) else (0, -np.inf)
    if loud < QUIETEST:
        return
    threshold = max(QUIETEST, loud - DYNAMICS, quiet + 0.3 * (loud - quiet)) if loud - quiet > STEADY else QUIETEST
    changes = np.diff(np.concatenate([[0], levels > threshold, [0]]).astype(int))
    for first, stop in zip(np.flatnonzero(changes == 1), np.flatnonzero(changes == -1), strict=True):
        yield first * FRAME, stop * FRAME


def _cut(start: float, end: float, longest: float) -> Iterator[tuple[float, float]]:
    times = np.linspace(start, end, int(np.ceil((end - start) / longest)) + 1)
    yield from zip(times[:-1].tolist(), times[1:].tolist(), strict=True)
