"""Digests of what a corpus holds, wherever its files lie and whatever they are called.

Those of splits say whether two runs had the same rows, on which their figures depend. Those of rows find a row again in
another corpus.
"""

import hashlib
import json
from collections.abc import Hashable, Mapping

import pandas as pd
from datasets import Dataset

from .recordings import Recording, Source, as_clip, sources_of
from .schema import FEATURES, Corpus
from .sharing import plain_texts

_LENGTH = 16  # hexadecimal digits: enough to tell corpora apart


def content_digests(corpus: Corpus) -> dict[str, str]:
    """split → digest of its rows in their order: every column and, for the path of a recording, its samples.

    Columns that have no value do not count, so that a schema with further ones gives the same digest.
    """
    return {split: _of_split(rows, corpus.sounds) for split, rows in corpus.splits.items()}


def _of_split(rows: Dataset, sounds: Mapping[Hashable, str | None]) -> str:
    sha = hashlib.sha256()
    for name in sorted(set(FEATURES) - {"split"}):
        values = rows[name][:]
        if name == "audio":
            values = [None if source is None else sounds.get(source) or "unread" for source in sources_of(rows)]
        if any(value is not None for value in values):
            sha.update(json.dumps([name, values], default=str).encode())
    return sha.hexdigest()[:_LENGTH]


def row_digests(table: pd.DataFrame, recordings: Mapping[Source, Recording]) -> dict[str, int]:
    """utterance_id -> digest, a number of 64 bits.

    A row is its recording, or its span of one: the samples, not the file. Without one it is its text, without regard to
    case and spacing. 100,000 rows take 800 kB, and no two of them are likely to share a number by chance.

    Args:
        table: rows of a corpus.
        recordings: what was read of each recording, or span of one.
    """
    columns = (table["utterance_id"], sources_of(table), plain_texts(table["text"]))
    return {
        name: _number(f"text {text}" if source is None else f"audio {_samples(source, recordings[source])}")
        for name, source, text in zip(*columns, strict=True)
    }


def _samples(source: Source, recording: Recording) -> str:
    """Of a recording that could not be read to its end, its name stands for what it holds."""
    clip = as_clip(source)
    return recording.digest or f"{clip.path} {clip.span}"


def _number(content: str) -> int:
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "little")
