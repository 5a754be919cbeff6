"""Uploaded files: they are on disk while they wait and are judged, and no longer."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock


class Uploads(set):
    """The uploads below a folder. Gradio adds the path of each as it arrives (`Blocks.upload_file_set`).

    Gradio names an upload by its content and name: equal files of two users are one file. It is deleted when each of
    its arrivals was judged, or is older than `age` seconds.
    """

    def __init__(self, folder: Path, age: float):
        super().__init__()
        self.folder, self.age = folder.resolve(), age
        self._arrivals: dict[str, list[float]] = {}
        self._lock = Lock()

    def update(self, *paths: Iterable[str]) -> None:
        super().update(*paths)
        with self._lock:
            for path in (str(path) for some in paths for path in some):
                self._arrivals.setdefault(path, []).append(time.monotonic())

    def has(self, path: str | None) -> bool:
        return bool(path) and Path(path).resolve().is_relative_to(self.folder)

    def forget(self, path: str) -> None:
        """One of the arrivals of an upload is done with. Files that are no uploads, as of examples, are left alone."""
        if not self.has(path):
            return
        with self._lock:
            arrivals = sorted(self._arrivals.pop(path, []))[1:]
            if waiting := [arrival for arrival in arrivals if time.monotonic() - arrival < self.age]:
                self._arrivals[path] = waiting
                return
            Path(path).unlink(missing_ok=True)
            with suppress(OSError):  # not empty: an equal file of another name
                Path(path).parent.rmdir()

    @contextmanager
    def taken(self, *paths: str | None) -> Iterator[list[str | None]]:
        """Yields the paths under which files are read meanwhile: uploads under one of their own, which is deleted at
        the end, others as they are."""
        with TemporaryDirectory(dir=self.folder, prefix="taken-") as own:
            read = []
            for number, path in enumerate(paths):
                if self.has(path):
                    place = Path(own, str(number), Path(path).name)
                    place.parent.mkdir()
                    with suppress(FileNotFoundError):  # reading it will say so
                        os.link(path, place)
                    self.forget(path)
                    path = str(place)
                read.append(path)
            yield read
