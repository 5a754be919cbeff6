"""What `mmer predict` does: inputs → rows → results on the terminal or in a file."""

import os
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import torch
from tqdm import tqdm

from .. import __version__
from ..corpora.schema import CorpusError, counted
from ..scoring.archive import SUFFIXES, JsonLines, Parts, open_archive
from ..scoring.inputs import InputError, Row, Source, by_channels, find_sources, identified
from ..scoring.models import fingerprint, model_commit, model_name
from ..scoring.scorer import Scorer
from ..scoring.shards import Shard
from .allocator import keep_freed_memory
from .screen import line, one_result

PROG = "mmer predict"
AT_ONCE = 256  # results that are written at once at the latest

# Options that results depend on, besides the model: a run with others does not go on with these results.
SETTINGS = ("channels", "windows", "embedding", "min_confidence", "dtype", "column_map")


def predict(options: Namespace) -> int:
    """Judge what the options name; the exit status."""
    keep_freed_memory()
    try:
        shard = Shard.parse(options.shard).of_process()
        sources = find_sources(options.inputs, column_map(options.column_map))
        rows, total = rows_of(options, sources)
        rows, total = shard.take(rows), shard.size(total)
        output = None if options.output is None else shard.path(Path(options.output))
        judge = judge_to_file if output else judge_to_terminal
        return judge(options, rows, total, output, shard)
    except (InputError, CorpusError, ValueError, OSError, ImportError) as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return 2


def column_map(pairs: list[str] | None) -> dict[str, str]:
    if wrong := [pair for pair in pairs or () if "=" not in pair]:
        raise InputError(f"--column_map takes FIELD=COLUMN, not {wrong[0]!r}")
    return dict(pair.split("=", 1) for pair in pairs or ())


def rows_of(options: Namespace, sources: list[Source]) -> tuple[Iterator[Row], int | None]:
    """All rows of the sources, with distinct ids, and their number if it is known."""
    rows = chain.from_iterable(source.read() for source in sources)
    counts = [source.count for source in sources]
    total = None if None in counts else sum(counts)
    if options.text is not None:
        if sources and total != 1:
            raise InputError("--text is the text of one recording: give one, or a table with a column text")
        rows, total = iter([{**row, "text": options.text} for row in rows] or [{"text": options.text, "id": "text"}]), 1
    if options.channels == "split":
        rows, total = by_channels(rows), None
    return identified(rows), total


def build_scorer(options: Namespace) -> Scorer:
    device = options.device
    if device is None and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    names = ("revision", "windows", "embedding", "min_confidence", "batch_size", "dtype", "num_workers")
    return Scorer(options.model, device=device, **{name: getattr(options, name) for name in names})


def judge_to_file(options: Namespace, rows: Iterator[Row], total: int | None, output: Path, shard: Shard) -> int:
    """Judge the rows whose results are not in the file yet, and write them."""
    if output.suffix not in SUFFIXES:
        raise InputError(f"--output {output}: results are written as {', '.join(SUFFIXES)}")
    name = model_name(options.model)
    commit = model_commit(name, options.revision)
    manifest = {
        **{"model": name, "revision": commit, "fingerprint": fingerprint(name, commit), "version": __version__},
        **{"options": {name: getattr(options, name) for name in SETTINGS}, "shard": shard.as_json()},
    }
    scorer = build_scorer(options)
    archive = open_archive(output, scorer.schema, manifest, options.resume)
    there = len(archive.done)
    if there:
        print(f"{counted(there, 'input is', 'inputs are')} in {output} already.", file=sys.stderr)
    missing = (row for row in rows if row["id"] not in archive.done)
    tally = Tally()
    with progress(total, there) as bar, closing(in_time(scorer.stream(missing), archive.seconds)) as parts:
        for part in parts:
            archive.append([row for result in part for row in over_time(result)])
            tally.count(part)
            bar.update(len(part))
    archive.finish()
    tally.report(output)
    return int(options.strict and has_errors(archive))


def in_time(results: Iterable[Row], seconds: float) -> Iterator[list[Row]]:
    """Results in lists, each of at most `AT_ONCE` and of what came within so many seconds."""
    part, since = [], time.monotonic()
    try:
        for result in results:
            part.append(result)
            if len(part) >= AT_ONCE or time.monotonic() - since >= seconds:
                yield part
                part, since = [], time.monotonic()
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        raise SystemExit(130) from None
    if part:
        yield part


def over_time(result: Row) -> list[Row]:
    """The rows that are written for a result: its windows, if they are asked for and there are some."""
    return result.get("windows") or [result]


class Tally:
    """Counts results and their errors."""

    def __init__(self):
        self.rows, self.errors, self.since = 0, Counter(), time.monotonic()

    def count(self, results: Iterable[Row]) -> None:
        for result in results:
            self.rows += 1
            if result["error"]:
                self.errors[result["error"]] += 1

    def report(self, output: Path | None = None) -> None:
        rate = self.rows / max(1e-9, time.monotonic() - self.since)
        where = "" if output is None else f"; results: {output}"
        print(f"{counted(self.rows, 'row')} judged, {rate:.1f} a second{where}", file=sys.stderr)
        if n := self.errors.total():
            print(f"{counted(n, 'row has', 'rows have')} an error:", file=sys.stderr)
            for message, count in self.errors.most_common(5):
                print(f"  {count} × {message}", file=sys.stderr)


def has_errors(archive: JsonLines | Parts) -> bool:
    return any(row["error"] for row in archive.rows())


def progress(total: int | None, initial: int = 0) -> tqdm:
    """A bar with rate and time left; into a file, a line now and then."""
    quiet = {} if sys.stderr.isatty() else {"mininterval": 30.0, "maxinterval": 60.0}
    return tqdm(total=total, initial=initial, unit=" rows", dynamic_ncols=True, smoothing=0.1, **quiet)


def judge_to_terminal(options: Namespace, rows: Iterator[Row], total: int | None, output: None, shard: Shard) -> int:
    """Judge, and show the results: one in full, many as a line each."""
    scorer = build_scorer(options)
    tally = Tally()
    for result in scorer.stream(rows):
        tally.count([result])
        if total == 1:
            print(one_result(result, scorer.config, options.model))
        else:
            for row in over_time(result):
                print(line(row, scorer.config), flush=True)
    if total != 1:
        tally.report()
    return int(options.strict and bool(tally.errors))
