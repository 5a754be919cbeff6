"""Files that are whole or not there.

Results and reports are read by other programs, and a run may be stopped at any moment. Each file is therefore written
under a temporary name beside its destination and renamed over it in one step (`os.replace`): a reader sees the old
content or the new, never half of it.
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
    """A temporary name for a file or folder, which takes the place of `path` in one step once the block has ended.

    Missing parent folders are created. If the block fails, what was at `path` before is untouched and nothing stays
    behind. A process that is killed leaves the temporary file, which is hidden.

    Args:
        folder: where it lies until then, on the disk of `path`; by default beside it.
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
    """Write `text` (UTF-8) to `path` in one step; see `written_beside`."""
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write `content` to `path` in one step, as `write_text` does."""
    with written_beside(path) as beside:
        beside.write_bytes(content)


def write_json(path: str | os.PathLike, data: Any) -> None:
    """Write `data` as indented JSON to `path` in one step. NumPy numbers and arrays become plain numbers and lists.

    Raises:
        ValueError: `data` holds NaN or infinity, which JSON does not know. What was not measured is left out, not NaN.
        TypeError: `data` holds something that JSON cannot express.
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
