"""Whether one row of Table 1 is better than another: the paired bootstrap over the test utterances."""

from collections.abc import Mapping
from functools import reduce

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..evaluation.statistics import CONCORDANCE, UNWEIGHTED_ACCURACY, paired_bootstrap
from .records import Records

TASKS = ("emotion", "valence", "arousal", "dominance")


def compare(
    records: Records, one: Mapping[str, str], other: Mapping[str, str], combination: str, task: str, seeds: list[int]
) -> tuple[float, float, float] | None:
    """The difference of two rows in a task from a combination, with its 95 % interval, over the `seeds` of both.

    None where one of them was not judged there.
    """
    tables = [[judged(records, row[combination], seed, combination, task) for seed in seeds] for row in (one, other)]
    if not seeds or any(table is None for of_row in tables for table in of_row):
        return None
    rows = reduce(pd.Index.intersection, (table.index for of_row in tables for table in of_row)).sort_values()
    values = [[codes(table.loc[rows, task], task) for table in of_row] for of_row in tables]
    references = codes(tables[0][0].loc[rows, f"reference_{task}"], task)
    if len(np.unique(references)) < 2:
        return None
    measure = UNWEIGHTED_ACCURACY if task == "emotion" else CONCORDANCE
    return paired_bootstrap(measure, *values, references, rows.get_level_values("utterance_id").to_numpy())


def judged(records: Records, run: str, seed: int, combination: str, task: str) -> pd.DataFrame | None:
    """The rows of a run's predictions from a combination that are labelled, by utterance and fold: the test rows of a
    corpus without folds, beside one with them, are judged in each fold."""
    table = records.predictions(run, seed)
    if table is None or task not in table:
        return None
    table = table[(table["combination"] == combination) & table[f"reference_{task}"].notna()]
    return table.set_index(["utterance_id", "fold"]) if len(table) else None


def codes(column: pd.Series, task: str) -> NDArray:
    """Labels as fixed-width strings, dimensions as numbers: what NumPy compares fast."""
    return column.to_numpy().astype(str) if task == "emotion" else column.to_numpy(dtype=np.float64)
