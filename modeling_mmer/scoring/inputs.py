"""What a user names → rows: files, folders, globs, tables, data sets of `datasets`, URLs, a text, standard input.

Rows are dicts with the columns that [`Scorer`] takes, and an `id` that no other row has.
"""

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from ..corpora.recordings import AUDIO_SUFFIXES, seconds_text
from ..corpora.tables import SUFFIXES as TABLES
from ..model.waveforms import is_missing
from .answers import is_path
from .stdin import rows_of_stream
from .tables import count_rows, hub_rows, table_rows
from .turns import turns_of

STDIN, HUB, URLS = "-", "hf:", ("http://", "https://")
RECORDINGS = (*AUDIO_SUFFIXES, ".mp4", ".webm", ".mka", ".wma", ".amr")  # of a folder: what names of recordings end in

Row = dict[str, Any]


class InputError(ValueError):
    """An input cannot be meant as it is given: a wrong call."""


@dataclass
class Source:
    """An input: what it is called, how many rows it has (None: not known in advance), and how to read them."""

    name: str
    count: int | None
    read: Callable[[], Iterable[Row]]


def find_sources(
    inputs: Sequence[str], column_map: Mapping[str, str] | None = None, stdin: BinaryIO | None = None
) -> list[Source]:
    """The sources that inputs name, in their order. Nothing but headers is read yet.

    Args:
        column_map: field → column of tables and data sets, where they are not found by their names.
        stdin: what `-` reads; by default standard input.

    Raises:
        InputError: an input does not exist, or a folder or glob has no recordings.
        CorpusError: a table or data set cannot be read, or has no audio or text column.
    """
    if list(inputs).count(STDIN) > 1:
        raise InputError("standard input (-) can be read only once")
    find = partial(_find_source, column_map=column_map or {}, stdin=stdin)
    return [source for given in inputs for source in find(given)]


def _find_source(given: str, column_map: Mapping[str, str], stdin: BinaryIO | None) -> list[Source]:
    if given == STDIN:
        return [Source("standard input", None, partial(rows_of_stream, stdin or sys.stdin.buffer))]
    if given.startswith(HUB):
        rows, count = hub_rows(given.removeprefix(HUB), column_map)
        return [Source(given, count, rows)]
    if given.startswith(URLS):
        return [Source(given, 1, partial(_recordings, [given]))]
    path = Path(given)
    if path.is_dir():
        found = list(recordings_below(path))
        if not found:
            raise InputError(f"{given} holds no recordings (files that end in {', '.join(RECORDINGS[:5])} …)")
        return [Source(given, len(found), partial(_recordings, found))]
    if path.is_file():
        if path.suffix.lower() in TABLES:
            return [Source(given, count_rows(path), partial(table_rows, path, column_map))]
        return [Source(given, 1, partial(_recordings, [given]))]
    if glob.has_magic(given):
        found = sorted(glob.glob(given, recursive=True))
        if not found:
            raise InputError(f"no file matches {given}")
        return [source for one in found for source in _find_source(one, column_map, stdin)]
    raise InputError(
        f"there is no file or folder {given}; give a file, a folder, a glob, a table, hf:NAME, or - for standard input"
    )


def recordings_below(folder: Path) -> Iterator[str]:
    """The recordings in a folder and its subfolders, in the order of their names; hidden ones are left out."""
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(RECORDINGS) and not name.startswith("."):
                yield os.path.join(root, name)


def _recordings(paths: Iterable[str]) -> Iterator[Row]:
    return ({"id": path, "audio": path} for path in paths)


def identified(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows with distinct ids: their own, or the recording and its span. A second row with the same is `…#2`.

    Files that are named twice, by a folder and a glob, are one row.
    """
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        own = row.get("id")
        name = _name(row) or f"row {number}" if is_missing(own) else str(own)
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1 and own is not None and own == row.get("audio"):
            continue
        yield {**row, "id": name if seen[name] == 1 else f"{name}#{seen[name]}"}


def _name(row: Row) -> str | None:
    audio = row.get("audio")
    audio = audio.get("path") if isinstance(audio, dict) else audio
    if not isinstance(audio, str):
        return None
    start, end = (None if is_missing(row.get(name)) else row[name] for name in ("start", "end"))
    if start is None and end is None:
        return audio
    return f"{audio}#{seconds_text(float(start or 0))}-{seconds_text(None if end is None else float(end))}"


def recording_of(row: Row) -> str:
    """The recording of a row, by its path; a row without a path is one of its own."""
    audio = row.get("audio")
    audio = audio.get("path") if isinstance(audio, dict) else audio
    return str(audio if is_path(audio) else row["id"])


def with_turns(rows: Iterable[Row], turns: Sequence[Mapping[str, Any]], by_channel: bool) -> Iterator[Row]:
    """Recordings and their turns → one row per turn, with its own text and speaker.

    Args:
        turns: of one recording or, with the names of their files, of several ([`turns_of`]).
        by_channel: whether a turn is heard on its own channel alone, where it has one.

    Raises:
        InputError: there are several recordings and the turns do not say whose they are, or one has no turns.
    """
    files = {turn["file"] for turn in turns}
    rows = iter(rows)
    first, second = next(rows, None), next(rows, None)
    alone = second is None and len(files) == 1
    for row in (row for row in chain([first, second], rows) if row is not None):
        is_named = isinstance(row.get("audio"), str)
        own = turns if alone else turns_of(turns, row["audio"]) if is_named else []
        if not own:
            raise InputError(f"--turns has no turns of {row.get('audio') or row.get('id')}; its files are {files}")
        for turn in own:
            of_turn = {name: turn[name] for name in ("start", "end", "speaker", "text")}
            yield {**row, **of_turn, **({"channel": turn["channel"]} if by_channel else {}), "id": None}


def by_channels(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows with a recording of several channels → one row per channel, each a speaker."""
    for row in rows:
        count = channel_count(row.get("audio"))
        if count < 2:
            yield row
            continue
        name = row.get("id") or _name(row)
        for channel in range(count):
            yield {**row, "id": f"{name}#channel={channel}", "channel": channel, "speaker": f"channel {channel}"}


def channel_count(audio: Any) -> int:
    """The number of channels of a file or bytes; 0 if it cannot be told, which reading it will explain."""
    import io

    import soundfile

    if isinstance(audio, dict):
        audio = audio.get("path") if audio.get("bytes") is None else audio["bytes"]
    try:
        return soundfile.info(io.BytesIO(audio) if isinstance(audio, bytes) else audio).channels
    except (RuntimeError, TypeError, OSError):
        return 0
