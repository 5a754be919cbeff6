"""Shares of one job: `--shard 3/64` in a job array, and the processes of `torchrun` and `accelerate launch`."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """Share `index` of `count`, counted from 1."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """`3/64` → the third of 64.

        Raises:
            ValueError: it has another form, or there is no such share.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        index, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= index <= count:
            raise ValueError(f"a shard is I/N with I from 1 to N, such as 3/64, not {text!r}")
        return cls(index, count)

    def of_process(self, environment: Mapping[str, str] = os.environ) -> "Shard":
        """The share of this process, where a launcher has started several for this share."""
        rank, processes = (int(environment.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
        return Shard((self.index - 1) * processes + rank + 1, self.count * processes)

    def take(self, items: Iterable[Item]) -> Iterator[Item]:
        """Every `count`-th item, so that all shares have as many, and of all kinds."""
        return islice(items, self.index - 1, None, self.count)

    def size(self, total: int | None) -> int | None:
        return None if total is None else len(range(self.index - 1, total, self.count))

    def path(self, path: Path) -> Path:
        """`scores.jsonl` → `scores-00003-of-00064.jsonl`; the path as it is where there is one share."""
        if self.count == 1:
            return path
        return path.with_name(f"{path.stem}-{self.index:05}-of-{self.count:05}{path.suffix}")

    def as_json(self) -> dict[str, Any]:
        return {"index": self.index, "count": self.count}
