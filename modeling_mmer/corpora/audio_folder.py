"""What `datasets` calls an AudioFolder: recordings in folders named after classes, splits, or both; or a table for each
split (`train/metadata.csv`, `test/metadata.csv`)."""

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pandas as pd

from .recordings import AUDIO_SUFFIXES
from .schema import CorpusError, canonical_split, counted


def find_split_tables(root: Path, tables_in: Callable[[Path], list[Path]]) -> list[tuple[str, Path]]:
    """The splits of a folder and the metadata of each, where its folders are named after splits and hold some.

    Raises:
        CorpusError: one of them holds several tables, or recordings that none describes.
    """
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and canonical_split(folder.name))
    tables = {folder: tables_in(folder) for folder in folders}
    if not any(tables.values()):
        return []
    for folder, files in tables.items():
        if len(files) > 1:
            raise CorpusError(
                f"{folder} has several tables, {', '.join(file.name for file in files)}; leave one of them"
            )
        if not files and holds_recordings(folder):
            described = next(folder.name for folder, files in tables.items() if files)
            raise CorpusError(f"{folder} holds recordings but no metadata, which {described} has: give it one")
    return [(folder.name, files[0]) for folder, files in tables.items() if files]


def holds_recordings(root: Path) -> bool:
    return any(name.lower().endswith(AUDIO_SUFFIXES) for _, _, names in os.walk(root) for name in names)


def read_classes(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """A row for each recording below `root`: its emotion is the folder that it lies in, its split the folder above."""
    rows = []
    for path in sorted(path for path in root.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES):
        *folders, name = path.relative_to(root).parts
        if not path.is_file() or any(part[0] == "." for part in (*folders, name)):
            continue
        splits = [folder for folder in folders if canonical_split(folder)]
        classes = [folder for folder in folders if not canonical_split(folder)]
        rows.append(
            {
                "utterance_id": str(path.relative_to(root).with_suffix("")),
                "audio": str(path),
                "emotion": classes[-1] if classes else None,
                "split": splits[0] if splits else None,
            }
        )
    table = pd.DataFrame(rows, columns=["utterance_id", "audio", "emotion", "split"], dtype=object)
    if (twice := table["utterance_id"].duplicated(keep=False)).any():  # a.wav beside a.flac
        table.loc[twice, "utterance_id"] = [str(Path(path).relative_to(root)) for path in table["audio"][twice]]
    return table, [f"no table: the emotions of {counted(len(table), 'recording')} are the names of folders"]


def split_of_paths(table: pd.DataFrame, root: Path, notices: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """A table without splits, with those of the folders that its recordings lie in, if each lies in one of a split."""
    paths = [None if path is None else PurePosixPath(path.replace("\\", "/")) for path in table["audio"]]
    inside = [path.relative_to(root).parts if path and path.is_relative_to(root) else () for path in paths]
    splits = [parts[0] if len(parts) > 1 and canonical_split(parts[0]) else None for parts in inside]
    if not splits or None in splits:
        return table, notices
    return table.assign(split=splits), [*notices, "no split column: the splits are the folders of the recordings"]
