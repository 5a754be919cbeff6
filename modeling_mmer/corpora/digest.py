"""What a corpus holds, in a few characters: a run's figures depend on the rows, wherever they lie."""

import hashlib
import json
from collections.abc import Hashable, Mapping

from datasets import Dataset

from .recordings import sources_of
from .schema import FEATURES, Corpus

_LENGTH = 16  # hexadecimal digits: enough to tell corpora apart


def content_digests(corpus: Corpus) -> dict[str, str]:
    """split → digest of its rows in their order: every column and, for the path of a recording, its samples.

    Columns that have no value do not count, so that a schema with further ones gives the same digest.
    """
    return {split: _digest(rows, corpus.sounds) for split, rows in corpus.splits.items()}


def _digest(rows: Dataset, sounds: Mapping[Hashable, str | None]) -> str:
    sha = hashlib.sha256()
    for name in sorted(set(FEATURES) - {"split"}):
        values = rows[name][:]
        if name == "audio":
            values = [None if source is None else sounds.get(source) or "unread" for source in sources_of(rows)]
        if any(value is not None for value in values):
            sha.update(json.dumps([name, values], default=str).encode())
    return sha.hexdigest()[:_LENGTH]
