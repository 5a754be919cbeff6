"""Intervals of figures, and comparisons of two rows, by a bootstrap over the test utterances."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..evaluation.statistics import CONCORDANCE, UNWEIGHTED_ACCURACY, Measure, bootstrap_mean, paired_bootstrap
from ..model.tasks import DIMENSIONS
from .grids import System
from .records import Records

TASKS = ("emotion", *DIMENSIONS)


@dataclass(frozen=True)
class Difference:
    """The difference between two systems, and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["better", "worse", "level"]:
        """Whether the whole interval is on one side of zero."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "level"


def compare(
    one: System, other: System, combinations: Sequence[str], task: str, seeds: Sequence[int]
) -> Difference | None:
    """How much better system `one` is than `other` at a task, averaged over combinations and `seeds`.

    Both are judged on the utterances that have all of `combinations`. None if there are no predictions to compare.
    """
    tables = [
        labelled_predictions(system.grid.records, system.row.runs[combination], seed, combination, task)
        for system in (one, other)
        for combination in combinations
        for seed in seeds
    ]
    if (aligned := align(tables, task)) is None:
        return None
    values, references, utterances = aligned
    half = len(values) // 2
    return Difference(*paired_bootstrap(measure_of(task), values[:half], values[half:], references, utterances))


def interval(system: System, combination: str, task: str) -> tuple[float, float] | None:
    """How far the bounds of the 95 % interval of a figure are from it: one negative, one positive number.

    The figure is averaged over all seeds that count. None if there are no predictions.
    """
    records, run = system.grid.records, system.row.runs[combination]
    tables = [labelled_predictions(records, run, seed, combination, task) for seed in records.seeds(run)]
    if (aligned := align(tables, task)) is None:
        return None
    value, low, high = bootstrap_mean(measure_of(task), *aligned)
    return low - value, high - value


def align(tables: Sequence[pd.DataFrame | None], task: str) -> tuple[list[NDArray], NDArray, NDArray] | None:
    """The predictions of each table (n,) for the rows that all have, in the same order, their references (n,) and
    utterances (n,). None if a table is missing or there is nothing to tell apart."""
    if not tables or any(table is None for table in tables):
        return None
    rows = reduce(pd.Index.intersection, (table.index for table in tables)).sort_values()
    values = [as_array(table.loc[rows, task], task) for table in tables]
    references = as_array(tables[0].loc[rows, f"reference_{task}"], task)
    if len(np.unique(references)) < 2:
        return None
    return values, references, rows.get_level_values("utterance_id").to_numpy()


def measure_of(task: str) -> Measure:
    return UNWEIGHTED_ACCURACY if task == "emotion" else CONCORDANCE


def labelled_predictions(records: Records, run: str, seed: int, combination: str, task: str) -> pd.DataFrame | None:
    """The predictions of a run for labelled rows, indexed by utterance and fold. An utterance may be in the test split
    of every fold, if a corpus without folds is joined with one that has them."""
    table = records.predictions(run, seed)
    if table is None or task not in table:
        return None
    table = table[(table["combination"] == combination) & table[f"reference_{task}"].notna()]
    return table.set_index(["utterance_id", "fold"]) if len(table) else None


def as_array(column: pd.Series, task: str) -> NDArray:
    """Labels as fixed-width strings, which NumPy compares fast, and dimensions as numbers."""
    return column.to_numpy().astype(str) if task == "emotion" else column.to_numpy(dtype=np.float64)
