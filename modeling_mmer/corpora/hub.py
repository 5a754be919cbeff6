"""Data sets that `datasets` can load: `hf:NAME` from the hub, `hf:NAME:CONFIGURATION`, or `hf:FOLDER` that
`save_to_disk` wrote.

Columns are found or mapped as for a folder of one's own. Audio that lies within the data set is written to files once,
named by its content, below the cache of `datasets`.
"""

import hashlib
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import datasets
import pandas as pd
from datasets import Audio, ClassLabel, Dataset, DatasetDict
from huggingface_hub import is_offline_mode, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from ..hub_names import what_to_do
from .folder import DEFAULT_SCALE, drop_emptied, recognise_columns
from .rows import build_corpus
from .schema import Corpus, CorpusError, canonical_split, check_scale, split_spellings
from .spans import is_duration, with_times

PREFIX = "hf:"


def hub_header(name: str) -> list[str]:
    """The names of the columns of the first split.

    Raises:
        CorpusError: it cannot be loaded.
    """
    return list(next(iter(open_splits(name).values())).column_names)


def load_hub(
    name: str,
    *,
    emotion_labels: Sequence[str],
    label_map: Mapping[str, str] | None = None,
    column_map: Mapping[str, str] | None = None,
    label_scale: Sequence[float] | None = None,
) -> Corpus:
    """Loads a data set with an audio or a text column.

    Args:
        name: as after `hf:`.

    Raises:
        CorpusError: it cannot be loaded; splits or columns are not recognised; whatever `build_corpus` finds wrong with
            the rows.
    """
    splits = open_splits(name)
    first = next(iter(splits.values()))
    columns = recognise_columns(first.column_names, column_map or {}, Path(name))
    table = pd.concat([read_split(rows, columns, split) for split, rows in splits.items()], ignore_index=True)
    durations = filter(is_duration, first.column_names)
    raw = {name: [value for rows in splits.values() for value in rows[name]] for name in durations}
    table, time_notices = with_times(table, columns, raw)
    table, notices = drop_emptied(table, column_map or {})
    unused = [column for column in first.column_names if column not in columns.values()]
    corpus = build_corpus(
        Path(name.partition(":")[0]).name,
        table,
        label_scale=DEFAULT_SCALE if label_scale is None else check_scale(label_scale),
        emotion_labels=emotion_labels,
        label_map=label_map,
        notices=time_notices + notices + ([f"columns not used: {', '.join(unused)}"] if unused else []),
        license=first.info.license or None,
        folder=audio_folder(),
    )
    return replace(corpus, columns=columns)


def open_splits(name: str) -> dict[str, Dataset]:
    """The data set's splits by their own names."""
    try:
        if Path(name).is_dir() and any((Path(name) / file).is_file() for file in ("state.json", "dataset_dict.json")):
            loaded = datasets.load_from_disk(name)
        else:
            path, _, configuration = name.partition(":")
            loaded = load_named(path, configuration or None)
    except (OSError, ValueError, RuntimeError) as error:
        raise CorpusError(f"{PREFIX}{name} cannot be loaded: {error}") from error
    return dict(loaded) if isinstance(loaded, DatasetDict) else {"": loaded}


def load_named(path: str, configuration: str | None) -> DatasetDict:
    """What `datasets` makes of a name or folder; offline, also of files that `hf download` put into the hub's cache,
    which `datasets` itself does not look at.

    Raises:
        OSError, ValueError, RuntimeError: it cannot be loaded.
    """
    try:
        return datasets.load_dataset(path, configuration)
    except ConnectionError:
        try:
            folder = snapshot_download(path, repo_type="dataset", local_files_only=True)
        except (HFValidationError, LocalEntryNotFoundError) as error:
            why = what_to_do(path, error, offline=is_offline_mode(), kind="data set")
            raise OSError(why[0].lower() + why[1:].removesuffix(".")) from error
    return datasets.load_dataset(folder, configuration)


def read_split(rows: Dataset, columns: Mapping[str, str], split: str) -> pd.DataFrame:
    """One split as a raw table. Its own name counts unless a column says the split."""
    table = {}
    for field, column in columns.items():
        feature = rows.features[column]
        if field == "audio":
            table[field] = write_audio(rows, column)
        elif isinstance(feature, ClassLabel):
            table[field] = [None if i is None or i < 0 else feature.int2str(i) for i in rows[column]]
        else:
            table[field] = list(rows[column])
    frame = pd.DataFrame(table, index=range(len(rows)))
    if "split" not in columns and split:
        if canonical_split(split) is None:
            raise CorpusError(f"the data set's split {split!r} is none of ours ({split_spellings()}); rename it")
        frame["split"] = split
    return frame


def write_audio(rows: Dataset, column: str) -> list[str | None]:
    """The file of each recording: the one it names if that is there, otherwise one with the bytes it holds."""
    if not isinstance(rows.features[column], Audio):
        return list(rows[column])
    folder = audio_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return [write_one(folder, recording) for recording in rows.cast_column(column, Audio(decode=False))[column]]


def audio_folder() -> Path:
    return Path(datasets.config.HF_DATASETS_CACHE) / "mmer_audio"


def write_one(folder: Path, recording: Mapping[str, object] | None) -> str | None:
    if recording is None:
        return None
    content, path = recording["bytes"], recording["path"]
    if content is None:
        return path
    name = hashlib.sha256(content).hexdigest() + (Path(path).suffix if path else ".wav")
    if not (folder / name).is_file():
        beside = folder / f".{uuid.uuid4().hex}"
        beside.write_bytes(content)
        os.replace(beside, folder / name)
    return str(folder / name)
