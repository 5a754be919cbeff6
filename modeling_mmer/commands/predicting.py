"""What `mmer predict` does: rows → results in a file, in a timeline or on the terminal."""

import json
import os
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from huggingface_hub.errors import StrictDataclassError
from tqdm import tqdm
from transformers.utils import logging

from .. import __version__
from ..corpora.schema import counted
from ..features.cache import file_digests
from ..features.transcription import recogniser_identity
from ..model.configuration_mmer import MMERConfig
from ..model.hub_names import commit_of
from ..precision import decide_dtype
from ..scoring.answers import result_schema
from ..scoring.archive import SUFFIXES, open_archive
from ..scoring.formats import ENDINGS, library_of, write_timeline
from ..scoring.formats import FORMATS as TIMELINES
from ..scoring.inputs import InputError, Row, recording_of
from ..scoring.models import fingerprint, model_commit, model_name
from ..scoring.scorer import Scorer
from ..scoring.shards import Shard
from ..scoring.timeline_folder import ByRecording, TimelineFolder
from .allocator import keep_freed_memory
from .predict_rows import Asked, rows_to_judge
from .screen import in_full, line

PROG = "mmer predict"
AT_ONCE = 256  # results that are written at once at the latest
ARCHIVES = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)  # formats of which a stopped run goes on
NAMED = {ending.lower(): form for form, ending in ENDINGS.items()}  # of files whose format marks times
# Options that are the scorer's, and those that results depend on: a run with others does not go on with these results.
SCORER = ("revision", "speech", "transcribe", "windows", "embedding", "min_confidence", "batch_size", "dtype")
SETTINGS = ("text", "channels", "windows", "speech", "embedding", "min_confidence", "dtype", "column_map")


def predict(options: Namespace) -> int:
    """Judge what the options name; the exit status."""
    keep_freed_memory()
    logging.disable_progress_bar()  # of loading weights
    try:
        shard = Shard.parse(options.shard).of_process()
        decide_precision(options)
        output = None if options.output is None else shard.path(Path(options.output))
        form = format_of(output, options.format)
        in_folder = form in ENDINGS and is_folder(options.output)
        asked = rows_to_judge(options, shard, by_recording=in_folder)
        if options.plot is not None and not asked.is_one:
            raise InputError("--plot shows one recording over time: give one")
        if form in ENDINGS:
            library_of(form)  # an error now, and not when all is judged
            if options.windows is None and options.turns is None:
                options.windows = 0  # the windows in which a recording is read anyway
        if form in ARCHIVES and output is not None:
            tally = to_file(options, asked, output, form, shard)
        elif in_folder:
            tally = to_folder(options, asked, output, form, shard)
        elif output is not None:
            tally = to_timeline(options, asked, output, form)
        elif asked.is_one and form is None:
            tally = show_one(options, asked.rows)
        else:
            tally = show_many(options, asked.rows, as_json=form == "jsonl")
    except (ValueError, OSError, ImportError, StrictDataclassError) as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return 2
    return int(options.strict and tally.has_errors)


def decide_precision(options: Namespace) -> None:
    """Put what `--dtype auto` means here in its place, for results depend on it, and say so."""
    if options.dtype == "auto":
        options.dtype, sentence = decide_dtype("auto", options.device)
        print(sentence, file=sys.stderr)


def format_of(output: Path | None, named: str | None) -> str | None:
    """The format of the results: the named one, or that of the file's name.

    Raises:
        InputError: the file's name tells none, or there is no file for it.
    """
    if output is None:
        if named not in (None, "jsonl"):
            raise InputError(f"--format {named} needs a file: give --output")
        return named
    ending = output.suffix.lower()
    form = named or NAMED.get(ending, ending.removeprefix("."))
    if form not in (known := ("jsonl", *TIMELINES)):
        raise InputError(f"--output {output}: its name tells no format; give --format, one of {', '.join(known)}")
    return form


def is_folder(output: str) -> bool:
    """Whether timelines go to a folder, a file for each recording: it is one, or its name has no ending."""
    return Path(output).is_dir() or output.endswith(("/", os.sep)) or not Path(output).suffix


def results_of(options: Namespace, rows: Iterable[Row]) -> Iterator[Row]:
    """The results of rows, by the engine that is asked for."""
    device = options.device
    if device is None and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    chosen = {name: getattr(options, name) for name in (*SCORER, "num_workers")} | {"device": device}
    if options.engine == "local":
        return Scorer(options.model, **chosen).stream(rows)
    from ..scoring.ray_engine import judge_on_ray

    return judge_on_ray(options.model, chosen, rows)


def config_of(options: Namespace) -> MMERConfig:
    name = model_name(options.model)
    return MMERConfig.from_pretrained(name, revision=model_commit(name, options.revision))


def schema_of(options: Namespace) -> pa.Schema:
    return result_schema(config_of(options), options.embedding, options.transcribe is not None)


def to_file(options: Namespace, asked: Asked, output: Path, form: str, shard: Shard) -> "Tally":
    """Judge the rows whose results are not in the file yet, and add theirs."""
    archive = open_archive(output, form, schema_of(options), manifest_of(options, shard), options.resume)
    if there := len(archive.done):
        print(f"{counted(there, 'input is', 'inputs are')} in {output} already.", file=sys.stderr)
    missing = (row for row in asked.rows if row["id"] not in archive.done)
    tally = Tally()
    with stoppable(), progress(asked.total, there) as bar, closing(results_of(options, missing)) as results:
        for part in in_time(results, archive.seconds):
            archive.append([row for result in part for row in over_time(result)])
            tally.count(part)
            bar.update(len(part))
    archive.finish()
    plot(options, archive.rows)
    tally.report(output)
    tally.has_errors = tally.has_errors or (options.strict and any(row["error"] for row in archive.rows()))
    return tally


def manifest_of(options: Namespace, shard: Shard) -> dict[str, Any]:
    """What results depend on: the model by its name, commit and fingerprint, and the options."""
    name = model_name(options.model)
    commit = model_commit(name, options.revision)
    settings = {name: getattr(options, name) for name in SETTINGS}
    settings["transcribe"] = options.transcribe and recogniser_identity(
        options.transcribe, commit_of(options.transcribe)
    )
    settings["turns"] = options.turns and file_digests([options.turns])[options.turns]
    model = {"model": name, "revision": commit, "fingerprint": fingerprint(name, commit), "version": __version__}
    return {**model, "options": settings, "shard": shard.as_json()}


def in_time(results: Iterable[Row], seconds: float) -> Iterator[list[Row]]:
    """Results in lists, each of at most `AT_ONCE` and of what came within so many seconds."""
    part, since = [], time.monotonic()
    for result in results:
        part.append(result)
        if len(part) >= AT_ONCE or time.monotonic() - since >= seconds:
            yield part
            part, since = [], time.monotonic()
    if part:
        yield part


@contextmanager
def stoppable() -> Iterator[None]:
    """A block that the user may interrupt, because the same command goes on with what is written."""
    try:
        yield
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        raise SystemExit(130) from None


def over_time(result: Row) -> list[Row]:
    """The rows that are shown of a result: its windows, if they are asked for and there are some."""
    return result.get("windows") or [result]


def plot(options: Namespace, rows: Callable[[], Iterable[Row]]) -> None:
    """Draw the rows into the file of `--plot`, if there is one."""
    if options.plot is None:
        return
    from ..plots import plot_timeline, save

    save(plot_timeline(rows(), label_scale=tuple(config_of(options).label_scale)), options.plot)


def to_folder(options: Namespace, asked: Asked, folder: Path, form: str, shard: Shard) -> "Tally":
    """Judge the recordings whose timelines are not in the folder yet, and write each timeline when it is finished."""
    timelines = TimelineFolder(folder, form, manifest_of(options, shard), options.resume)
    if timelines.done:
        print(f"{counted(len(timelines.done), 'recording is', 'recordings are')} in {folder} already.", file=sys.stderr)
    recordings, tally = ByRecording(timelines.done), Tally()
    judged = results_of(options, recordings.rows(asked.rows))
    with stoppable(), progress(asked.total, timelines.rows_there) as bar, closing(judged) as results:
        for recording, of_recording in recordings.finished(results):
            rows = [row for result in of_recording for row in over_time(result)]
            timelines.write(recording, rows)
            plot(options, lambda rows=rows: rows)
            tally.count(of_recording)
            bar.update(len(of_recording))
    timelines.index.finish()
    tally.report(folder)
    tally.has_errors = tally.has_errors or any(entry["errors"] for entry in timelines.index.rows())
    return tally


def to_timeline(options: Namespace, asked: Asked, output: Path, form: str) -> "Tally":
    """Judge, and write the results as one file, which is written as a whole."""
    given = asked.rows if form not in ENDINGS or form == "rttm" else of_one_recording(asked.rows, output, form)
    tally, results = Tally(), list(results_of(options, given))
    rows = [row for result in results for row in over_time(result)]
    write_timeline(rows, output, form)
    plot(options, lambda: rows)
    tally.count(results)
    tally.report(output)
    return tally


def of_one_recording(rows: Iterable[Row], output: Path, form: str) -> Iterator[Row]:
    """The rows.

    Raises:
        InputError: they are of several recordings, before any of the second is judged.
    """
    first = None
    for row in rows:
        first = recording_of(row) if first is None else first
        if recording_of(row) != first:
            raise InputError(
                f"--output {output}: {form} describes one recording, and there are several ({first}, "
                f"{recording_of(row)}); give a folder: --output {output.with_suffix('')} --format {form}"
            )
        yield row


def show_one(options: Namespace, rows: Iterable[Row]) -> "Tally":
    """Judge one recording or text, and show all there is: a table, and a timeline."""
    if options.windows is None and options.turns is None:
        options.windows = 0  # the windows in which it is read anyway
    config, tally, results = config_of(options), Tally(), list(results_of(options, rows))
    over = [row for result in results for row in over_time(result)]
    print(in_full(results, over, config, options.model))
    plot(options, lambda: over)
    tally.count(results)
    return tally


def show_many(options: Namespace, rows: Iterable[Row], as_json: bool) -> "Tally":
    """Judge, and print a line for each result."""
    config, names, tally = config_of(options), schema_of(options).names, Tally()
    for result in results_of(options, rows):
        tally.count([result])
        for row in over_time(result):
            named = {name: row[name] for name in names}
            print(json.dumps(named, ensure_ascii=False) if as_json else line(row, config), flush=True)
    tally.report()
    return tally


class Tally:
    """Counts results and their errors."""

    def __init__(self):
        self.rows, self.errors, self.since = 0, Counter(), time.monotonic()
        self.has_errors = False

    def count(self, results: Iterable[Row]) -> None:
        for result in results:
            self.rows += 1
            if result["error"]:
                self.errors[result["error"].replace(result["audio"] or "\0", "…")] += 1  # alike, whatever the file
                self.has_errors = True

    def report(self, output: Path | None = None) -> None:
        rate = self.rows / max(1e-9, time.monotonic() - self.since)
        where = "" if output is None else f"; results: {output}"
        print(f"{counted(self.rows, 'row')} judged, {rate:.1f} a second{where}", file=sys.stderr)
        if n := self.errors.total():
            print(f"{counted(n, 'row has', 'rows have')} an error:", file=sys.stderr)
            for message, count in self.errors.most_common(5):
                print(f"  {count} × {message}", file=sys.stderr)


def progress(total: int | None, initial: int = 0) -> tqdm:
    """A bar with rate and time left; into a file, a line now and then."""
    quiet = {} if sys.stderr.isatty() else {"mininterval": 30.0, "maxinterval": 60.0}
    return tqdm(total=total, initial=initial, unit=" rows", dynamic_ncols=True, smoothing=0.1, **quiet)
