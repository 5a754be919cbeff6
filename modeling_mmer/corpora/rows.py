"""From a table of raw values to a `Corpus`: what every corpus's rows go through, whichever loader read them.

The table has the schema's fields as columns (a field that the corpus lacks may be absent) and absolute audio paths.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import soundfile
from datasets import Dataset

from .labels import map_emotions, map_sentiments, read_dimensions, sentiment_of_valence
from .schema import FEATURES, SPLITS, Corpus, CorpusError, canonical_split, name_some, split_spellings

_TEXT_FIELDS = ("utterance_id", "audio", "text", "emotion", "sentiment", "speaker", "split")
_HEADER_READERS = 16  # threads: reading headers waits for the disk, not for the processor


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

    Audio files that are missing or unreadable are collected, not raised: `check_audio` raises them.

    Raises:
        CorpusError: no rows; duplicate ids; rows with neither audio nor text; unknown or missing splits; dimensions
            that are not numbers on the scale. Each message names its rows.
    """
    if raw.empty:
        raise CorpusError(f"corpus {name}: the metadata has no rows")
    notices = list(notices)
    table = raw.reindex(columns=list(FEATURES)).reset_index(drop=True)
    for field in _TEXT_FIELDS:
        table[field] = clean_strings(table[field])
    table["utterance_id"] = [given or f"row_{i:05d}" for i, given in enumerate(table["utterance_id"], start=1)]
    table["text_source"] = table["text"].map(lambda _: "reference", na_action="ignore")
    row_names = [f"row {i} ({utterance_id})" for i, utterance_id in enumerate(table["utterance_id"], start=1)]

    try:
        _check_identity(table, row_names)
        table["split"], split_notices = _splits(table["split"], row_names)
        table["emotion"], emotion_notices = map_emotions(table["emotion"], emotion_labels, label_map)
        dimensions = read_dimensions(table, label_scale, row_names)
        table[dimensions.columns] = dimensions
        if table["sentiment"].notna().any():
            table["sentiment"], sentiment_notices = map_sentiments(table["sentiment"])
        else:
            table["sentiment"], sentiment_notices = sentiment_of_valence(table["valence"], label_scale), []
        table["duration"], broken = _durations(table["audio"], row_names)
    except CorpusError as error:
        raise CorpusError(f"corpus {name}: {error}") from None

    notices += split_notices + emotion_notices + sentiment_notices + _missing(table) + _shared_speakers(table)
    splits = {
        split: Dataset.from_pandas(table[table["split"] == split], features=FEATURES, preserve_index=False)
        for split in SPLITS
        if (table["split"] == split).any()
    }
    folders = () if folder is None else (folder,)
    return Corpus(name, splits, label_scale, notices, license, language, folders, broken)


def check_audio(corpus: Corpus) -> None:
    """Raises one error for all audio files that are missing or unreadable."""
    broken = corpus.broken_audio
    if broken:
        first = "\n  ".join(broken[:20])
        rest = f"\n  and {len(broken) - 20} more" if len(broken) > 20 else ""
        raise CorpusError(
            f"corpus {corpus.name}: {len(broken)} audio files are missing or unreadable (paths are relative to the "
            f"metadata's folder; blank the path of a row that has no audio):\n  {first}{rest}"
        )


def clean_strings(values: pd.Series) -> pd.Series:
    """Values as stripped strings, None where there is nothing; whole numbers without a decimal point."""

    def clean(value: object) -> str | None:
        if value is None or value is pd.NA or value != value:  # NaN is the one value unequal to itself
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return str(value).strip() or None

    return pd.Series([clean(value) for value in values], index=values.index, dtype=object)


def is_known(speakers: pd.Series) -> pd.Series:
    """Which rows name a speaker; `Unknown`, as published corpora have it, names none."""
    return ~speakers.str.fullmatch("(.*/)?unknown", case=False, na=True)  # of several corpora: msp_podcast/Unknown


def _check_identity(table: pd.DataFrame, row_names: Sequence[str]) -> None:
    repeated = table["utterance_id"].duplicated(keep=False)
    if repeated.any():
        raise CorpusError(
            f"rows are told apart by utterance_id (where there is none, by the audio file's path without extension), "
            f"and these share one: {_named(row_names, repeated)}; give each row an utterance_id of its own"
        )
    empty = table["audio"].isna() & table["text"].isna()
    if empty.any():
        raise CorpusError(
            f"rows with neither audio nor text: {_named(row_names, empty)}; fill in one of the two or remove the rows"
        )


def _splits(given: pd.Series, row_names: Sequence[str]) -> tuple[pd.Series, list[str]]:
    """The splits' canonical names; all rows are test rows where the corpus has no splits at all."""
    if given.isna().all():
        return pd.Series("test", index=given.index), ["no split column: every row is in the split test"]
    splits = [canonical_split(name or "") for name in given]
    rows = zip(row_names, given, splits, strict=True)
    wrong = [f"{row}: {name or 'blank'}" for row, name, split in rows if split is None]
    if wrong:
        raise CorpusError(
            f"unknown splits in {name_some(wrong)}; rename them to one of ({split_spellings()}) or remove the rows"
        )
    return pd.Series(splits, index=given.index), []


def _durations(audio: pd.Series, row_names: Sequence[str]) -> tuple[list[float | None], list[str]]:
    """Seconds of each file by its header, None without one that can be read; a sentence for each that cannot."""

    def read_header(path: str | None) -> float | Exception | None:
        if path is None:
            return None
        if not Path(path).is_file():
            return FileNotFoundError("no such file")
        try:
            header = soundfile.info(path)
        except (soundfile.SoundFileError, OSError) as error:
            return error
        return header.duration if header.frames > 0 else ValueError("no samples in it")

    with ThreadPoolExecutor(_HEADER_READERS) as readers:
        found = list(readers.map(read_header, audio))
    rows = zip(row_names, audio, found, strict=True)
    broken = [f"{row}: {path}: {result}" for row, path, result in rows if isinstance(result, Exception)]
    return [None if isinstance(result, Exception) else result for result in found], broken


def _missing(table: pd.DataFrame) -> list[str]:
    counts = {what: int(table[what].isna().sum()) for what in ("audio", "text")}
    return [f"{n} of {len(table)} rows have no {what}" for what, n in counts.items() if n]


def _shared_speakers(table: pd.DataFrame) -> list[str]:
    known = table[is_known(table["speaker"])]
    splits_of = Counter(speaker for speaker, _ in set(zip(known["speaker"], known["split"], strict=True)))
    shared = sorted(speaker for speaker, n in splits_of.items() if n > 1)
    if not shared:
        return []
    return [f"speakers in more than one split, so scores are not on unseen speakers: {name_some(shared)}"]


def _named(row_names: Sequence[str], wanted: pd.Series) -> str:
    return name_some(name for name, is_wanted in zip(row_names, wanted, strict=True) if is_wanted)
