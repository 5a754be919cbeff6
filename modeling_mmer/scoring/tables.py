"""Tables and data sets → rows. Columns are found by their usual names, as for a corpus (`corpora/columns.py`)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..corpora.columns import recognise_columns, require_input
from ..corpora.hub import open_splits
from ..corpora.schema import CorpusError
from ..corpora.spans import is_duration, with_times
from ..corpora.tables import read_table

AT_ONCE = 256  # rows: a Parquet file may hold the recordings themselves
FIELDS = ("audio", "start", "end", "text", "speaker")

Row = dict[str, Any]


def count_rows(file: Path) -> int | None:
    """The number of rows of a Parquet file; of other tables None: they would have to be read."""
    if file.suffix.lower() != ".parquet":
        return None
    try:
        return pq.read_metadata(file).num_rows
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{file} cannot be read as parquet: {error}") from error


def table_rows(file: Path, column_map: Mapping[str, str]) -> Iterator[Row]:
    """The rows of a CSV, TSV, JSON lines or Parquet file. Audio paths are relative to its folder.

    Raises:
        CorpusError: it cannot be read, or has neither an audio nor a text column.
    """
    if file.suffix.lower() == ".parquet":
        with pq.ParquetFile(file) as parquet:
            frames = (batch.to_pandas() for batch in parquet.iter_batches(AT_ONCE))
            yield from _rows(frames, parquet.schema_arrow.names, column_map, file.name, file.parent)
    else:
        table = read_table(file)
        yield from _rows([table], list(table.columns), column_map, file.name, file.parent)


def hub_rows(name: str, column_map: Mapping[str, str]) -> tuple[Callable[[], Iterator[Row]], int]:
    """A data set that `datasets` loads: how to read its rows, all splits one after the other, and their number."""
    splits = open_splits(name)
    return partial(_hub_rows, splits, name, column_map), sum(map(len, splits.values()))


def _hub_rows(splits: Mapping[str, datasets.Dataset], name: str, column_map: Mapping[str, str]) -> Iterator[Row]:
    for split, rows in splits.items():
        for column, feature in rows.features.items():
            if isinstance(feature, datasets.Audio):
                rows = rows.cast_column(column, datasets.Audio(decode=False))
        frames = (pd.DataFrame({k: pd.Series(v, dtype=object) for k, v in b.items()}) for b in rows.iter(AT_ONCE))
        yield from _rows(frames, rows.column_names, column_map, f"{name} {split}".strip(), None)


def _rows(
    frames: Iterable[pd.DataFrame], names: Sequence[str], column_map: Mapping[str, str], name: str, folder: Path | None
) -> Iterator[Row]:
    columns = recognise_columns(names, column_map, name)
    require_input(pd.DataFrame(columns=list(names)), columns, name)
    own = next((column for column in (columns.get("utterance_id"), "id") if column in names), None)
    number = 0
    for frame in frames:
        fields = pd.DataFrame({f: frame[columns[f]] for f in FIELDS if f in columns}, index=frame.index).astype(object)
        fields, _ = with_times(fields, columns, {column: frame[column] for column in filter(is_duration, names)})
        for place in range(len(frame)):
            number += 1
            row = {f: fields[f].iloc[place] for f in fields.columns}
            row |= {t: _seconds(row[t]) for t in ("start", "end") if t in row}
            given = None if own is None else frame[own].iloc[place]
            if isinstance(row.get("audio"), str):
                row["audio"] = _located(row["audio"], folder)
            anonymous = f"{name} row {number}" if not isinstance(row.get("audio"), str) else None
            yield {**row, "id": anonymous if pd.api.types.is_scalar(given) and pd.isna(given) else str(given)}


def _located(audio: str, folder: Path | None) -> str | None:
    if not audio.strip():
        return None
    is_url = audio.startswith(("http://", "https://", "data:"))
    return audio if is_url or folder is None else str(folder / audio.replace("\\", "/"))


def _seconds(value: Any) -> Any:
    """A time that a table gives as text as a number; anything else as it is, which reading the row will refuse."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
