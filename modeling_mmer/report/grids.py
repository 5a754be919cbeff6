"""Which runs a report shows: the grids of one or more output folders of `mmer reproduce`, and the systems in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..model.configuration_mmer import COMBINATIONS
from .records import Figure, Records

FULL = "contr_mae"  # the row that the others are compared with
FLOOR = "probe"  # the row that every other one should beat


@dataclass(frozen=True)
class System:
    """A row of a table, and the records of its runs.

    Args:
        grid: that it belongs to.
        title: of the row, which tells it from the others of its grid.
        row: its name, title and runs (`systems.Row`).
    """

    grid: "Grid"
    title: str
    row: Any = field(compare=False)

    @property
    def runs(self) -> list[str]:
        return list(dict.fromkeys(self.row.runs.values()))

    def seeds(self) -> list[int]:
        """The seeds that count for all its runs."""
        return sorted(set.intersection(*(set(self.grid.records.seeds(run)) for run in self.runs)))

    def figure(self, name: str, combination: str) -> Figure | None:
        return self.grid.records.figure(self.row.runs[combination], name)

    def link(self, run: str) -> str:
        """To the summary of a run, from the folder of the report."""
        return f"{self.grid.prefix}runs/{run}.json"


@dataclass(frozen=True, eq=False)  # by identity, as `System` requires
class Grid:
    """The runs in one output folder of `mmer reproduce`.

    Args:
        records: its records.
        tables: `table1`, `table2`, `table3`, `choices` → their rows (`systems.Row`).
        prefix: the folder as seen from that of the report, with a slash at its end; empty for the folder itself.
    """

    records: Records
    tables: Mapping[str, Sequence]
    prefix: str = ""

    @property
    def name(self) -> str:
        """That of its preset."""
        return self.records.preset

    @property
    def folder(self) -> Path:
        return self.records.folder

    def systems(self, table: str) -> list[System]:
        return [System(self, row.title, row) for row in self.tables[table]]

    def system(self, name: str) -> System | None:
        """A system of Table 1 with figures."""
        return next((s for s in self.systems("table1") if s.row.name == name and s.seeds()), None)

    def chance(self) -> float | None:
        """The UA of guessing: 1 over the number of classes in the test split. None if no run has measured it."""
        splits = [record.splits["test"].get(c, {}) for record in self.records.all for c in COMBINATIONS]
        classes = [len(figures["per_class_recall"]) for figures in splits if figures.get("per_class_recall")]
        return 1 / max(classes) if classes else None
