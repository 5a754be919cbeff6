"""Files of a feature cache, each with the states of many utterances: shards, in the safetensors format.

One file per utterance is slow to create, list and copy beyond some 10⁵ of them, above all on network disks. A shard has
about `SHARD_BYTES` of states under their names, and a checksum of each. It is written to a temporary name, renamed, and
never changed. More states are more shards, so processes that fill a folder at once need no locks.

[`Shards`] reads the headers once. States are then read by their offset, without mapping the file: a worker process
neither holds files open nor parses a header again.
"""

import hashlib
import math
import os
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from transformers.utils import logging

from ..files import written_beside

logger = logging.get_logger(__name__)

# Much smaller, and a corpus has many files again; much larger, and a killed process loses more than a minute or two of
# work on a CPU. This is 27 clips of 6 s with four states of Whisper medium, or 95 of 3.5 s with all of Whisper tiny.
SHARD_BYTES = 64 * 2**20
SHARDS, UNFINISHED = "shards", "unfinished"  # subfolders; the second, for files that are being written
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}  # by their names in safetensors
# Where states are. Arrays take 100 bytes per name and are shared by worker processes; objects would be copied to each.
PLACE = np.dtype([("shard", "i4"), ("offset", "i8"), ("shape", "i4", 3), ("dtype", "S4"), ("crc32", "u4")])


class Shards:
    """The states (L', T, D) of a feature cache, by name (64 characters).

    Args:
        folder: of the cache. It need not exist. It is only written to by `write` and to move damaged files aside.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self._files: list[Path] = []
        self._names = np.empty(0, "S64")  # sorted
        self._places = np.empty(0, PLACE)

    def refresh(self) -> None:
        """Read the headers of the shards that were added since the last call. Truncated ones are moved aside.

        Raises:
            ValueError: the folder has files of one utterance each.
        """
        if old := next(self.folder.glob("[0-9a-f][0-9a-f]/*.safetensors"), None):
            raise ValueError(
                f"{self.folder} has states of an earlier version, one utterance to a file ({old}), which cannot be "
                "read. Delete the folder, or choose another with --feature_cache."
            )
        files = set(self.folder.glob(f"{SHARDS}/*.safetensors"))
        if not files.issuperset(self._files):  # damaged ones were moved aside
            self._files, self._names, self._places = [], self._names[:0], self._places[:0]
        parts = [(self._names, self._places)]
        for file in sorted(files.difference(self._files)):
            try:
                parts.append(header(file, len(self._files)))
                self._files.append(file)
            except FileNotFoundError:  # another process has just moved it aside
                continue
            except (SafetensorError, KeyError, ValueError) as error:
                logger.warning(f"{file} is damaged ({error}). {move_aside(file)}")
        names, places = map(np.concatenate, zip(*parts, strict=True))
        order = names.argsort(kind="stable")
        self._names, self._places = names[order], places[order]

    def __contains__(self, name: str) -> bool:
        return self._place(name) is not None

    def read(self, name: str) -> torch.Tensor:
        """The states (L', T, D) of a name.

        Raises:
            ValueError: they are missing or damaged. A damaged file is moved aside, so that its states are computed
                again when the cache is filled the next time.
        """
        if name not in self:
            self.refresh()  # another process may have added them
        if (place := self._place(name)) is None:
            raise ValueError(f"are not in {self.folder}. Start again, and they are computed.")
        file, shape, dtype = self._files[place["shard"]], place["shape"].tolist(), DTYPES[place["dtype"].decode()]
        try:
            content = np.fromfile(file, np.uint8, math.prod(shape) * dtype.itemsize, offset=int(place["offset"]))
        except OSError as error:
            raise ValueError(f"in {file} cannot be read ({error.strerror}). Start again.") from error
        if zlib.crc32(content) != place["crc32"]:
            raise ValueError(f"in {file} are damaged: their checksum does not match. {move_aside(file)}")
        return torch.from_numpy(content).view(dtype).view(shape)

    def write(self, states: Mapping[str, torch.Tensor]) -> None:
        """Write states on the CPU to one new shard. Its name is a digest of their names, so processes that write the
        same states at once write one file."""
        digest = hashlib.sha256("".join(sorted(states)).encode()).hexdigest()
        file = self.folder / SHARDS / f"{digest}.safetensors"
        if states and not file.exists():
            # One entry, because entries of the metadata are in no fixed order: equal states give equal files.
            checksums = " ".join(f"{zlib.crc32(states[name].view(torch.uint8).numpy()):08x}" for name in sorted(states))
            with written_beside(file, self.folder / UNFINISHED) as unfinished:
                # Not `save_file`, whose files only their owner may read: a cache may be shared.
                unfinished.write_bytes(save(dict(states), {"crc32": checksums}))

    def remove_unfinished(self) -> None:
        """Remove unfinished files of killed processes. Recent ones are kept: another process may be writing them."""
        for path in (self.folder / UNFINISHED).glob("*"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > 3600:
                    path.unlink()

    def _place(self, name: str) -> np.void | None:
        key = name.encode()
        row = np.searchsorted(self._names, key)
        return self._places[row] if row < len(self._names) and self._names[row] == key else None


def header(file: Path, shard: int) -> tuple[np.ndarray, np.ndarray]:
    """The names in a shard (n,), and their places (n,), `PLACE`; `shard`: its number.

    Raises:
        SafetensorError: the file is not as long as its header says, or has no valid header.
        KeyError, ValueError: it has no valid checksum for each state.
    """
    with safe_open(file, framework="pt") as content:
        names, checksums = content.offset_keys(), content.metadata()["crc32"].split()
        parts = [content.get_slice(name) for name in names]
        shapes, dtypes = [part.get_shape() for part in parts], [part.get_dtype() for part in parts]
    # The format has the tensors at the end of the file, in this order and without gaps.
    sizes = [math.prod(shape) * DTYPES[dtype].itemsize for shape, dtype in zip(shapes, dtypes, strict=True)]
    offsets = file.stat().st_size - np.cumsum(sizes[::-1])[::-1]
    crc32s = dict(zip(sorted(names), (int(checksum, 16) for checksum in checksums), strict=True))
    rows = [(shard, *row, crc32s[name]) for name, *row in zip(names, offsets, map(tuple, shapes), dtypes, strict=True)]
    return np.array(names, "S64"), np.array(rows, PLACE)


def move_aside(file: Path) -> str:
    """Rename a damaged file, so that its states are missing. Returns what the user has to do."""
    try:
        file.replace(file.with_suffix(".damaged"))
        return "Start again, and its states are computed again."
    except OSError:  # a folder that cannot be written
        return "Delete this file and start again, and its states are computed again."
