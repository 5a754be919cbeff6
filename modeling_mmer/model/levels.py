"""How loud a recording is, and what of it is left once its channels are averaged.

This file travels with checkpoints: it imports only numpy.
"""

import numpy as np

LOUDEST = (
    2.0**31
)  # full scale is 1, of integers kept as floats 2³¹; what is beyond is damage, and overflows in a spectrum
LOUD = 8.0  # 18 dB beyond full scale: no sound that was made in floats gets there, and integers kept as floats do
OPPOSITE = 0.01  # share of the channels' energy; where averaging leaves less of it, they are each other's inverse
TOO_LOUD = (
    "its samples reach {:.4g}, far beyond full scale (1), as integers kept as floats do: divide int16 by 32768, or "
    "give the integers"
)
CANCELLED = (
    "its channels are each other's inverse, so that next to nothing is left of them once averaged: invert one of them, "
    'or hear them one by one (the pipeline\'s channels="split")'
)


class Levels:
    """The levels of a recording, gathered from it as it is read."""

    def __init__(self):
        self.peak, self.is_finite = 0.0, True
        self._of_channels = self._of_average = 0.0  # energies: of a channel, and of the channels' average

    def take(self, samples: np.ndarray) -> None:
        """Samples (n,) or (channels, n)."""
        peak = np.abs(samples).max(initial=0)
        self.is_finite &= bool(peak <= LOUDEST)  # false of NaN
        self.peak = max(self.peak, float(peak))
        if samples.ndim == 2 and len(samples) > 1 and self.is_finite:
            samples = samples.astype(np.float64)
            self._of_channels += float((samples**2).sum() / len(samples))
            self._of_average += float((samples.mean(axis=0) ** 2).sum())

    @property
    def is_too_loud(self) -> bool:
        return self.is_finite and self.peak > LOUD

    @property
    def is_cancelled(self) -> bool:
        """Whether averaging leaves next to nothing of the channels."""
        return self.is_finite and self._of_average < OPPOSITE * self._of_channels

    def oddities(self) -> list[str]:
        """What is odd about the sound, as sentences."""
        said = [TOO_LOUD.format(self.peak)] if self.is_too_loud else []
        return [*said, CANCELLED] if self.is_cancelled else said

    def require_finite(self) -> None:
        if not self.is_finite:
            raise ValueError(
                "the recording has samples that are not finite (NaN or infinity), or larger than any sound (full scale "
                "is 1); repair or remove it."
            )
