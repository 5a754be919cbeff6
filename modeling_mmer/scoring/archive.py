"""Results on disk: a file that is valid at every moment, and a manifest that says what made it.

A run that is killed goes on where it stopped: rows whose results are there are not judged again. The results of an
input are written together. JSON lines are appended to. Parquet and CSV are written as parts beside the file, from
which the file is made again whenever it has grown by half, and at the end.
"""

import csv
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..files import write_json, written_beside

Row = dict[str, Any]
SUFFIXES = (".jsonl", ".parquet", ".csv")


def manifest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.manifest.json")


def open_archive(
    path: Path, form: str, schema: pa.Schema, manifest: dict[str, Any], resume: bool
) -> "JsonLines | Parts":
    """The archive at a path, new or to be continued.

    Args:
        form: `jsonl`, `parquet` or `csv`.
        manifest: what made the results. A file that something else made is refused.
        resume: whether to go on with the results that are there; otherwise they are replaced.

    Raises:
        ValueError: the file is from another run, or from none that is known.
    """
    if not resume:
        for old in (path, parts_folder(path), manifest_path(path)):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    if path.exists() or parts_folder(path).exists():
        _require_same(path, manifest)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(manifest_path(path), manifest)
    return JsonLines(path, schema) if form == "jsonl" else Parts(path, form, schema)


def _require_same(path: Path, manifest: dict[str, Any]) -> None:
    advice = "choose another --output, or replace it with --resume false"
    if not manifest_path(path).is_file():
        raise ValueError(f"{path} exists, and there is no {manifest_path(path).name} that says what made it: {advice}.")
    then, now = json.loads(manifest_path(path).read_text(encoding="utf-8")), json.loads(json.dumps(manifest))
    changed = [name for name in now if name not in ("version", "model") and then.get(name) != now[name]]
    if changed:
        said = "; ".join(f"{name} was {then.get(name)!r} and is {now[name]!r}" for name in changed)
        raise ValueError(f"{path} has the results of another run ({said}): {advice}.")


class JsonLines:
    """Results as JSON lines, appended. An incomplete line, of a run that was killed, is removed."""

    seconds = 1  # between two writes

    def __init__(self, path: Path, schema: pa.Schema):
        self.path, self.names = path, schema.names
        self.done: set[str] = set()
        if path.exists():
            self._repair()

    def _repair(self) -> None:
        """Read the ids that are there. If the last line is incomplete, all of the id before it goes too: the line may
        belong to it."""
        complete, begin, last = 0, 0, None  # where the next line begins, and where the lines of the last id do
        with self.path.open("r+b") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    file.truncate(begin)
                    self.done.discard(last)
                    break
                if (name := json.loads(line)["id"]) != last:
                    begin, last = complete, name
                complete += len(line)
                self.done.add(name)

    def append(self, rows: Sequence[Row]) -> None:
        lines = [json.dumps({name: row[name] for name in self.names}, ensure_ascii=False) + "\n" for row in rows]
        with self.path.open("ab", buffering=0) as file:
            file.write("".join(lines).encode())
            os.fsync(file.fileno())
        self.done.update(row["id"] for row in rows)

    def finish(self) -> None:
        self.path.touch()

    def rows(self) -> Iterator[Row]:
        with self.path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def parts_folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.parts")


class Parts:
    """Results as Parquet parts, each whole or not there, and the file that is made of them."""

    seconds = 10  # between two parts
    GROWTH = 1.5  # the file is made again when it would be so many times as long

    def __init__(self, path: Path, form: str, schema: pa.Schema):
        self.path, self.form, self.schema, self.folder = path, form, schema, parts_folder(path)
        if not self.folder.exists() and path.exists():  # a finished run, to which rows may be added
            with written_beside(self.folder) as beside:
                beside.mkdir()
                _write(beside / "part-00000.parquet", [read_file(path, form, schema)], schema)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.done: set[str] = set()
        self.count = 0
        for part in self._parts():
            ids = pq.read_table(part, columns=["id"])["id"].to_pylist()
            self.done.update(ids)
            self.count += len(ids)
        self.in_file = self.count if path.exists() else 0

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def append(self, rows: Sequence[Row]) -> None:
        table = pa.Table.from_pylist([{name: row[name] for name in self.schema.names} for row in rows], self.schema)
        parts = self._parts()
        number = int(parts[-1].stem.removeprefix("part-")) + 1 if parts else 0
        with written_beside(self.folder / f"part-{number:05}.parquet") as beside:
            pq.write_table(table, beside)
        self.done.update(row["id"] for row in rows)
        self.count += len(rows)
        if self.count >= self.GROWTH * self.in_file:
            self._make_file()

    def _make_file(self) -> None:
        write_table(self.path, self.form, map(pq.read_table, self._parts()), self.schema)
        self.in_file = self.count

    def finish(self) -> None:
        """Make the file of all parts, and remove them."""
        self._make_file()
        trash = self.folder.with_name(f".{self.folder.name}.{uuid.uuid4().hex}.tmp")
        self.folder.rename(trash)
        shutil.rmtree(trash)

    def rows(self) -> Iterator[Row]:
        yield from read_file(self.path, self.form, self.schema).to_pylist()


def write_table(path: Path, form: str, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Write tables to a Parquet or CSV file, one after the other, atomically."""
    with written_beside(path) as beside:
        if form == "csv":
            with beside.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, schema.names)
                writer.writeheader()
                for table in tables:
                    writer.writerows(map(_cells, table.to_pylist()))
        else:
            _write(beside, tables, schema)


def _write(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    with pq.ParquetWriter(path, schema) as writer:
        for table in tables:
            writer.write_table(table)


def _cells(row: Row) -> Row:
    """Lists as JSON, and truth as JSON has it; a missing value is an empty cell."""
    as_json = {name: json.dumps(value) for name, value in row.items() if isinstance(value, list | bool)}
    return {name: "" if value is None else value for name, value in row.items()} | as_json


def read_file(path: Path, form: str, schema: pa.Schema) -> pa.Table:
    """The results in a Parquet or CSV file."""
    if form == "parquet":
        return pq.read_table(path, schema=schema)
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            {name: _value(row[name], schema.field(name).type) for name in schema.names} for row in csv.DictReader(file)
        ]
    return pa.Table.from_pylist(rows, schema)


def _value(cell: str, kind: pa.DataType) -> Any:
    if pa.types.is_string(kind):
        return cell or None
    return json.loads(cell) if cell else None
