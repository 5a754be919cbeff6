"""The records of finished runs, and the figures in them: over seeds, with folds averaged within a seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..files import write_json
from ..metrics import flatten
from ..statistics import mean_and_deviation


@dataclass(frozen=True)
class Figure:
    """A figure of a run: its value for each seed."""

    run: str
    by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        return mean_and_deviation(list(self.by_seed.values()))[0]

    @property
    def deviation(self) -> float | None:
        return mean_and_deviation(list(self.by_seed.values()))[1]


@dataclass(frozen=True)
class Records:
    """All that lies in a folder of `mmer reproduce`."""

    folder: Path

    @cached_property
    def all(self) -> list[dict[str, Any]]:
        paths = sorted((self.folder / "runs").glob("*-seed-*.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def of(self, run: str) -> list[dict[str, Any]]:
        return [record for record in self.all if record["run"] == run]

    def seeds(self, run: str) -> list[int]:
        return sorted({record["seed"] for record in self.of(run)})

    def figure(self, run: str, name: str) -> Figure | None:
        """A figure of the test split by its flat name (`audio_ua`); None where no run has measured it."""
        by_seed: dict[int, list[float]] = {}
        for record in self.of(run):
            value = flatten(record["splits"]["test"]).get(name)
            if value is not None:
                by_seed.setdefault(record["seed"], []).append(value)
        if not by_seed:
            return None
        return Figure(run, {seed: mean_and_deviation(values)[0] for seed, values in sorted(by_seed.items())})

    def parameters(self, runs: Sequence[str]) -> int | None:
        """How many parameters a row's runs train together; None before all are there."""
        counts = [self.of(run)[0]["trainable_parameters"] if self.of(run) else None for run in dict.fromkeys(runs)]
        return None if None in counts else sum(counts)

    def seconds(self) -> float:
        return sum(sum(record["seconds"].values()) for record in self.all)

    def write_summaries(self) -> None:
        """`runs/NAME.json` for each run: mean and deviation over seeds of every figure, and where they are from."""
        for run in dict.fromkeys(record["run"] for record in self.all):
            records = self.of(run)
            names = dict.fromkeys(name for record in records for name in flatten(record["splits"]["test"]))
            figures = {name: self.figure(run, name) for name in names}
            summary = {
                "run": run,
                "records": [file_name(record) for record in records],
                "seeds": self.seeds(run),
                "mean": {name: figure.mean for name, figure in figures.items()},
                "standard_deviation": {n: f.deviation for n, f in figures.items() if f.deviation is not None},
            }
            write_json(self.folder / "runs" / f"{run}.json", summary)


def file_name(record: Mapping[str, Any]) -> str:
    fold = "" if record["fold"] is None else f"-fold-{record['fold']}"
    return f"{record['run']}-seed-{record['seed']}{fold}.json"
