"""Votes of several raters: how many chose each emotion. The column `emotion_votes` has them as JSON, such as
`{"anger": 3, "neutral": 2}`.

Loaders may give mappings instead, with the corpus's own names. A table of one's own may have a column for each emotion
instead: `votes_anger`, `votes_neutral` …
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .emotions import classes_of, plain
from .labels import map_emotions
from .schema import CorpusError, counted, name_some

FIELD = "emotion_votes"
_PREFIX = "votes "

Votes = dict[str, float]  # emotion → votes for it, without zeros


def vote_columns(names: Sequence[str]) -> list[str]:
    """The columns that hold the votes for one emotion each.

    Raises:
        CorpusError: there is a column `emotion_votes` too.
    """
    found = [name for name in names if plain(name).startswith(_PREFIX)]
    if found and FIELD in names:
        raise CorpusError(f"the votes are in the column {FIELD} and in {', '.join(found)}: leave out one or the other")
    return found


def gather_votes(columns: Mapping[str, Sequence]) -> list[str]:
    """The columns of single emotions as one cell of JSON for each row; blank cells are zeros."""
    labels = [plain(name).removeprefix(_PREFIX) for name in columns]
    rows = zip(*columns.values(), strict=True)
    return [json.dumps({k: str(n) for k, n in zip(labels, row, strict=True) if not _is_blank(n)}) for row in rows]


def with_votes(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its columns of votes for single emotions as one."""
    if not (columns := vote_columns(table.columns)):
        return table
    return table.drop(columns=columns).assign(**{FIELD: gather_votes(table[columns].to_dict("list"))})


def read_votes(cell: Any) -> Votes:
    """The votes of a cell: JSON, a mapping, or nothing.

    Raises:
        ValueError: it is neither, or a number of votes is none.
    """
    if _is_blank(cell):
        return {}
    try:
        given = json.loads(cell) if isinstance(cell, str) else cell
        votes = {plain(name): float(n) for name, n in given.items() if not _is_blank(n)}
    except (ValueError, TypeError, AttributeError):
        votes = {"": math.nan}
    if not all(0 <= n < math.inf for n in votes.values()):
        raise ValueError(f'{FIELD} {str(cell)[:60]} (the form is {{"anger": 3, "neutral": 2}})')
    return {name: n for name, n in votes.items() if n}


def _is_blank(value: Any) -> bool:
    missing = value is None or value is pd.NA or isinstance(value, float) and math.isnan(value)
    return missing or isinstance(value, str) and not value.strip()


def map_votes(
    given: Sequence[Votes], emotion_labels: Sequence[str], label_map: Mapping[str, str] | None = None
) -> tuple[list[Votes], list[str | None], list[str]]:
    """Votes by the labels of a model, under the names that emotions go by (`labels.map_emotions`).

    Returns:
        all votes, those for no label under their own names; for each row the JSON of those for labels, None where they
        are less than half of its votes; and notices.
    """
    names = sorted({name for votes in given for name in votes})
    named = {plain(name) for name in (*emotion_labels, *(label_map or {}))}
    of_class = classes_of(names)  # votes may have other spellings than the labels that label_map names
    told = [name if name in named else of_class[name] or name for name in names]
    mapped, *_ = map_emotions(pd.Series(told, dtype=object), emotion_labels, label_map)
    label_of = dict(zip(names, mapped, strict=True))
    every, cells, others, mostly_others = [], [], Counter(), 0
    for votes in given:
        counts = Counter()
        for name, n in votes.items():
            counts[label_of[name] or name] += n
        for_labels = {label: counts[label] for label in emotion_labels if counts[label]}
        others.update({name: n for name, n in counts.items() if name not in for_labels})
        enough = 2 * sum(for_labels.values()) >= counts.total() > 0
        mostly_others += bool(counts) and not enough
        every.append(dict(counts))
        cells.append(json.dumps({k: int(n) if n == int(n) else n for k, n in for_labels.items()}) if enough else None)
    notices = []
    if others:
        told = name_some((f"{name} ({n:g})" for name, n in others.most_common()), most=10)
        rows = counted(mostly_others, "row has", "rows have")
        notices = [f"votes for emotions that are no label are left out: {told}; {rows} more of them than others"]
    return every, cells, notices


def most_voted(votes: Votes) -> str | None:
    """The emotion with most votes, unless two share the first place."""
    ranked = Counter(votes).most_common(2)
    return ranked[0][0] if ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]) else None


def vote_counts(cells: Iterable[Any], labels: Sequence[str]) -> np.ndarray:
    """(n, K): the votes of each row for each label, all zero where it has none."""
    read = [read_votes(cell) for cell in cells]
    names = [plain(label) for label in labels]
    return np.array([[votes.get(name, 0.0) for name in names] for votes in read]).reshape(len(read), len(names))


def agreement(counts: np.ndarray) -> float | None:
    """Krippendorff's alpha of votes (n, K) for K nominal classes; None unless rows have several votes, counted in whole
    numbers, and these are not all for one class."""
    import krippendorff  # here: only `mmer corpus describe` needs it

    counts = counts[counts.sum(1) > 1]
    if (counts.sum(0) > 0).sum() < 2 or (counts % 1).any():
        return None
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))
