"""The sound of a recording, as far as the page needs it: its channels, and the peaks that its waveform is drawn from."""

import numpy as np
import soundfile

ALIKE = 0.9  # correlation: channels above it are one microphone's stereo, below it two speakers
BLOCK = 2**18  # samples that are in memory at once
POINTS = 600  # of a waveform


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


def peaks_of(path: str, points: int = POINTS) -> np.ndarray:
    """The loudest sample of each part of a recording, (channels, points) or fewer points; full scale is 1."""
    with soundfile.SoundFile(path) as file:
        size = max(1, -(-file.frames // points))
        peaks = [np.abs(part).max(axis=0) for part in file.blocks(size, dtype="float32", always_2d=True) if len(part)]
    return np.array(peaks).T
