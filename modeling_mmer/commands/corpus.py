"""`mmer corpus describe`: statistics and faults of a corpus, before training."""

import sys
from dataclasses import dataclass
from pathlib import Path

from transformers.hf_argparser import HfArg

from ..corpora.describe import describe
from ..corpora.sharing import note_shared
from ..files import write_json
from ..model.configuration_mmer import MMERConfig
from ..report.corpus import corpus_report, plot_corpus
from ..training.arguments import SourceArguments
from ..training.checking import load
from .arguments import exit_on_bad_input, parse

PROG = "mmer corpus describe"
USAGE = "--corpus NAME [--corpus_dir DIR] [--option value …]"


@dataclass
class DescriptionArguments:
    """Options of the description."""

    _argument_group_name = "the description"

    emotion_labels: list[str] = HfArg(
        default_factory=lambda: list(MMERConfig.emotion_labels),
        help="Emotion classes to count. Other emotions count as unlabelled and are named in a notice.",
    )
    output_dir: str = HfArg(default="runs/corpus", help="Folder for corpus.json and corpus.png.")


def main(argv: list[str]) -> None:
    """Print a report on a corpus and write `corpus.json` and `corpus.png`. Broken recordings are listed, no error."""
    if argv[:1] in (["-h"], ["--help"]):
        argv = ["describe", "--help"]
    if argv[:1] != ["describe"]:
        print(f"usage: {PROG} {USAGE}; --help explains the options.", file=sys.stderr)
        sys.exit(2)
    source, description = parse((SourceArguments, DescriptionArguments), argv[1:], PROG, USAGE)
    with exit_on_bad_input(PROG):
        figures = describe(note_shared(load(source, description.emotion_labels, "keep")))
        folder = Path(description.output_dir)
        write_json(folder / "corpus.json", figures)
        plot_corpus(folder / "corpus.png", figures)
    print(corpus_report(figures))
    print(f"\nFigures: {folder / 'corpus.json'}; picture: {folder / 'corpus.png'}")
