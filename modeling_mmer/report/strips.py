"""Where figures lie on an axis: a dot with its interval, between lines for chance and for the floor."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Axis:
    """An axis that ends near its figures, and not at zero.

    Args:
        low, high: its ends.
        ticks: the values that it names.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def around(cls, values: Iterable[float]) -> "Axis":
        """An axis with some room beside its lowest and highest value, and few enough ticks at round values."""
        values = list(values)
        step = next(step for step in (0.05, 0.1, 0.2, 0.5) if max(values) - min(values) <= 4 * step or step == 0.5)
        low, high = min(values) - step / 8, max(values) + step / 8
        ticks = range(math.ceil(low / step), math.floor(high / step) + 1)
        return cls(low, high, tuple(step * tick for tick in ticks))

    def at(self, value: float) -> float:
        """Where a value lies, in percent of the axis."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


@dataclass(frozen=True)
class Strip:
    """A figure with its interval, in the units of its axis.

    Args:
        value: the figure.
        interval: its bounds; None if there are none.
        lines: what it is compared with: `floor`, `chance` or `zero` → where that is.
    """

    value: float
    interval: tuple[float, float] | None = None
    lines: Mapping[str, float] = field(default_factory=dict)

    def values(self) -> list[float]:
        """All that its axis must have room for."""
        return [self.value, *(self.interval or ()), *self.lines.values()]


LEGEND = {
    "interval": "mean of seeds, with its 95 % interval over test utterances",
    "floor": "floor: linear probe",
    "chance": "chance",
}
Strips = Mapping[Any, Sequence[Strip | None]]  # system → one strip per combination; None where it has no figure


def axis_of(strips: Iterable[Strip | None]) -> Axis:
    """The axis that strips have in common."""
    return Axis.around(value for strip in strips if strip for value in strip.values())
