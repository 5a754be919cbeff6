"""From a table of raw values to a `Corpus`: what every corpus's rows go through, whichever loader read them.

The table has the schema's fields as columns (a field that the corpus lacks may be absent) and absolute audio paths.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import shorten

import pandas as pd
from datasets import Dataset

from .faults import fault_of
from .labels import map_emotions, map_sentiments, read_dimensions, sentiment_of_valence
from .recordings import read_headers
from .schema import FEATURES, SPLITS, Corpus, CorpusError, Fault, canonical_split, name_some
from .sharing import in_several_splits, known_speakers, plain_texts
from .spans import measure, read_times, shared_recordings

_TEXT_FIELDS = ("utterance_id", "audio", "text", "emotion", "sentiment", "speaker", "split")


def build_corpus(
    name: str,
    raw: pd.DataFrame,
    *,
    label_scale: tuple[float, float],
    emotion_labels: Sequence[str],
    label_map: Mapping[str, str] | None = None,
    notices: Sequence[str] = (),
    license: str | None = None,
    language: str | None = None,
    folder: Path | None = None,
) -> Corpus:
    """Checks and normalises the rows of one corpus; the last three arguments are facts that it carries.

    Faults of rows are collected in the corpus, not raised: duplicate ids; neither audio nor text; unknown or missing
    splits; dimensions that are not numbers on the scale; recordings whose header cannot be read.

    Raises:
        CorpusError: there are no rows.
    """
    if raw.empty:
        raise CorpusError(f"corpus {name}: the metadata has no rows")
    table = raw.reindex(columns=list(FEATURES)).reset_index(drop=True)
    for field in _TEXT_FIELDS:
        table[field] = clean_strings(table[field])
    table["utterance_id"] = [given or f"row_{i:05d}" for i, given in enumerate(table["utterance_id"], start=1)]
    table["text_source"] = table["text"].map(lambda _: "reference", na_action="ignore")
    given_splits = table["split"]
    table["split"], split_notices = _splits(given_splits)
    dimensions, off_scale = read_dimensions(table, label_scale)
    table[dimensions.columns] = dimensions
    table[["start", "end"]], no_times = read_times(table)
    headers = read_headers(table["audio"].dropna())
    table["duration"], beyond = measure(table, headers)

    found = [
        *_identity_faults(table),
        *((place, "split", given_splits[place] or "blank") for place in table.index[table["split"].isna()]),
        *((place, "label", ", ".join(values)) for place, values in sorted(off_scale.items())),
        *((place, "time", detail) for place, detail in no_times),
    ]
    faults = [Fault(kind, *_names(table, place), detail, table["split"][place]) for place, kind, detail in found]
    faults += [
        fault_of(headers[path], path, *_names(table, place), table["split"][place])
        for place, path in table["audio"].dropna().items()
        if not headers[path].usable
    ]
    faults += [Fault("span", *_names(table, place), detail, table["split"][place]) for place, detail in beyond]

    table = table.drop(index=[place for place, *_ in found]).reset_index(drop=True)
    table["emotion"], emotion_notices = map_emotions(table["emotion"], emotion_labels, label_map)
    if table["sentiment"].notna().any():
        table["sentiment"], sentiment_notices = map_sentiments(table["sentiment"])
    else:
        table["sentiment"], sentiment_notices = sentiment_of_valence(table["valence"], label_scale), []
    splits = {
        split: Dataset.from_pandas(table[table["split"] == split], features=FEATURES, preserve_index=False)
        for split in SPLITS
        if (table["split"] == split).any()
    }
    notices = [*notices, *split_notices, *emotion_notices, *sentiment_notices, *_missing(table), *_shared(table)]
    facts = {"license": license, "language": language, "folders": () if folder is None else (folder,)}
    return Corpus(name, splits, label_scale, notices, shared_recordings(table), faults=faults, **facts)


def clean_strings(values: pd.Series) -> pd.Series:
    """Values as stripped strings, None where there is nothing; whole numbers without a decimal point."""

    def clean(value: object) -> str | None:
        if value is None or value is pd.NA or value != value:  # NaN is the one value unequal to itself
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return str(value).strip() or None

    return pd.Series([clean(value) for value in values], index=values.index, dtype=object)


def _names(table: pd.DataFrame, place: int) -> tuple[str, str]:
    """A row's id, and what messages call it."""
    utterance_id = table["utterance_id"][place]
    return utterance_id, f"row {place + 1} ({utterance_id})"


def _identity_faults(table: pd.DataFrame) -> Iterator[tuple[int, str, str]]:
    """Place, kind and detail of rows that cannot be told apart, or hold nothing."""
    for place in table.index[table["utterance_id"].duplicated(keep=False)]:
        yield place, "shared id", ""
    for place in table.index[table["audio"].isna() & table["text"].isna()]:
        yield place, "nothing", ""


def _splits(given: pd.Series) -> tuple[pd.Series, list[str]]:
    """The splits' canonical names, None for those unknown; all rows are test rows where the corpus has no splits."""
    if given.isna().all():
        return pd.Series("test", index=given.index), ["no split column: every row is in the split test"]
    return pd.Series([canonical_split(name or "") for name in given], index=given.index, dtype=object), []


def _missing(table: pd.DataFrame) -> list[str]:
    counts = {what: int(table[what].isna().sum()) for what in ("audio", "text")}
    return [f"{n} of {len(table)} rows have no {what}" for what, n in counts.items() if n]


def _shared(table: pd.DataFrame) -> list[str]:
    """What rows of several splits have in common: their scores are then not on unseen speakers, or sentences."""
    speakers = sorted(rows["speaker"].iloc[0] for rows in in_several_splits(table, known_speakers(table["speaker"])))
    texts = [rows["text"].iloc[0] for rows in in_several_splits(table, plain_texts(table["text"]))]
    notices = []
    if speakers:
        notices.append(f"speakers in more than one split, so scores are not on unseen speakers: {name_some(speakers)}")
    if texts:
        named = name_some((shorten(text, 60, placeholder=" …") for text in texts), most=3)
        notices.append(
            f"{len(texts)} texts are in more than one split, so scores from text are not on unseen ones: {named}"
        )
    return notices
