"""Variants measured side by side: in rounds, one after the other, so that what else the machine does hits all alike."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import median

import torch

Run = Callable[[], object]


@dataclass
class Row:
    """One line of the table: how much of something `what` takes, as a multiple of what `against` takes.

    subject: letter of the subject.
    ratios: of each round.
    note: a figure beside the ratio, such as seconds.
    size: of the models.
    """

    subject: str
    what: str
    against: str
    ratios: list[float] = field(default_factory=list)
    note: str = ""
    size: str = ""

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    def as_json(self) -> dict:
        return asdict(self)


@dataclass
class Clock:
    """Measures runs on a device.

    On a CPU it counts the time that this process has used the processor: others that use it too do not count. On an
    accelerator it waits until the device is done, and counts the time by the clock.

    Args:
        rounds: of a row; short runs get three times as many, since single ones differ by a tenth and more.
    """

    device: str
    rounds: int

    def seconds(self, run: Run) -> float:
        if self.device == "cpu":
            start = time.process_time()
            run()
            return time.process_time() - start
        torch.accelerator.synchronize()
        start = time.perf_counter()
        run()
        torch.accelerator.synchronize()
        return time.perf_counter() - start

    def side_by_side(self, variants: dict[str, Run], rounds: int | None = None) -> dict[str, list[float]]:
        """The seconds of each variant in each round, after one round that does not count."""
        found: dict[str, list[float]] = {name: [] for name in variants}
        for number in range((rounds or self.rounds) + 1):
            for name, run in variants.items():
                taken = self.seconds(run)
                if number:
                    found[name].append(taken)
        return found

    def compare(
        self,
        subject: str,
        against: tuple[str, Run],
        variants: dict[str, Run],
        rounds: int | None = None,
        units: dict[str, float] | None = None,
    ) -> list[Row]:
        """A row for each variant.

        Args:
            against: what the variants are compared with.
            rounds: if not the clock's.
            units: by how much more than `against` a variant does, where it is not the same.
        """
        name, baseline = against
        found = self.side_by_side({name: baseline, **variants}, rounds)
        rows = []
        for variant in variants:
            unit = (units or {}).get(variant, 1.0)
            ratios = [own / unit / base for own, base in zip(found[variant], found[name], strict=True)]
            note = f"{median(found[variant]):.3g} s : {median(found[name]):.3g} s"
            rows.append(Row(subject, variant, name, ratios, note))
        return rows
