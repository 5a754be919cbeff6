"""The options of `mmer predict` → the rows to judge."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, groupby

from ..scoring.inputs import InputError, Row, by_channels, find_sources, identified, recording_of, with_turns
from ..scoring.shards import Shard
from ..scoring.turns import read_turns


@dataclass
class Asked:
    """What is to be judged: rows with distinct ids, their number if it is known, and whether it is one input alone."""

    rows: Iterator[Row]
    total: int | None
    is_one: bool


def rows_to_judge(options: Namespace, shard: Shard, by_recording: bool = False) -> Asked:
    """The rows of this shard.

    Args:
        by_recording: whether the rows of a recording are to be in one shard.

    Raises:
        InputError: an input does not exist, or options contradict each other.
        ValueError: a table or a file of turns cannot be read.
    """
    sources = find_sources(options.inputs, column_map(options.column_map))
    rows = chain.from_iterable(source.read() for source in sources)
    counts = [source.count for source in sources]
    total = None if None in counts else sum(counts)
    is_one = total == 1 or not sources
    if options.text is not None:
        if sources and total != 1:
            raise InputError("--text is the text of one recording: give one, or a table with a column text")
        rows, total = [{**row, "text": options.text} for row in rows] or [{"id": "text", "text": options.text}], 1
    if options.turns is not None:
        try:
            turns = read_turns(options.turns)
        except FileNotFoundError as error:
            raise InputError(f"there is no file {options.turns} (--turns)") from error
        rows, total = with_turns(rows, turns, options.channels == "split"), len(turns) if total == 1 else None
    elif options.channels == "split":
        rows, total = by_channels(rows), None
    rows = identified(rows)
    if by_recording and shard.count > 1:
        recordings = shard.take([*of_recording] for _, of_recording in groupby(rows, recording_of))
        return Asked(chain.from_iterable(recordings), None, is_one)
    return Asked(shard.take(rows), shard.size(total), is_one)


def column_map(pairs: list[str] | None) -> dict[str, str]:
    if wrong := [pair for pair in pairs or () if "=" not in pair]:
        raise InputError(f"--column_map takes FIELD=COLUMN, not {wrong[0]!r}")
    return dict(pair.split("=", 1) for pair in pairs or ())
