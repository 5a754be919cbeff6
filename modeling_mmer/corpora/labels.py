"""From the labels a corpus has to the labels a model is trained on.

* Emotions: the user's `label_map` first, then the usual spellings; whatever then is no emotion label is unlabelled.
* Sentiment: the corpus's own where it has any, otherwise from valence. The thresholds 3 and 5 of the scale 1-7 lie at
  1/3 and 2/3 of the way from the lowest to the highest value, and are carried to any other scale like that:
  below 1/3 negative, above 2/3 positive, otherwise neutral.
* Dimensions: numbers on the declared scale, or nothing.

Every function takes columns of one table and leaves their order alone.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from .schema import DIMENSIONS

SENTIMENTS = ("negative", "neutral", "positive")

_SAME_EMOTION = (
    ("neutral", "neutrality"),
    ("happiness", "happy", "joy"),
    ("sadness", "sad"),
    ("anger", "angry"),
)
_CLASS_OF = {spelling: spellings[0] for spellings in _SAME_EMOTION for spelling in spellings}


def map_emotions(
    emotions: pd.Series, emotion_labels: Sequence[str], label_map: Mapping[str, str] | None = None
) -> tuple[pd.Series, list[str]]:
    """Each emotion as one of `emotion_labels`, or None.

    A name is compared without regard to case, first as it is, then by the class of its spelling (angry, anger).
    A label of `emotion_labels` that shares its class with another one is only reached by its own name.

    Returns:
        the emotions, and notices: the names left out with their counts, entries of `label_map` that met nothing.
    """
    mapping = {old.strip().lower(): new for old, new in (label_map or {}).items()}
    exact = {label.lower(): label for label in emotion_labels}
    classes = Counter(_CLASS_OF.get(label, label) for label in exact)
    by_class = {_CLASS_OF.get(name, name): label for name, label in exact.items()}

    def label_of(name: str) -> str | None:
        name = mapping.get(name.lower(), name).strip().lower()
        name_class = _CLASS_OF.get(name, name)
        if name in exact:
            return exact[name]
        return by_class[name_class] if classes[name_class] == 1 else None

    counts = Counter(name for name in emotions if name is not None)
    labels = {name: label_of(name) for name in counts}
    left_out = [(name, n) for name, n in counts.most_common() if labels[name] is None]
    notices = []
    if left_out:
        names = ", ".join(f"{name} ({n})" for name, n in left_out)
        notices.append(
            f"emotions that are not among {', '.join(emotion_labels)} count as unlabelled: {names}; "
            f"label_map can give them another name"
        )
    unmet = [old for old in label_map or {} if old.strip().lower() not in {name.lower() for name in counts}]
    if unmet:
        notices.append(f"label_map names emotions that do not occur: {', '.join(unmet)}")
    return _column(emotions.index, [None if name is None else labels[name] for name in emotions]), notices


def map_sentiments(sentiments: pd.Series) -> tuple[pd.Series, list[str]]:
    """Each sentiment as negative, neutral, positive or None, and a notice with the names left out and their counts."""
    known = [name.lower() if name is not None and name.lower() in SENTIMENTS else None for name in sentiments]
    unknown = Counter(name for name, kept in zip(sentiments, known, strict=True) if name is not None and kept is None)
    notices = []
    if unknown:
        names = ", ".join(f"{name} ({n})" for name, n in unknown.most_common())
        notices.append(f"sentiments that are not among {', '.join(SENTIMENTS)} count as unlabelled: {names}")
    return _column(sentiments.index, known), notices


def sentiment_of_valence(valence: pd.Series, label_scale: tuple[float, float]) -> pd.Series:
    """Sentiment by the thresholds; a valence at a threshold is neutral, a missing one has no sentiment."""
    low, high = label_scale

    def sentiment(value: float | None) -> str | None:
        if value is None or math.isnan(value):
            return None
        thirds = 3 * (value - low) / (high - low)
        if math.isclose(thirds, 1, abs_tol=1e-9) or math.isclose(thirds, 2, abs_tol=1e-9):
            return "neutral"  # exactly at a threshold, whatever the division rounds to
        return "negative" if thirds < 1 else "positive" if thirds > 2 else "neutral"

    return _column(valence.index, [sentiment(value) for value in valence])


def read_dimensions(table: pd.DataFrame, label_scale: tuple[float, float]) -> tuple[pd.DataFrame, dict[int, list[str]]]:
    """The columns valence, arousal and dominance as numbers, NaN where there is no label; and by a row's place what is
    there instead of a number on the scale, such as `valence high`."""
    low, high = label_scale
    numbers: dict[str, pd.Series] = {}
    wrong: dict[int, list[str]] = {}
    for dimension in DIMENSIONS:
        given = table[dimension]
        values = pd.to_numeric(given, errors="coerce").astype("float64")
        stated_nan = given.map(lambda value: str(value).strip().lower() == "nan")
        bad = (values.isna() & given.notna() & ~stated_nan) | (values.notna() & ~values.between(low, high))
        for place in bad.to_numpy().nonzero()[0]:
            wrong.setdefault(int(place), []).append(f"{dimension} {given.iloc[place]}")
        numbers[dimension] = values
    return pd.DataFrame(numbers, index=table.index), wrong


def rescale(values: pd.Series, old: tuple[float, float], new: tuple[float, float]) -> pd.Series:
    """Values carried linearly from one scale to another."""
    return new[0] + (values - old[0]) * ((new[1] - new[0]) / (old[1] - old[0]))


def _column(index: pd.Index, values: list[str | None]) -> pd.Series:
    return pd.Series(values, index=index, dtype=object)
