"""What packing the feature cache saves: the states of many utterances in a file, against a file for each.

Reads a cache that `mmer train --feature_cache FOLDER` has filled, and lays the same states out as one file per
utterance, in subfolders by the first two characters of their names. Both are then read whole in the same shuffled
order, as an epoch does, by turns and in rounds; the median counts. "From the disk" is after the files have left the
memory of the system (`posix_fadvise`), which works only on Linux. "Is everything there?" is the question that each run
starts with. With 601 states of Whisper tiny on a local disk, an epoch was read 1.4 times as fast from the disk and as
fast from memory, and the question was answered 10 and 4 times as fast.

    python benchmarks/cache_files.py runs/features
"""

import os
import random
import sys
import tempfile
import time
import zlib
from pathlib import Path
from statistics import median

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from modeling_mmer.commands.allocator import keep_freed_memory
from modeling_mmer.features.shards import Shards

ROUNDS = 5


class OneFileEach:
    """The states of each name in a file of its own, memory-mapped and verified."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.safetensors"

    def write(self, name: str, states: torch.Tensor) -> None:
        self.path(name).parent.mkdir(exist_ok=True)
        checksum = str(zlib.crc32(states.view(torch.uint8).numpy()))
        save_file({"states": states}, self.path(name), metadata={"crc32": checksum})

    def read(self, name: str) -> torch.Tensor:
        with safe_open(self.path(name), framework="pt") as file:
            states, expected = file.get_tensor("states"), file.metadata()["crc32"]
        if str(zlib.crc32(states.view(torch.uint8).numpy())) != expected:
            raise ValueError(name)
        return states

    def lacks(self, names: list[str]) -> int:
        missing = 0
        for name in names:
            try:
                with safe_open(self.path(name), framework="pt"):
                    pass
            except OSError:
                missing += 1
        return missing


def names_in(folder: str) -> list[str]:
    """All names in a cache."""
    names = []
    for path in sorted(Path(folder).glob("shards/*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names += file.keys()
    return names


def lacks(folder: str, names: list[str]) -> int:
    """How many names a cache lacks, found as a new process finds it."""
    shards = Shards(folder)
    shards.refresh()
    return sum(name not in shards for name in names)


def forget(folders: list[str]) -> None:
    """Drop the files of folders from the memory of the system."""
    for folder in folders:
        for path in Path(folder).rglob("*.safetensors"):
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def compare(title: str, variants: dict, before=lambda: None) -> None:
    """Print the median seconds of each variant, and their ratio."""
    seconds = {name: [] for name in variants}
    for turn in range(ROUNDS):
        for name, run in list(variants.items())[:: 1 if turn % 2 else -1]:
            before()
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    packed, single = (median(of_variant) for of_variant in seconds.values())
    print(f"{title:32}{packed:10.3f} s{single:10.3f} s{single / packed:9.2f} ×")


def main(folder: str) -> None:
    keep_freed_memory()  # as in training
    names = names_in(folder)
    packed = Shards(folder)
    packed.refresh()
    with tempfile.TemporaryDirectory(dir=Path(folder).parent) as other:  # on the same disk
        single = OneFileEach(other)
        for name in names:
            single.write(name, packed.read(name))
        random.Random(0).shuffle(names)
        files = [list(Path(place).rglob("*.safetensors")) for place in (folder, other)]
        sizes = [sum(path.stat().st_size for path in paths) / 1e6 for paths in files]
        print(f"{len(names)} states{'':20}{'packed':>12}{'one each':>12}{'':>3}one each / packed")
        print(f"{'files':32}{len(files[0]):10}  {len(files[1]):10}  {len(files[1]) / len(files[0]):9.0f} ×")
        print(f"{'MB':32}{sizes[0]:10.1f}  {sizes[1]:10.1f}  {sizes[1] / sizes[0]:9.3f} ×")

        def epoch(cache) -> None:
            for name in names:
                cache.read(name).sum()  # every byte is touched, as by a batch

        epochs = {"packed": lambda: epoch(packed), "one each": lambda: epoch(single)}
        compare("epoch, shuffled, from memory", epochs)
        checks = {"packed": lambda: lacks(folder, names), "one each": lambda: single.lacks(names)}
        compare("is everything there?", checks)
        if hasattr(os, "posix_fadvise"):
            compare("epoch, shuffled, from the disk", epochs, lambda: forget([folder, other]))
            compare("is everything there? (disk)", checks, lambda: forget([folder, other]))


if __name__ == "__main__":
    main(*sys.argv[1:])
