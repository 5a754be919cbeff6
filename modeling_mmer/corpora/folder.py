"""People's own data: a folder with `metadata.csv`, `.tsv`, `.jsonl` or `.parquet`, or such a file; a row per utterance.

Columns are found by name (`columns.py`), or named by the user: `column_map={"text": "my_transcripts"}`. Audio paths are
relative to the metadata's folder. A folder that `datasets` calls an AudioFolder is read as well (`audio_folder.py`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from .audio_folder import find_split_tables, holds_recordings, read_classes, split_of_paths
from .columns import (
    COLUMN_NAMES,
    as_fields,
    drop_emptied,
    propose_columns,
    recognise_columns,
    require_input,
    unused_columns,
)
from .labels import doubt_scale
from .recordings import AUDIO_SUFFIXES
from .rows import build_corpus, clean_strings
from .schema import DIMENSIONS, Corpus, CorpusError, canonical_split, check_scale
from .spans import name_spans, with_times
from .speaker_splits import split_by_fold
from .tables import SUFFIXES, read_table
from .votes import with_votes

__all__ = ["COLUMN_NAMES", "DEFAULT_SCALE", "build_own", "find_metadata", "load_folder", "read_table"]

DEFAULT_SCALE = (1.0, 7.0)
_EXTENSION = re.compile(rf"(?<=[^/])(?:{'|'.join(map(re.escape, AUDIO_SUFFIXES))})$", re.IGNORECASE)
CLASS_FOLDERS = {"audio": "audio", "emotion": "emotion"}  # the columns of recordings in folders named after classes


def header(directory: str | Path) -> list[str]:
    """The names of the columns.

    Raises:
        CorpusError: as `load_folder`.
    """
    path = Path(directory).expanduser().absolute()
    if tables := _split_tables(path):
        return list(with_votes(read_table(tables[0][1])).columns)
    if path.is_dir() and not _tables(path):
        return list(CLASS_FOLDERS.values())
    return list(with_votes(read_table(find_metadata(path))).columns)


def load_folder(
    directory: str | Path,
    *,
    emotion_labels: Sequence[str],
    label_map: Mapping[str, str] | None = None,
    column_map: Mapping[str, str] | None = None,
    label_scale: Sequence[float] | None = None,
    speaker_fold: tuple[int, int] | None = None,
) -> Corpus:
    """Loads a folder of one's own; `directory` is the folder or its metadata file.

    Args:
        speaker_fold: a fold of a cross-validation by speaker, from 1, and the number of folds.

    Raises:
        CorpusError: no metadata or several; a file that cannot be parsed; columns that are ambiguous, or mapped but
            absent; neither an audio nor a text column; no folds of speakers; whatever `build_corpus` finds wrong with
            the rows.
    """
    path = Path(directory).expanduser().absolute()
    how = {"emotion_labels": emotion_labels, "label_map": label_map, "column_map": column_map or {}}
    how |= {"label_scale": label_scale, "speaker_fold": speaker_fold}
    if path.is_dir() and (_split_tables(path) or not _tables(path)):
        return _load_audio_folder(path, **how)
    file = find_metadata(path)
    notices: list[str] = []
    table, columns, advice = read_metadata(file, column_map or {}, notices)
    if "split" not in table and "audio" in table and "split" not in advice and speaker_fold is None:
        table, notices = split_of_paths(table, file.parent, notices)
    name = file.parent.resolve().name if file.stem.lower() == "metadata" else file.stem
    how |= {"columns": columns, "advice": advice, "folder": file.parent}
    return build_own(name, table, notices=notices, **how)


def build_own(
    name: str,
    table: pd.DataFrame,
    *,
    column_map: Mapping[str, str],
    columns: Mapping[str, str],
    label_scale: Sequence[float] | None,
    speaker_fold: tuple[int, int] | None,
    notices: Sequence[str],
    **facts: object,
) -> Corpus:
    """A corpus of people's own data, whose scale they declare, from a table with the schema's fields, which were read
    from `columns`."""
    table, emptied = drop_emptied(table, column_map)
    caveats: list[str] = []
    if speaker_fold is not None:
        speakers = clean_strings(table.get("speaker", pd.Series(None, table.index, object)), one_line=True)
        split, of_fold = split_by_fold(speakers, *speaker_fold)
        table, notices = table.assign(split=split), [*notices, *of_fold]
        caveats.append(f"cross-validated by speaker in {speaker_fold[1]} folds, in place of the corpus's own splits")
    scale = DEFAULT_SCALE if label_scale is None else check_scale(label_scale)
    present = table.columns.intersection(DIMENSIONS)
    caveats += doubt_scale(table[present], scale) if label_scale is None else []
    corpus = build_corpus(name, table, label_scale=scale, notices=[*notices, *emptied], caveats=caveats, **facts)
    return replace(corpus, columns=dict(columns))


def read_metadata(
    file: Path, column_map: Mapping[str, str], notices: list[str], root: Path | None = None
) -> tuple[pd.DataFrame, dict[str, str], dict[str, str]]:
    """A metadata file under the schema's names, with absolute paths and ids of them; the columns of the fields, and
    advice on fields it lacks.

    Args:
        notices: what was noticed on the way is added to it.
        root: the folder that ids are relative to, if it is not the file's own.
    """
    raw = with_votes(read_table(file, notices))
    columns = recognise_columns(list(raw.columns), column_map, file.name)
    require_input(raw, columns, file.name)
    table = as_fields(raw, columns, file.name)
    table, time_notices = with_times(table, columns, raw)
    if "audio" in table:
        relative = clean_strings(table["audio"])
        table["audio"] = _each(relative, lambda path: str(file.parent / path))
        below = Path() if root is None else file.parent.relative_to(root)
        _fill_ids(table, _each(relative, lambda path: str(below / path)))
    notices += [said for said in (*time_notices, *unused_columns(raw, columns)) if said not in notices]
    return table, columns, propose_columns(raw, columns)


def _each(paths: pd.Series, change: Callable[[str], str]) -> pd.Series:
    return pd.Series([path and change(path) for path in paths], index=paths.index, dtype=object)


def _load_audio_folder(
    path: Path,
    *,
    emotion_labels: Sequence[str],
    label_map: Mapping[str, str] | None,
    column_map: Mapping[str, str],
    label_scale: Sequence[float] | None,
    speaker_fold: tuple[int, int] | None,
) -> Corpus:
    """A folder without a table of its own: with one for each split, or with recordings in folders of classes."""
    notices: list[str] = []
    advice: dict[str, str] = {}
    columns = CLASS_FOLDERS
    if tables := _split_tables(path):
        parts = []
        for split, file in tables:
            part, columns, advice = read_metadata(file, column_map, notices, root=path)
            part["place"] = [f"{file.relative_to(path)} row {i}" for i in range(1, len(part) + 1)]
            parts.append(part if "split" in part else part.assign(split=split))
        table = pd.concat(parts, ignore_index=True)
    elif below := [
        file for file in path.rglob("*") if file.stem.lower() == "metadata" and file.suffix.lower() in SUFFIXES
    ]:
        raise CorpusError(
            f"{path} has no table, but {below[0].relative_to(path)} lies below it: name the folder that holds it, or "
            "the one that holds the folders of the splits, with --corpus_dir"
        )
    elif holds_recordings(path):
        if column_map:
            raise CorpusError(f"column_map has no effect on {path}, which has no table; its folders name the emotions")
        table, notices = read_classes(path)
    else:
        find_metadata(path)  # which says what was looked for
    how = {"emotion_labels": emotion_labels, "label_map": label_map, "column_map": column_map}
    how |= {"columns": columns, "advice": advice, "label_scale": label_scale, "speaker_fold": speaker_fold}
    return build_own(path.resolve().name, table, notices=notices, folder=path, **how)


def find_metadata(path: Path) -> Path:
    """The metadata file at or in `path`: `metadata.*` if there is one, otherwise the only table.

    Raises:
        CorpusError: there is none, or more than one.
    """
    path = path.expanduser().absolute()
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise CorpusError(f"{path} is not a {', '.join(SUFFIXES)} file; save it as one of these")
        return path
    if not path.is_dir():
        raise CorpusError(f"no such folder or file: {path}")
    found = _tables(path)
    if len(found) == 1:
        return found[0]
    if not found:
        names = ", ".join(f"metadata{suffix}" for suffix in SUFFIXES)
        raise CorpusError(
            f"{path} has no metadata: looked for {names}, then for a single file of one of these kinds, for one in "
            "folders named after splits, and for recordings in folders named after emotions"
        )
    raise CorpusError(f"{path} has several tables, {', '.join(file.name for file in found)}; name the one to read")


def _tables(folder: Path) -> list[Path]:
    """The files of a folder that may be its metadata."""
    tables = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
    return [file for file in tables if file.stem.lower() == "metadata"] or tables


def _split_tables(path: Path) -> list[tuple[str, Path]]:
    """The splits of a folder and the table of each: `train.csv` and `test.csv`, or `train/metadata.csv` and so on."""
    if not path.is_dir():
        return []
    files = _tables(path)
    splits = {canonical_split(file.stem) for file in files}
    if len(files) > 1 and None not in splits and len(splits) == len(files):
        return [(file.stem, file) for file in files]
    return [] if files else find_split_tables(path, _tables)


def _fill_ids(table: pd.DataFrame, relative: pd.Series) -> None:
    """Where a row has no utterance_id, its audio path without extension takes the place; and its span, if it is one."""
    from_path = _each(relative, lambda path: _EXTENSION.sub("", path.replace("\\", "/")))
    from_path = name_spans(from_path, table)
    given = clean_strings(table["utterance_id"]) if "utterance_id" in table else from_path
    table["utterance_id"] = given.where(given.notna(), from_path)
