"""How fast MMER is: ratios of what is measured side by side, as one Markdown table.

    python benchmarks/run.py [--size paper] [--device cpu] [--threads 1] [--only a,c] [--rounds 3]

Models have random weights in the shapes of Whisper-medium and RoBERTa-large with four shared layers (`--size paper`),
of Whisper-base and MiniLM with two (`base`), or small ones. All variants of a row run in turn, in rounds, and the
median of the rounds' ratios counts. The rows are kept beside the table as JSON: those of other sizes and subjects stay.
"""

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import inference
import machine
import torch
import training
from sizes import SIZES
from timing import Clock, Row
from transformers.utils import logging

from modeling_mmer.files import write_json, write_text

SUBJECTS = {
    "a": ("Inference against the bare encoders", inference.against_encoders),
    "b": ("A training step against the encoders' forward, and its parts", training.steps),
    "c": ("Context `full` against `trimmed`", inference.contexts),
    "d": ("Precision of the encoders", inference.precisions),
    "e": ("Calls of the shared transformer", training.calls),
    "f": ("Online against cached states", training.cached),
    "g": ("Shuffled against grouped by length", training.grouped),
    "h": ("What a user would take instead", inference.alternatives),
    "i": ("Peak memory", machine.memory),
    "j": ("Growth", inference.growth),
    "k": ("Start-up", machine.start_up),
    "l": ("Cost of 1,000 hours", inference.cost),
}


def measure(letters: list[str], size: str, clock: Clock, rows: list[Row], output: Path | None) -> list[Row]:
    """The rows of these subjects, with those that were there of others and of other sizes; written after each
    subject."""
    for letter in letters:
        title, subject = SUBJECTS[letter]
        print(f"({letter}) {title}", file=sys.stderr, flush=True)
        found = []
        for row in subject(SIZES[size], clock):
            print(f"    {line(row)}", file=sys.stderr, flush=True)
            found.append(row)
        rows = [row for row in rows if (row.subject, row.size) != (letter, size)]
        rows = sorted(rows + [replace(row, size=size) for row in found], key=lambda row: row.subject)
        if output is not None:
            write_text(output, document(rows, clock))
            write_json(output.with_suffix(".json"), {"rows": [row.as_json() for row in rows]})
    return rows


def line(row: Row) -> str:
    spread = f"{min(row.ratios):.2f}–{max(row.ratios):.2f}"
    return f"| {row.what} | {row.against} | **{row.ratio:.2f}** | {spread} | {row.note} |"


def document(rows: list[Row], clock: Clock) -> str:
    time = "processor time" if clock.device == "cpu" else "time"
    parts = [
        "# Benchmarks",
        f"How much {time} (or memory) something takes, as a multiple of what it is compared with. Made by\n"
        f"`python benchmarks/run.py --size SIZE --device {clock.device}` with random weights. The variants of a row\n"
        "run in turn, in rounds, and the median of the rounds' ratios counts. The least and the greatest ratio and an\n"
        "absolute figure stand beside it.",
        f"Machine: {machine.description(clock.device)}.",
    ]
    for size in SIZES:
        of_size = [row for row in rows if row.size == size]
        if not of_size:
            continue
        parts.append(f"## Size `{size}`: {SIZES[size].shapes}")
        if missing := [letter for letter in SUBJECTS if letter not in {row.subject for row in of_size}]:
            parts.append(f"Not measured at this size: ({'), ('.join(missing)}).")
        for letter, (title, _) in SUBJECTS.items():
            own = [line(row) for row in of_size if row.subject == letter]
            if own:
                head = ["| | compared with | ratio | of the rounds | of a round |", "|---|---|---|---|---|"]
                parts.append("\n".join([f"### ({letter}) {title}", "", *head, *own]))
    return "\n\n".join(parts) + "\n"


def kept_rows(output: Path | None) -> list[Row]:
    """The rows of earlier runs."""
    file = output and output.with_suffix(".json")
    if file is None or not file.is_file():
        return []
    return [Row(**row) for row in json.loads(file.read_text(encoding="utf-8"))["rows"]]


def parse_options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="paper")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(SUBJECTS), help="letters of subjects, with commas")
    parser.add_argument("--output", type=Path, help="the Markdown file; by default it is printed")
    options = parser.parse_args(argv)
    options.letters = options.only.split(",")
    if unknown := [letter for letter in options.letters if letter not in SUBJECTS]:
        parser.error(f"--only {','.join(unknown)}: there are {', '.join(SUBJECTS)}")
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads are at least 1")
    return options


def main(argv: list[str]) -> int:
    options = parse_options(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    clock = Clock(options.device, options.rounds)
    rows = measure(options.letters, options.size, clock, kept_rows(options.output), options.output)
    if options.output is None:
        print(document(rows, clock))
    return int(not all(math.isfinite(row.ratio) for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
