"""Finding files that a table names a little otherwise than a disk: tables travel between systems."""

import os
import unicodedata
from functools import cache
from pathlib import Path


class Finder:
    """Looks for files whose path does not exist as it is written.

    A part of a path counts as found if it is the only name in its folder that differs in case alone, in how accents are
    encoded (macOS takes letters apart), or by an extension that the table leaves out. Backslashes separate folders, as
    on Windows.

    Args:
        suffixes: extensions, in lower case with their dot, that a table may leave out.
    """

    def __init__(self, suffixes: tuple[str, ...]):
        self._suffixes = suffixes
        self._names = cache(self._names_in)

    def find(self, path: str) -> str | None:
        """The file meant by `path`, or None."""
        for written in dict.fromkeys((path, path.replace("\\", "/"))):
            parts = Path(written).parts
            found = Path(parts[0]) if parts else Path()
            for i, part in enumerate(parts[1:], start=1):
                step = found / part
                if not os.path.lexists(step):
                    step = self._alike(found, part, is_last=i == len(parts) - 1)
                if step is None:
                    break
                found = step
            else:
                if found.is_file():
                    return str(found)
        return None

    def _alike(self, folder: Path, name: str, is_last: bool) -> Path | None:
        names = self._names(folder)
        candidates = names.get(_plain(name), [])
        if not candidates and is_last:
            candidates = [full for suffix in self._suffixes for full in names.get(_plain(name) + suffix, [])]
        return folder / candidates[0] if len(candidates) == 1 else None

    @staticmethod
    def _names_in(folder: Path) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        try:
            for name in os.listdir(folder):
                names.setdefault(_plain(name), []).append(name)
        except OSError:
            pass
        return names


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
