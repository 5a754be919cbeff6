"""`mmer corpus describe`: what a corpus holds, before anything is trained on it."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..corpora.describe import describe
from ..corpora.sharing import note_shared
from ..files import write_json
from ..model.configuration_mmer import MMERConfig
from ..report.corpus import corpus_report, plot_corpus
from ..training.arguments import SourceArguments
from ..training.checking import load
from .arguments import bad_input_ends, parse

PROG = "mmer corpus describe"
USAGE = "--corpus NAME [--corpus_dir DIR] [--option value …]"


@dataclass
class DescriptionArguments:
    """How a corpus is described, and where the figures go."""

    _argument_group_name = "the description"

    emotion_labels: list[str] = field(
        default_factory=lambda: list(MMERConfig.emotion_labels),
        metadata={"help": "Emotion classes to count; other emotions count as unlabelled, and a notice names them."},
    )
    output_dir: str = field(default="runs/corpus", metadata={"help": "Where corpus.json and corpus.png go."})


def main(argv: list[str]) -> None:
    """Print a corpus's report, and write `corpus.json` and `corpus.png`; broken recordings are part of the report."""
    if argv[:1] in (["-h"], ["--help"]):
        argv = ["describe", "--help"]
    if argv[:1] != ["describe"]:
        print(f"usage: {PROG} {USAGE}; --help explains the options.", file=sys.stderr)
        sys.exit(2)
    source, description = parse((SourceArguments, DescriptionArguments), argv[1:], PROG, USAGE)
    with bad_input_ends(PROG):
        figures = describe(note_shared(load(source, description.emotion_labels, "keep")))
        folder = Path(description.output_dir)
        write_json(folder / "corpus.json", figures)
        plot_corpus(folder / "corpus.png", figures)
    print(corpus_report(figures))
    print(f"\nFigures: {folder / 'corpus.json'}; picture: {folder / 'corpus.png'}")
