"""From a table of raw values to a `Corpus`: what every corpus's rows go through, whichever loader read them.

The table has the schema's fields as columns (a field that the corpus lacks may be absent) and absolute audio paths. A
column `place` says where each row was written, where a number would not.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset

from ..model.tasks import CLASS_TASKS
from .emotions import plain
from .faults import fault_of
from .labels import map_emotions, map_sentiments, read_dimensions, sentiment_of_valence
from .paths import Finder
from .recordings import AUDIO_SUFFIXES, Recording, read_headers
from .schema import FEATURES, SPLITS, Corpus, CorpusError, Fault, LeftOut, canonical_split, counted
from .spans import measure, read_times, shared_recordings
from .votes import map_votes, most_voted, read_votes

_LINES = ("utterance_id", *CLASS_TASKS, "speaker", "split")  # of one line each, whatever a cell holds
_TEXT_FIELDS = (*_LINES, "audio", "text")

Found = list[tuple[int, str, str]]  # place, kind and detail of faults in a table


def build_corpus(
    name: str,
    raw: pd.DataFrame,
    *,
    emotion_labels: Sequence[str],
    label_map: Mapping[str, str] | None = None,
    label_scale: tuple[float, float] = (1.0, 7.0),
    notices: Sequence[str] = (),
    caveats: Sequence[str] = (),
    advice: Mapping[str, str] | None = None,
    license: str | None = None,
    language: str | None = None,
    folder: Path | None = None,
) -> Corpus:
    """Checks and normalises the rows of one corpus, whose labels are mapped as [`load_corpora`] says; the last four
    arguments are facts that it carries.

    Faults of rows are collected in the corpus, not raised: duplicate ids; neither audio nor text; unknown or missing
    splits; dimensions that are not numbers on the scale; recordings whose header cannot be read.

    Raises:
        CorpusError: there are no rows.
    """
    if raw.empty:
        raise CorpusError(f"corpus {name}: the metadata has no rows")
    table = normalise(raw)
    given_splits = table["split"]
    table["split"], split_caveats = _splits(given_splits, advice or {})
    table["audio"], headers, path_notices = locate(table["audio"])
    off_scale = _set_dimensions(table, label_scale)
    no_votes = _set_votes(table)
    table[["start", "end"]], no_times = read_times(table)
    table["duration"], beyond = measure(table, headers)

    found = list(_identity_faults(table))
    found += [(place, "split", given_splits[place] or "blank") for place in table.index[table["split"].isna()]]
    found += [*off_scale, *no_votes, *((place, "time", detail) for place, detail in no_times)]
    faults = _faults(table, found, headers, beyond, raw.get("place"))
    table = table.drop(index=[place for place, *_ in found]).reset_index(drop=True)

    vote_notices = _map_votes(table, emotion_labels, label_map)
    given_emotions = table["emotion"]
    table["emotion"], unknown, emotion_caveats = map_emotions(given_emotions, emotion_labels, label_map)
    sentiment_caveats = _set_sentiments(table, label_scale)
    parts = {split: table[table["split"] == split] for split in SPLITS if (table["split"] == split).any()}
    splits = {s: Dataset.from_pandas(part, features=FEATURES, preserve_index=False) for s, part in parts.items()}
    return Corpus(
        name,
        splits,
        label_scale,
        notices=[*notices, *path_notices, *vote_notices, *_missing(table)],
        caveats=[*caveats, *split_caveats, *emotion_caveats, *sentiment_caveats, *shared_recordings(table)],
        license=license,
        language=language,
        folders=() if folder is None else (folder,),
        faults=faults,
        left_out=_left_out(table, given_emotions, unknown),
        unmet=[old for old in label_map or {} if plain(old) not in set(map(plain, given_emotions.dropna().unique()))],
        advice=dict(advice or {}),
    )


# ── normalise ───────────────────────────────────────────────────────────────────────────────────────────────────────
def normalise(raw: pd.DataFrame) -> pd.DataFrame:
    """The schema's columns, with strings that are stripped or None, and an id for every row."""
    table = raw.reindex(columns=list(FEATURES)).reset_index(drop=True)
    for field in _TEXT_FIELDS:
        table[field] = clean_strings(table[field], one_line=field in _LINES)
    table["utterance_id"] = [given or f"row_{i:05d}" for i, given in enumerate(table["utterance_id"], start=1)]
    table["text_source"] = pd.Series(np.where(table["text"].notna(), "reference", None), dtype=object)
    return table


def clean_strings(values: pd.Series, one_line: bool = False) -> pd.Series:
    """Values as stripped strings, None where there is nothing; whole numbers without a decimal point. `one_line` turns
    line breaks and repeated blanks into one blank."""

    def clean(value: object) -> str | None:
        if isinstance(value, str):
            return (" ".join(value.split()) if one_line else value.strip()) or None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return str(value).strip() or None

    code_of_row, distinct = pd.factorize(values)  # most columns have few; -1 where there is none
    cleaned = np.array([*map(clean, distinct), None], dtype=object)
    return pd.Series(cleaned[code_of_row], index=values.index, dtype=object)


def locate(audio: pd.Series) -> tuple[pd.Series, dict[str, Recording], list[str]]:
    """The paths, those that do not exist as they are written by the file they mean; what each file's header says; and
    a notice of the paths that were written otherwise."""
    headers = read_headers(audio.dropna())
    finder = Finder(AUDIO_SUFFIXES)
    missing = [path for path, recording in headers.items() if recording.kind == "missing"]
    meant = {path: file for path in missing if (file := finder.find(path)) is not None}
    if not meant:
        return audio, headers, []
    headers |= read_headers(meant.values())
    notice = (
        f"{counted(len(meant), 'recording was', 'recordings were')} found under another spelling of the path (case, "
        f"accents, separators, extension): {Path(next(iter(meant))).name} is {Path(next(iter(meant.values()))).name}"
    )
    return pd.Series([meant.get(path, path) for path in audio], dtype=object), headers, [notice]


def _set_dimensions(table: pd.DataFrame, label_scale: tuple[float, float]) -> Found:
    """Make the dimensions numbers, in place, and find those that are none on the scale."""
    dimensions, off_scale = read_dimensions(table, label_scale)
    table[dimensions.columns] = dimensions
    return [(place, "label", ", ".join(values)) for place, values in sorted(off_scale.items())]


def _set_votes(table: pd.DataFrame) -> Found:
    """Make the votes mappings, in place, and find those that are none."""
    votes, wrong = [], []
    for place, cell in enumerate(table["emotion_votes"]):
        try:
            votes.append(read_votes(cell))
        except ValueError as error:
            votes.append({})
            wrong.append((place, "votes", str(error)))
    table["emotion_votes"] = pd.Series(votes, index=table.index, dtype=object)
    return wrong


def _splits(given: pd.Series, advice: Mapping[str, str]) -> tuple[pd.Series, list[str]]:
    """The splits' canonical names, None for those unknown; all rows are test rows where the corpus has no splits."""
    if given.isna().all():
        remedy = f"; {advice['split']} reads a column that looks like one" if "split" in advice else ""
        return pd.Series("test", index=given.index), [f"no split column: every row is in the split test{remedy}"]
    canonical = {name: canonical_split(name or "") for name in set(given)}
    return pd.Series([canonical[name] for name in given], index=given.index, dtype=object), []


# ── find faults ─────────────────────────────────────────────────────────────────────────────────────────────────────
def _identity_faults(table: pd.DataFrame) -> Iterator[tuple[int, str, str]]:
    """Rows that cannot be told apart, or hold nothing."""
    for place in table.index[table["utterance_id"].duplicated(keep=False)]:
        yield place, "shared id", ""
    for place in table.index[table["audio"].isna() & table["text"].isna()]:
        yield place, "nothing", ""


def _faults(
    table: pd.DataFrame,
    found: Found,
    headers: Mapping[str, Recording],
    beyond: list[tuple[int, str]],
    places: pd.Series | None,
) -> list[Fault]:
    """What was found in the table, the recordings that cannot be used, and the spans that lie `beyond` theirs."""

    def row(place: int) -> tuple[str, str]:
        """Its id, and what messages call it."""
        utterance_id = table["utterance_id"][place]
        return utterance_id, f"{f'row {place + 1}' if places is None else places.iloc[place]} ({utterance_id})"

    faults = [Fault(kind, *row(place), detail, table["split"][place]) for place, kind, detail in found]
    faults += [
        fault_of(headers[path], path, *row(place), table["split"][place])
        for place, path in table["audio"].dropna().items()
        if not headers[path].usable
    ]
    return faults + [Fault("span", *row(place), detail, table["split"][place]) for place, detail in beyond]


# ── map labels ──────────────────────────────────────────────────────────────────────────────────────────────────────
def _map_votes(table: pd.DataFrame, emotion_labels: Sequence[str], label_map: Mapping[str, str] | None) -> list[str]:
    """Put votes under the model's labels; where no row has an emotion, set those with most votes. Returns notices."""
    votes, table["emotion_votes"], notices = map_votes(table["emotion_votes"], emotion_labels, label_map)
    if table["emotion"].isna().all():
        table["emotion"] = pd.Series(map(most_voted, votes), index=table.index, dtype=object)
    return notices


def _set_sentiments(table: pd.DataFrame, label_scale: tuple[float, float]) -> list[str]:
    """Make the sentiments labels, in place: the corpus's own, or those of valence. Returns caveats."""
    if table["sentiment"].notna().any():
        table["sentiment"], caveats = map_sentiments(table["sentiment"])
        return caveats
    table["sentiment"] = sentiment_of_valence(table["valence"], label_scale)
    return []


def _left_out(table: pd.DataFrame, given: pd.Series, unknown: set[str]) -> list[LeftOut]:
    """The emotions that are no label, with their rows in each split."""
    unlabelled = given[table["emotion"].isna() & given.notna()]
    counts = unlabelled.groupby([table["split"], unlabelled]).size()
    return [LeftOut(split, name, int(n), name not in unknown) for (split, name), n in counts.items()]


# ── notices ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _missing(table: pd.DataFrame) -> list[str]:
    counts = {what: int(table[what].isna().sum()) for what in ("audio", "text")}
    of = f"of {counted(len(table), 'row')}"
    return [counted(n, f"{of} has no {what}", f"{of} have no {what}") for what, n in counts.items() if n]
