"""The level of a recording, and whether averaging its channels cancels them."""

import numpy as np

# Full scale is 1, or 2³¹ for integers stored as floats. Larger values are damaged, and overflow in a spectrum.
LOUDEST = 2.0**31
LOUD = 8.0  # 18 dB above full scale, which only integers stored as floats reach
OPPOSITE = 0.01  # channels are inverse to each other if averaging leaves less than this fraction of their energy
TOO_LOUD = (
    "its samples reach {:.4g}, far above full scale (1), as integers stored as floats do: divide int16 by 32768, or "
    "pass integers"
)
CANCELLED = (
    "its channels are inverse to each other and cancel when they are averaged: invert one of them, or process them "
    'separately (channels="split" in the pipeline)'
)


class Levels:
    """The levels of a recording, updated as it is read."""

    def __init__(self):
        self.peak, self.is_finite = 0.0, True
        self._of_channels = self._of_average = 0.0  # energy of a channel, and of the average of the channels

    def take(self, samples: np.ndarray) -> None:
        """Add samples (n,) or (channels, n)."""
        peak = np.abs(samples).max(initial=0)
        self.is_finite &= bool(peak <= LOUDEST)  # False for NaN
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
        """Whether averaging cancels the channels."""
        return self.is_finite and self._of_average < OPPOSITE * self._of_channels

    def problems(self) -> list[str]:
        """A message for each problem of the sound."""
        found = [TOO_LOUD.format(self.peak)] if self.is_too_loud else []
        return [*found, CANCELLED] if self.is_cancelled else found

    def require_finite(self) -> None:
        if not self.is_finite:
            raise ValueError(
                "the recording has samples that are not finite (NaN or infinity) or far too large (full scale is 1); "
                "repair or remove it."
            )
