"""Whether one row of Table 1 is better than another: the paired bootstrap over the test utterances."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..statistics import concordances, paired_bootstrap, unweighted_accuracies

TASKS = ("emotion", "valence", "arousal", "dominance")


@cache
def predictions(folder: Path, run: str, seed: int) -> pd.DataFrame | None:
    """A run's predictions of the test split, of all folds."""
    paths = sorted((folder / "predictions").glob(f"{run}-seed-{seed}.parquet"))
    paths += sorted((folder / "predictions").glob(f"{run}-seed-{seed}-fold-*.parquet"))
    return pd.concat([pd.read_parquet(path) for path in paths]) if paths else None


def compare(
    folder: Path, one: Mapping[str, str], other: Mapping[str, str], combination: str, task: str, seeds: list[int]
) -> tuple[float, float, float] | None:
    """The difference of two rows in a task from a combination, with its 95 % interval, over the `seeds` of both.

    None where one of them was not judged there.
    """
    tables = [[judged(folder, row[combination], seed, combination, task) for seed in seeds] for row in (one, other)]
    if not seeds or any(table is None for of_row in tables for table in of_row):
        return None
    ids = sorted(set.intersection(*(set(table.index) for of_row in tables for table in of_row)))
    values = [[codes(table.loc[ids, task], task) for table in of_row] for of_row in tables]
    references = codes(tables[0][0].loc[ids, f"reference_{task}"], task)
    if len(np.unique(references)) < 2:
        return None
    measure = unweighted_accuracies if task == "emotion" else concordances
    return paired_bootstrap(measure, *values, references)


def judged(folder: Path, run: str, seed: int, combination: str, task: str) -> pd.DataFrame | None:
    """The rows of a run's predictions from a combination that are labelled, by utterance."""
    table = predictions(folder, run, seed)
    if table is None or task not in table:
        return None
    table = table[(table["combination"] == combination) & table[f"reference_{task}"].notna()]
    return table.set_index("utterance_id") if len(table) else None


def codes(column: pd.Series, task: str) -> NDArray:
    """Labels as fixed-width strings, dimensions as numbers: what NumPy compares fast."""
    return column.to_numpy().astype(str) if task == "emotion" else column.to_numpy(dtype=np.float64)
