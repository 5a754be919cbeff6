"""From the labels a corpus has to the labels a model is trained on.

* Emotions: the user's `label_map` first, then the usual spellings (`emotions.py`); whatever then is no emotion label is
  unlabelled, and counted: as another emotion, or as a name that was not understood.
* Sentiment: the corpus's own where it has any, otherwise from valence. The thresholds 3 and 5 of the scale 1-7 lie at
  1/3 and 2/3 of the way from the lowest to the highest value, and are carried to any other scale like that:
  below 1/3 negative, above 2/3 positive, otherwise neutral.
* Dimensions: numbers on the declared scale, or nothing.

Every function takes columns of one table and leaves their order alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .emotions import classes_of, plain
from .schema import DIMENSIONS, name_some

SENTIMENTS = ("negative", "neutral", "positive")
_SENTIMENT_OF = {"neg": "negative", "neu": "neutral", "pos": "positive"} | {name: name for name in SENTIMENTS}


def map_emotions(
    emotions: pd.Series, emotion_labels: Sequence[str], label_map: Mapping[str, str] | None = None
) -> tuple[pd.Series, set[str], list[str]]:
    """Each emotion as one of `emotion_labels`, or None.

    A name is compared without regard to case, first as it is, then by the class of its spelling (angry, ang, anger).
    A label of `emotion_labels` that shares its class with another one is only reached by its own name. An entry of
    `label_map` with nothing to its right leaves a name unlabelled.

    Returns:
        the emotions; the names that were not understood; and caveats: the names left out with their counts, and what
        letters were taken to mean.
    """
    mapping = {plain(old): new for old, new in (label_map or {}).items()}
    exact = {plain(label): label for label in emotion_labels}
    class_of_label = classes_of(emotion_labels)
    n_of_class = Counter(class_of_label[label] for label in exact.values())
    by_class = {class_of_label[label]: label for label in exact.values() if n_of_class[class_of_label[label]] == 1}
    counts = Counter(name for name in emotions if name is not None)
    own_classes, new_classes = classes_of(counts), classes_of(mapping.values())

    def read(name: str) -> tuple[str | None, bool]:
        """The label, and whether the name was understood."""
        new = mapping.get(plain(name), name)
        if not new or plain(new) in exact:
            return exact.get(plain(new)), True
        name_class = new_classes[new] if plain(name) in mapping else own_classes[name]
        return by_class.get(name_class) if name_class else None, name_class is not None

    labels, understood = {}, {}
    for name in counts:
        labels[name], understood[name] = read(name)
    caveats = _left_out(counts, labels, understood, emotion_labels)
    caveats += _read_letters(counts, labels, own_classes, mapping)
    column = _column(emotions.index, [None if name is None else labels[name] for name in emotions])
    return column, {name for name in counts if not understood[name]}, caveats


def _left_out(
    counts: Counter[str],
    labels: Mapping[str, str | None],
    understood: Mapping[str, bool],
    emotion_labels: Sequence[str],
) -> list[str]:
    """That names are no label, with their counts, the frequent ones first."""
    names = [name for name, _ in counts.most_common() if labels[name] is None]
    told = [f"{name} ({counts[name]})" for name in names]
    unknown = [f"{name} ({counts[name]})" for name in names if not understood[name]]
    if not told:
        return []
    caveat = f"emotions that are not among {', '.join(emotion_labels)} count as unlabelled: {name_some(told)}"
    if unknown:
        caveat += f"; not understood: {name_some(unknown)}, to which label_map can give another name"
    return [caveat]


def _read_letters(
    counts: Counter[str],
    labels: Mapping[str, str | None],
    classes: Mapping[str, str | None],
    mapping: Mapping[str, str],
) -> list[str]:
    """What letters were taken to mean, since no letter says it by itself."""
    read = {name: classes[name] for name in counts if len(plain(name)) < 3 and classes[name]}
    told = [f"{name} = {read[name]}" for name in sorted(read) if labels[name] and plain(name) not in mapping]
    return [f"letters were read as emotions: {', '.join(told)}"] if told else []


def map_sentiments(sentiments: pd.Series) -> tuple[pd.Series, list[str]]:
    """Each sentiment as negative, neutral, positive or None, and a notice with the names left out and their counts."""
    known = [None if name is None else _SENTIMENT_OF.get(name.lower()) for name in sentiments]
    unknown = Counter(name for name, kept in zip(sentiments, known, strict=True) if name is not None and kept is None)
    notices = []
    if unknown:
        names = ", ".join(f"{name} ({n})" for name, n in unknown.most_common())
        notices.append(f"sentiments that are not among {', '.join(SENTIMENTS)} count as unlabelled: {names}")
    return _column(sentiments.index, known), notices


def sentiment_of_valence(valence: pd.Series, label_scale: tuple[float, float]) -> pd.Series:
    """Sentiment by the thresholds; a valence at a threshold is neutral, a missing one has no sentiment."""
    low, high = label_scale
    thirds = 3 * (valence - low) / (high - low)
    margin = 1e-9  # what the division rounds to is still at the threshold
    cases = [thirds.isna(), thirds < 1 - margin, thirds > 2 + margin]
    return _column(valence.index, np.select(cases, [None, "negative", "positive"], "neutral"))


def read_dimensions(table: pd.DataFrame, label_scale: tuple[float, float]) -> tuple[pd.DataFrame, dict[int, list[str]]]:
    """The columns of the dimensions as numbers, NaN where there is no label; and by a row's place what is there instead
    of a number on the scale, such as `valence high`."""
    low, high = label_scale
    numbers: dict[str, pd.Series] = {}
    wrong: dict[int, list[str]] = {}
    for dimension in DIMENSIONS:
        given = table[dimension]
        values = pd.to_numeric(given, errors="coerce").astype("float64")
        no_number = values.isna() & given.notna()
        stated_nan = given[no_number].astype(str).str.strip().str.lower() == "nan"
        bad = (no_number & ~stated_nan.reindex(given.index, fill_value=False)) | (
            values.notna() & ~values.between(low, high)
        )
        for place in bad.to_numpy().nonzero()[0]:
            wrong.setdefault(int(place), []).append(f"{dimension} {given.iloc[place]}")
        numbers[dimension] = values
    return pd.DataFrame(numbers, index=table.index), wrong


def doubt_scale(dimensions: pd.DataFrame, assumed: tuple[float, float]) -> list[str]:
    """A caveat if the labels reach no further than a usual smaller scale, when no scale was declared."""
    values = dimensions.apply(pd.to_numeric, errors="coerce").stack()
    low, high = assumed
    if values.empty or not values.between(low, high).all() or values.max() > 5:
        return []
    return [
        f"no --label_scale was given: {', '.join(DIMENSIONS[:-1])} and {DIMENSIONS[-1]} are taken to be on the scale "
        f"{low:g} to {high:g}, but they lie between {values.min():g} and {values.max():g}; if theirs is 1 to 5, say "
        "--label_scale 1 5"
    ]


def rescale(values: pd.Series, old: tuple[float, float], new: tuple[float, float]) -> pd.Series:
    """Values carried linearly from one scale to another."""
    return new[0] + (values - old[0]) * ((new[1] - new[0]) / (old[1] - old[0]))


def _column(index: pd.Index, values: Sequence[str | None]) -> pd.Series:
    return pd.Series(values, index=index, dtype=object)
