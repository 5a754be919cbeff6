"""People's own data: a folder with `metadata.csv`, `.jsonl` or `.parquet`, or such a file; one row per utterance.

Columns are found by name (`COLUMN_NAMES`), or named by the user: `column_map={"text": "my_transcripts"}`. Audio paths
are relative to the metadata's folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pandas as pd

from .rows import build_corpus, clean_strings
from .schema import Corpus, CorpusError, check_scale
from .spans import name_spans, with_times

COLUMN_NAMES = {
    "utterance_id": ("utterance_id",),
    "audio": ("audio", "path", "file", "file_name", "wav"),
    "start": ("start", "start_time", "begin", "begin_time", "onset", "start_s", "start_ms", "start_time_ms"),
    "end": ("end", "end_time", "offset", "stop", "end_s", "end_ms", "end_time_ms"),
    "text": ("text", "transcription", "transcript", "Utterance", "sentence", "to_translate"),
    "emotion": ("emotion", "EmoClass", "major_emotion", "label", "Emotion"),
    "sentiment": ("sentiment", "Sentiment"),
    "valence": ("EmoVal", "valence"),
    "arousal": ("EmoAct", "arousal", "activation"),
    "dominance": ("EmoDom", "dominance", "domination"),
    "speaker": ("SpkrID", "speaker", "speaker_id", "Speaker"),
    "split": ("Split_Set", "split", "partition"),
}
SUFFIXES = (".csv", ".jsonl", ".parquet")
DEFAULT_SCALE = (1.0, 7.0)


def header(directory: str | Path) -> list[str]:
    """The names of the columns.

    Raises:
        CorpusError: as `load_folder`.
    """
    return [str(column) for column in read_table(find_metadata(Path(directory))).columns]


def load_folder(
    directory: str | Path,
    *,
    emotion_labels: Sequence[str],
    label_map: Mapping[str, str] | None = None,
    column_map: Mapping[str, str] | None = None,
    label_scale: Sequence[float] | None = None,
) -> Corpus:
    """Loads a folder of one's own; `directory` is the folder or its metadata file.

    Raises:
        CorpusError: no metadata or several; a file that cannot be parsed; columns that are ambiguous, or mapped but
            absent; neither an audio nor a text column; whatever `build_corpus` finds wrong with the rows.
    """
    file = find_metadata(Path(directory))
    raw = read_table(file)
    columns = recognise_columns(list(raw.columns), column_map or {}, file)
    table = pd.DataFrame({field: raw[column] for field, column in columns.items()}, index=raw.index)
    table, time_notices = with_times(table, columns, raw)
    if "audio" in table:
        relative = clean_strings(_paths_only(table["audio"], file))
        table["audio"] = relative.map(lambda path: path and str(file.parent / path))
        _fill_ids(table, relative)
    table, notices = drop_emptied(table, column_map or {})
    unused = [str(column) for column in raw.columns if column not in columns.values()]
    corpus = build_corpus(
        _corpus_name(file),
        table,
        label_scale=DEFAULT_SCALE if label_scale is None else check_scale(label_scale),
        emotion_labels=emotion_labels,
        label_map=label_map,
        notices=time_notices + notices + ([f"columns not used: {', '.join(unused)}"] if unused else []),
        folder=file.parent,
    )
    return replace(corpus, columns=columns)


def drop_emptied(table: pd.DataFrame, column_map: Mapping[str, str]) -> tuple[pd.DataFrame, list[str]]:
    """Leave out, and count, the rows that have nothing once `column_map` leaves audio or text unread."""
    unread = [field for field in ("audio", "text") if column_map.get(field) == ""]
    if not unread:
        return table, []
    kept = table.columns.intersection(["audio", "text"])
    empty = table[kept].apply(clean_strings).isna().all(axis=1)
    notices = [
        f"{empty.sum()} of {len(table)} rows have nothing but the {unread[0]}, which is not read; they are left out"
    ]
    return table[~empty].reset_index(drop=True), notices if empty.any() else []


def find_metadata(path: Path) -> Path:
    """The metadata file at or in `path`: `metadata.*` if there is one, otherwise the only table.

    Raises:
        CorpusError: there is none, or more than one.
    """
    path = path.expanduser().absolute()
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise CorpusError(f"{path} is not a {', '.join(SUFFIXES)} file")
        return path
    if not path.is_dir():
        raise CorpusError(f"no such folder or file: {path}")
    tables = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    found = [file for file in tables if file.stem == "metadata"] or tables
    if len(found) == 1:
        return found[0]
    if not found:
        names = ", ".join(f"metadata{suffix}" for suffix in SUFFIXES)
        raise CorpusError(f"{path} has no metadata: looked for {names}, then for a single file of one of these kinds")
    raise CorpusError(f"{path} has several tables, {', '.join(file.name for file in found)}; name the one to read")


def read_table(file: Path) -> pd.DataFrame:
    """The table as it is written: strings stay strings, only blank cells are missing.

    Raises:
        CorpusError: the file cannot be parsed.
    """
    try:
        if file.suffix == ".csv":
            return pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
        if file.suffix == ".jsonl":
            return pd.read_json(file, lines=True, dtype=False, precise_float=True)
        return pd.read_parquet(file)
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parsing errors are ValueErrors
        raise CorpusError(f"{file} cannot be read as {file.suffix[1:]}: {error}") from error


def recognise_columns(columns: Sequence[str], column_map: Mapping[str, str], file: Path) -> dict[str, str]:
    """Field -> column, for the fields that the table has.

    Raises:
        CorpusError: `column_map` (where "" leaves a field unread) names an unknown field or an absent column; a field
            has two candidates; there is neither an audio nor a text column.
    """
    has = f"{file.name} has the columns {', '.join(map(str, columns))}"
    for field, column in column_map.items():
        if field not in COLUMN_NAMES:
            raise CorpusError(f"column_map: no field {field!r}; the fields are {', '.join(COLUMN_NAMES)}")
        if column and column not in columns:
            raise CorpusError(f"column_map: {field}={column}, but {has}")
    found = {field: column for field, column in column_map.items() if column}
    for field, names in COLUMN_NAMES.items():
        candidates = [name for name in names if name in columns and name not in column_map.values()]
        if field in column_map or not candidates:
            continue
        if len(candidates) > 1:
            raise CorpusError(
                f"{file.name}: {' and '.join(candidates)} could each be the {field}; say which, with "
                f"--column_map {field}={candidates[0]} or --column_map {field}={candidates[1]}"
            )
        found[field] = candidates[0]
    if not found.keys() & {"audio", "text"}:
        looked_for = ", ".join(COLUMN_NAMES["audio"] + COLUMN_NAMES["text"])
        raise CorpusError(
            f"{file.name} has neither an audio nor a text column: {has}, and none of {looked_for}; "
            f"say which it is, with --column_map audio=COLUMN or --column_map text=COLUMN"
        )
    return found


def _paths_only(audio: pd.Series, file: Path) -> pd.Series:
    embedded = audio.map(lambda value: isinstance(value, (dict, bytes, list)))
    if embedded.any():
        raise CorpusError(f"{file.name}: the audio column must hold paths of files, not the audio itself")
    return audio


def _fill_ids(table: pd.DataFrame, relative: pd.Series) -> None:
    """Where a row has no utterance_id, its audio path without extension takes the place; and its span, if it is one."""
    from_path = relative.map(lambda path: path and str(PurePosixPath(path.replace("\\", "/")).with_suffix("")))
    from_path = name_spans(from_path, table)
    given = clean_strings(table["utterance_id"]) if "utterance_id" in table else from_path
    table["utterance_id"] = given.where(given.notna(), from_path)


def _corpus_name(file: Path) -> str:
    return file.parent.resolve().name if file.stem == "metadata" else file.stem
