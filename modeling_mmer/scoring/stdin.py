"""Standard input → rows: one recording, or lines that are JSON objects, recordings or texts."""

import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from transformers.audio_utils import get_audio_filetype

from ..corpora.recordings import AUDIO_SUFFIXES


def rows_of_stream(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    """If the stream begins as a recording does, it is one. Otherwise each line is a row: a JSON object with the columns
    of a row, the path or URL of a recording, or a text. Lines are read when they are needed."""
    first = stream.readline()
    if _is_recording(first):
        yield {"id": "standard input", "audio": first + stream.read()}
        return
    while first:
        if line := first.decode("utf-8", errors="replace").strip():
            yield _row(line)
        first = stream.readline()


def _is_recording(start: bytes) -> bool:
    try:
        get_audio_filetype(start)
    except ValueError:
        return False
    return True


def _row(line: str) -> dict[str, Any]:
    if line.startswith("{"):
        try:
            row = json.loads(line)
        except ValueError:
            pass
        else:
            return row
    if line.lower().endswith(AUDIO_SUFFIXES) or line.startswith(("http://", "https://")) or os.path.exists(line):
        return {"id": line, "audio": line}
    return {"text": line}
