"""Writes files atomically.

Other programs read results and reports, and a run can be stopped at any time. Each file is therefore written under a
temporary name next to its destination and then renamed (`os.replace`): readers get the old content or the new one,
never a part of it.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_beside(path: str | os.PathLike, folder: Path | None = None) -> Iterator[Path]:
    """Yields a temporary path for a file or folder, and renames it to `path` at the end of the block.

    Missing parent folders are created. If the block raises an error, the temporary file is deleted and `path` is
    unchanged. If the process is killed, the temporary file, which is hidden, remains.

    Args:
        folder: the folder of the temporary file, on the same disk as `path`; by default that of `path`.
    """
    path = Path(path)
    beside = (folder or path.parent) / f".{path.name}.{uuid.uuid4().hex}.tmp"
    for parent in (path.parent, beside.parent):
        parent.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
        os.replace(beside, path)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically, as `written_beside`."""
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write `content` to `path` atomically, as `written_beside`."""
    with written_beside(path) as beside:
        beside.write_bytes(content)


def write_json(path: str | os.PathLike, data: Any) -> None:
    """Write `data` as indented JSON to `path` atomically. NumPy numbers and arrays become numbers and lists.

    Raises:
        ValueError: `data` has NaN or infinity, which JSON does not support. Leave out what was not measured.
        TypeError: `data` has an object of another type that JSON does not support.
    """
    try:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError as error:
        raise ValueError(f"Cannot write {os.fspath(path)}: {error}. Leave out figures that are not finite.") from error
    write_text(path, text + "\n")


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, torch tensors
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"JSON cannot express a {type(value).__name__} ({value!r}).")
