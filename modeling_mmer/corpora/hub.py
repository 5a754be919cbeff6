"""Data sets that `datasets` can load: `hf:NAME` from the hub, `hf:NAME:CONFIGURATION`, or `hf:FOLDER` that
`save_to_disk` wrote.

Columns are found or mapped as for a folder of one's own. Audio that lies within the data set is written to files once,
named by its content, below the cache of `datasets`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import pandas as pd
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Value
from datasets.exceptions import DatasetsError
from huggingface_hub import is_offline_mode, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from ..files import write_bytes
from ..model.hub_names import what_to_do
from .audio_folder import holds_recordings
from .columns import propose_columns, recognise_columns, require_input, require_single_values, resolve_map
from .folder import build_own, load_folder
from .folder import header as folder_header
from .schema import Corpus, CorpusError, canonical_split, split_spellings
from .spans import is_duration, with_times
from .votes import FIELD, gather_votes, vote_columns

PREFIX = "hf:"
SAMPLE = 1000  # rows of each split that are looked at for what a column holds


def hub_header(name: str) -> list[str]:
    """The names of the columns of the first split.

    Raises:
        CorpusError: it cannot be loaded.
    """
    if is_audio_folder(Path(name).expanduser()):
        return folder_header(name)
    return list(next(iter(open_splits(name).values())).column_names)


def load_hub(
    name: str,
    *,
    emotion_labels: Sequence[str],
    label_map: Mapping[str, str] | None = None,
    column_map: Mapping[str, str] | None = None,
    label_scale: Sequence[float] | None = None,
    speaker_fold: tuple[int, int] | None = None,
) -> Corpus:
    """Loads a data set with an audio or a text column.

    Args:
        name: as after `hf:`.
        speaker_fold: as of `load_folder`.

    Raises:
        CorpusError: it cannot be loaded; splits or columns are not recognised; whatever `build_corpus` finds wrong with
            the rows.
    """
    if is_audio_folder(Path(name).expanduser()):
        how = {"emotion_labels": emotion_labels, "label_map": label_map, "column_map": column_map}
        return load_folder(name, label_scale=label_scale, speaker_fold=speaker_fold, **how)
    splits = open_splits(name)
    columns = recognise_splits(splits, column_map or {}, name)
    parts, notices = [], []
    for split, rows in splits.items():
        part = read_split(rows, columns[split], split)
        raw = {name: rows[name] for name in filter(is_duration, rows.column_names)}
        part, said = with_times(part, columns[split], raw)
        parts.append(part)
        notices += said
    unused, advice = _unread(splits, columns)
    return build_own(
        Path(name.partition(":")[0]).name,
        pd.concat(parts, ignore_index=True),
        column_map=column_map or {},
        columns={field: column for of_split in columns.values() for field, column in of_split.items()},
        label_scale=label_scale,
        speaker_fold=speaker_fold,
        emotion_labels=emotion_labels,
        label_map=label_map,
        notices=[*dict.fromkeys(notices), *unused],
        advice=advice,
        license=next(iter(splits.values())).info.license or None,
        folder=audio_folder(),
    )


def is_audio_folder(path: Path) -> bool:
    """Whether a local folder holds recordings as files. `datasets` reads it only where torchcodec is installed."""
    return path.is_dir() and not _is_saved(path) and holds_recordings(path)


def _is_saved(path: Path) -> bool:
    return any((path / file).is_file() for file in ("state.json", "dataset_dict.json"))


def _unread(
    splits: Mapping[str, Dataset], columns: Mapping[str, Mapping[str, str]]
) -> tuple[list[str], dict[str, str]]:
    """A notice of the columns that no field is read from, and what they may be."""
    fields = {field: column for of_split in columns.values() for field, column in of_split.items()}
    used = {column for of_split in columns.values() for column in of_split.values()}
    unused: list[str] = []
    samples = []
    for rows in splits.values():
        plain = [name for name, feature in rows.features.items() if isinstance(feature, Value) and name not in used]
        samples.append(rows.select_columns(plain).select(range(min(len(rows), SAMPLE))).to_pandas())
        unused += [name for name in rows.column_names if name not in used and name not in unused]
    notices = [f"columns not used: {', '.join(unused)}"] if unused else []
    return notices, propose_columns(pd.concat(samples, ignore_index=True), fields)


def open_splits(name: str) -> dict[str, Dataset]:
    """The data set's splits by their own names."""
    try:
        if _is_saved(Path(name)):
            loaded = datasets.load_from_disk(name)
        else:
            path, _, configuration = name.partition(":")
            loaded = load_named(path, configuration or None)
    except (OSError, ValueError, RuntimeError, ImportError, DatasetsError) as error:
        # of a data set that cannot be generated, only the cause says why
        cause = error.__cause__ if isinstance(error, DatasetsError) and error.__cause__ else error
        raise CorpusError(f"{PREFIX}{name} cannot be loaded: {' '.join(str(cause).split())}") from error
    splits = dict(loaded) if isinstance(loaded, DatasetDict) else {"": loaded}
    return {split: _with_votes(rows) for split, rows in splits.items()}


def _with_votes(rows: Dataset) -> Dataset:
    """The rows with their columns of votes for single emotions as one."""
    if not (columns := vote_columns(rows.column_names)):
        return rows
    votes = gather_votes({name: rows[name][:] for name in columns})
    return rows.remove_columns(columns).add_column(FIELD, votes)


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


def recognise_splits(
    splits: Mapping[str, Dataset], column_map: Mapping[str, str], name: str
) -> dict[str, dict[str, str]]:
    """Field -> column for each split: their columns may differ.

    Raises:
        CorpusError: as `recognise_columns`; or a split has neither an audio nor a text column.
    """
    every = list(dict.fromkeys(column for rows in splits.values() for column in rows.column_names))
    mapped = resolve_map(column_map, every, f"{name} has the columns {', '.join(every)}")
    found = {}
    for split, rows in splits.items():
        here = {field: column if column in rows.column_names else "" for field, column in mapped.items()}
        of_split = f"{name}, split {split}" if split else name
        found[split] = recognise_columns(rows.column_names, here, of_split)
        if not found[split].keys() & {"audio", "text"}:
            require_input(rows.select([]).to_pandas(), found[split], of_split)
    return found


def read_split(rows: Dataset, columns: Mapping[str, str], split: str) -> pd.DataFrame:
    """One split as a raw table. Its own name counts unless a column says the split."""
    table = {}
    for field, column in columns.items():
        feature = rows.features[column]
        if field == "audio":
            table[field] = write_audio(rows, column)
        elif field == FIELD:
            table[field] = list(rows[column])
        elif isinstance(feature, ClassLabel):
            table[field] = [None if i is None or i < 0 else feature.int2str(i) for i in rows[column]]
        else:
            table[field] = require_single_values(list(rows[column]), field, column, split or "the data set")
    frame = pd.DataFrame(table, index=range(len(rows)))
    if "split" not in columns and split:
        if canonical_split(split) is None:
            raise CorpusError(f"the data set's split {split!r} is none of ours ({split_spellings()}); rename it")
        frame["split"] = split
    return frame


def write_audio(rows: Dataset, column: str) -> list[str | None]:
    """The file of each recording: the one it names if that is there, otherwise one with the bytes it holds."""
    if not isinstance(rows.features[column], Audio):
        return list(require_single_values(list(rows[column]), "audio", column, "the data set"))
    folder = audio_folder()
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
        write_bytes(folder / name, content)
    return str(folder / name)
