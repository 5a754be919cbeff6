"""Uploaded files: they are on disk while they are judged, and no longer."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def taken(paths: Collection[str | None], folder: Path, wanted: Collection[str] = ()) -> Iterator[list[str | None]]:
    """Yields the paths under which uploaded files are read meanwhile, and leaves none of them on disk.

    Gradio names an upload by its content: equal files of two users are one file, which the second may still wait for.
    Each is therefore read under a path of its own.

    Args:
        paths: of the files; None where there is none. Those outside of `folder`, such as examples, are left alone.
        folder: where uploads are.
        wanted: the uploads that others still wait for.
    """
    with TemporaryDirectory(dir=folder, prefix="taken-") as own:
        read = []
        for number, path in enumerate(paths):
            if path is None or not Path(path).resolve().is_relative_to(folder.resolve()):
                read.append(path)
                continue
            place = Path(own, str(number), Path(path).name)
            place.parent.mkdir()
            with suppress(FileNotFoundError):  # reading it will say so
                os.link(path, place)
                forget([path], folder, wanted)
            read.append(str(place))
        yield read


def forget(paths: Collection[str], folder: Path, wanted: Collection[str] = ()) -> None:
    """Delete uploads, and folders that are then empty."""
    for path in map(Path, paths):
        if path.resolve().is_relative_to(folder.resolve()) and str(path) not in wanted:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()
