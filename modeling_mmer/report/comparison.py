"""Comparison of two rows of Table 1 by a paired bootstrap over the test utterances."""

from collections.abc import Mapping
from functools import reduce

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..evaluation.statistics import CONCORDANCE, UNWEIGHTED_ACCURACY, paired_bootstrap
from ..model.tasks import DIMENSIONS
from .records import Records

TASKS = ("emotion", *DIMENSIONS)


def compare(
    records: Records, one: Mapping[str, str], other: Mapping[str, str], combination: str, task: str, seeds: list[int]
) -> tuple[float, float, float] | None:
    """The difference between two rows for a task and a combination, averaged over `seeds`, with its 95 % interval.

    None if one of them has no predictions to compare.
    """
    tables = [
        [labelled_predictions(records, row[combination], seed, combination, task) for seed in seeds]
        for row in (one, other)
    ]
    if not seeds or any(table is None for of_row in tables for table in of_row):
        return None
    rows = reduce(pd.Index.intersection, (table.index for of_row in tables for table in of_row)).sort_values()
    values = [[as_array(table.loc[rows, task], task) for table in of_row] for of_row in tables]
    references = as_array(tables[0][0].loc[rows, f"reference_{task}"], task)
    if len(np.unique(references)) < 2:
        return None
    measure = UNWEIGHTED_ACCURACY if task == "emotion" else CONCORDANCE
    return paired_bootstrap(measure, *values, references, rows.get_level_values("utterance_id").to_numpy())


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
