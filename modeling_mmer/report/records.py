"""Records of finished runs, and their figures by seed, averaged over the folds of a seed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ..evaluation.figures import flatten
from ..evaluation.statistics import mean_and_deviation
from ..files import write_json


@dataclass(frozen=True)
class RunRecord:
    """The record of a finished run, `runs/KEY.json`: figures, settings, machine, time.

    Args:
        seconds: of training, including the time before a resumption, and of evaluation.
        corpus, encoders: their names. Their content is identified in `settings`.
        preset: that its options started from.
        caveats: facts that change the meaning of the figures.
        settings: everything that the figures depend on (`training/settings.py`).
        splits: the figures, as in `results.json`.
        failed: why there are no figures; None for a measured run.
    """

    run: str
    seed: int
    fold: int | None = None
    trainable_parameters: int = 0
    epochs: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    corpus: str | None = None
    encoders: Sequence[str] = ()
    preset: str = "paper"  # the only one there was when records did not name it
    caveats: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    log: Sequence[Mapping[str, float]] = ()
    layer_weights: Mapping[str, Sequence[float]] | None = None
    splits: Mapping[str, Any] = field(default_factory=lambda: {"test": {}})
    similarities: Sequence[Sequence[float]] | None = None
    failed: str | None = None

    @classmethod
    def read(cls, path: Path) -> "RunRecord":
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{f.name: content[f.name] for f in fields(cls) if f.name in content})

    def write(self, folder: Path) -> None:
        absent = ("layer_weights", "similarities", "failed")
        write_json(folder / self.path, {k: v for k, v in asdict(self).items() if v is not None or k not in absent})

    @property
    def measured(self) -> bool:
        return self.failed is None

    @property
    def key(self) -> str:
        return run_key(self.run, self.seed, self.fold)

    @property
    def path(self) -> Path:
        """Relative to the output folder of `mmer reproduce`."""
        return record_path(self.key)


def run_key(run: str, seed: int, fold: int | None) -> str:
    """The stem of the file names of a run."""
    return f"{run}-seed-{seed}" + ("" if fold is None else f"-fold-{fold}")


def record_path(key: str) -> Path:
    return Path("runs", f"{key}.json")


def predictions_path(key: str) -> Path:
    return Path("predictions", f"{key}.parquet")


@dataclass(frozen=True)
class Figure:
    """A figure of a run, by seed."""

    run: str
    by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        return mean_and_deviation(list(self.by_seed.values()))[0]

    @property
    def deviation(self) -> float | None:
        return mean_and_deviation(list(self.by_seed.values()))[1]


@dataclass(frozen=True, eq=False)  # an instance is what a folder had when it was read
class Records:
    """The records in an output folder of `mmer reproduce`.

    A seed counts if it was measured on all folds, because a mean over some folds is for another test set.
    """

    folder: Path

    @cached_property
    def all(self) -> list[RunRecord]:
        return [RunRecord.read(path) for path in sorted((self.folder / "runs").glob("*-seed-*.json"))]

    @property
    def preset(self) -> str:
        """That of all its runs: a folder has one set of options."""
        return self.all[0].preset if self.all else RunRecord.preset

    @cached_property
    def folds(self) -> set[int | None]:
        return {record.fold for record in self.all}

    def of(self, run: str) -> list[RunRecord]:
        return [record for record in self.all if record.run == run]

    def counted(self, run: str) -> list[RunRecord]:
        """The records of the seeds that count."""
        seeds = self.seeds(run)
        return [record for record in self.of(run) if record.seed in seeds]

    def seeds(self, run: str) -> list[int]:
        """The seeds that count."""
        tried = sorted({record.seed for record in self.of(run)})
        return [seed for seed in tried if not self.missing_folds(run, seed)]

    def left_out(self, run: str) -> list[int]:
        """The seeds that were run but do not count."""
        return sorted({record.seed for record in self.of(run)} - set(self.seeds(run)))

    def missing_folds(self, run: str, seed: int) -> list[int | None]:
        """The folds without figures. Without folds in the corpus, the only fold is None."""
        measured = {record.fold for record in self.of(run) if record.seed == seed and record.measured}
        return sorted(self.folds - measured, key=lambda fold: fold or 0)

    def figure(self, run: str, name: str) -> Figure | None:
        """A figure of the test split by its flat name, such as `audio_ua`; None if no run has it."""
        by_seed: dict[int, list[float]] = {}
        for record in self.counted(run):
            value = flatten(record.splits["test"]).get(name)
            if value is not None:
                by_seed.setdefault(record.seed, []).append(value)
        if not by_seed:
            return None
        return Figure(run, {seed: mean_and_deviation(values)[0] for seed, values in sorted(by_seed.items())})

    def parameters(self, runs: Sequence[str]) -> int | None:
        """The total number of parameters that runs train; None if one of the runs has no record."""
        counts = [self.of(run)[0].trainable_parameters if self.of(run) else None for run in dict.fromkeys(runs)]
        return None if None in counts else sum(counts)

    def seconds(self) -> float:
        return sum(sum(record.seconds.values()) for record in self.all)

    @cache  # noqa: B019 (there is one instance per report)
    def predictions(self, run: str, seed: int) -> pd.DataFrame | None:
        """A run's predictions on the test split, with a column `fold` (0 without folds); None if there are none."""
        tables = {r.fold or 0: self.folder / predictions_path(r.key) for r in self.counted(run) if r.seed == seed}
        tables = [pd.read_parquet(path).assign(fold=fold) for fold, path in tables.items() if path.is_file()]
        return pd.concat(tables, ignore_index=True) if tables else None

    def write_summaries(self) -> None:
        """Write `runs/NAME.json` for each run: mean and deviation of each figure over seeds, and the records used."""
        for run in dict.fromkeys(record.run for record in self.all):
            records = self.counted(run)
            names = dict.fromkeys(name for record in records for name in flatten(record.splits["test"]))
            figures = {name: self.figure(run, name) for name in names}
            summary = {
                "run": run,
                "records": [record.path.name for record in records],
                "seeds": self.seeds(run),
                **({"seeds_left_out": left_out} if (left_out := self.left_out(run)) else {}),
                "mean": {name: figure.mean for name, figure in figures.items()},
                "standard_deviation": {n: f.deviation for n, f in figures.items() if f.deviation is not None},
            }
            write_json(self.folder / "runs" / f"{run}.json", summary)
