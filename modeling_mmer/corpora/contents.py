"""What a row holds, as a number of 64 bits by which it is found again in another corpus, under whatever name.

A row is its recording, or its span of one: the samples, not the file. Without one it is its text, without regard to
case and spacing. 100,000 rows take 800 kB, and no two of them are likely to share a number by chance.
"""

from collections.abc import Mapping
from hashlib import blake2b

import pandas as pd

from .recordings import Recording, Source, as_clip, sources_of
from .sharing import plain_texts


def row_digests(table: pd.DataFrame, recordings: Mapping[Source, Recording]) -> dict[str, int]:
    """utterance_id -> digest.

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
    return int.from_bytes(blake2b(content.encode(), digest_size=8).digest(), "little")
