"""A folder with one timeline per recording, each written when the recording is finished, and an index of them.

A run that is killed goes on where it stopped: a recording that is in the index and whose file is there is not judged
again. Only the recordings that are on their way are held in memory.
"""

import json
import re
from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..files import write_text
from .answers import Row
from .archive import JsonLines, open_archive
from .formats import ENDINGS, times_of, write_timeline
from .inputs import InputError, recording_of

INDEX = "index.jsonl"
SCHEMA = pa.schema(
    {
        **{"id": pa.string(), "file": pa.string(), "rows": pa.int64()},
        **{"errors": pa.int64(), "error": pa.string()},
    }
)


class TimelineFolder:
    """Timelines in a folder. Its `index.jsonl` has a line per recording: `id` (the recording), `file` (None: there is
    nothing to show, such as for a recording that cannot be read), `rows`, `errors` (their number) and the first
    `error`. Files of the folder that are not in the index are never overwritten.

    Args:
        form: a format that marks times.
        manifest: what makes the results. A folder that something else made is refused.
        resume: whether to go on with the timelines that are there; otherwise they are replaced.

    Raises:
        ValueError: the folder is from another run.
    """

    def __init__(self, folder: Path, form: str, manifest: dict[str, Any], resume: bool):
        self.folder, self.form, path = folder, form, folder / INDEX
        if not resume and path.exists():
            for entry in JsonLines(path, SCHEMA).rows():
                if entry["file"] is not None:
                    (folder / entry["file"]).unlink(missing_ok=True)
        self.index = open_archive(path, "jsonl", SCHEMA, manifest | {"format": form}, resume)
        entries = list(self.index.rows()) if path.exists() else []
        whole = [entry for entry in entries if entry["file"] is None or (folder / entry["file"]).is_file()]
        if len(whole) < len(entries):  # of a run that was killed before the file was written, or a file was removed
            write_text(path, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in whole))
            self.index = JsonLines(path, SCHEMA)
        self.done = self.index.done
        self.rows_there = sum(entry["rows"] for entry in whole)

    def write(self, recording: str, rows: Sequence[Row]) -> None:
        """Add the timeline of a recording, all of whose rows are given."""
        errors = [row["error"] for row in rows if row["error"]]
        has_times = any(not row["error"] and times_of(row)[1] is not None for row in rows)
        file = self._free_name(recording) if has_times else None
        entry = {"id": recording, "file": file, "rows": len(rows), "errors": len(errors)}
        self.index.append([entry | {"error": errors[0] if errors else ""}])  # first: what has no file is done again
        if file is not None:
            write_timeline(rows, self.folder / file, self.form)

    def _free_name(self, recording: str) -> str:
        """`calls/a.wav` → `a.srt`, or `a-2.srt` if there is one of that name."""
        stem = Path(re.sub(r"[\\:*?\"<>|]+", "_", recording.partition("?")[0])).stem or "recording"
        number, name = 1, f"{stem}{ENDINGS[self.form]}"
        while (self.folder / name).exists():
            number += 1
            name = f"{stem}-{number}{ENDINGS[self.form]}"
        return name


@dataclass
class _Recording:
    """A recording on its way: its results, how many rows are asked for, and whether these are all."""

    results: list[Row] = field(default_factory=list)
    asked: int = 0
    is_closed: bool = False


class ByRecording:
    """Rows of recordings → their results, those of a recording together, when all of them are there.

    Args:
        done: the recordings that are left out.
    """

    def __init__(self, done: Container[str]):
        self._done = done
        self._seen: set[str] = set()
        self._open: dict[str, _Recording] = {}
        self._names: dict[str, str] = {}  # id of a row on its way → its recording
        self._finished: deque[str] = deque()

    def rows(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows to judge.

        Raises:
            InputError: the rows of a recording are not together.
        """
        current = None
        for row in rows:
            name = recording_of(row)
            if name in self._done:
                continue
            if name != current:
                if name in self._seen:
                    raise InputError(
                        f"the rows of {name} are not together, so that its timeline was written without some of them: "
                        "sort the table by its recordings, and start again with --resume false"
                    )
                self._close(current)
                self._seen.add(name)
                current, self._open[name] = name, _Recording()
            self._open[name].asked += 1
            self._names[row["id"]] = name
            yield row
        self._close(current)

    def _close(self, name: str | None) -> None:
        """No further row of a recording comes."""
        if name is not None:
            self._open[name].is_closed = True
            self._note(name)

    def _note(self, name: str) -> None:
        recording = self._open[name]
        if recording.is_closed and len(recording.results) == recording.asked:
            self._finished.append(name)

    def finished(self, results: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
        """Recordings and their results, as they are finished."""
        for result in results:
            name = self._names.pop(result["id"])
            self._open[name].results.append(result)
            self._note(name)
            del result  # it is held with its recording alone
            yield from self._take()
        yield from self._take()

    def _take(self) -> Iterator[tuple[str, list[Row]]]:
        while self._finished:
            name = self._finished.popleft()
            yield name, self._open.pop(name).results
