"""`mmer predict`: judge recordings and texts with a trained model.

Only the options are here, so that `--help` imports neither torch nor transformers. `predicting.py` does the work.
"""

import argparse
import os
from itertools import zip_longest

from ..scoring.formats import FORMATS as TIMELINES
from . import COMMANDS

PROG = "mmer predict"
USAGE = "INPUT … [--option value …]"
FORMATS = ("jsonl", *TIMELINES)
FLAGS = ("--resume", "--strict", "--embedding")

EPILOG = """INPUT is a recording, a URL, a folder, a glob ('calls/*.wav'), a table (.csv, .tsv, .jsonl, .parquet) with a
column audio or text, hf:NAME (a data set of the hub), or - (standard input: a recording, or lines with paths, texts or
JSON). One recording is shown on the terminal; many are best written with --output. A run that was stopped goes on when
it is started again. The status is 0, also if rows have an error (1 with --strict), and 2 if the call itself cannot be
carried out."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG,
        usage=f"{PROG} {USAGE}",
        description=COMMANDS["predict"].capitalize(),
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=lambda prog: Help(prog, max_help_position=32),
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="What to judge.")
    add = parser.add_argument_group("what is judged").add_argument
    add("--text", metavar="TEXT", help="Text of the recording; without a recording, the text to judge.")
    add("--transcribe", metavar="MODEL", help="Speech recogniser that gives recordings without text their text.")
    add("--channels", choices=("mix", "split"), default="mix", help="split: judge each channel as a speaker.")
    add("--turns", metavar="FILE", help="Turns by speaker (RTTM, whisperX …), each judged with its text.")
    add("--speech", choices=("energy", "silero", "off"), default="energy", help="What tells speech from no speech.")
    add("--windows", type=float, metavar="SECONDS", help="One row per window of this length; 0: the model's.")
    add("--column_map", nargs="+", metavar="FIELD=COLUMN", help="Columns of a table that are not found by name.")
    add("--shard", default="1/1", metavar="I/N", help="Judge share I (from 1) of N of the rows, as in a job array.")
    add = parser.add_argument_group("the model").add_argument
    add("--model", metavar="NAME", help="Folder or hub name; by default the model that comes with the package.")
    add("--revision", metavar="NAME", help="Branch, tag or commit of the model on the hub.")
    add(
        "--dtype",
        choices=("checkpoint", "auto", "float32", "bfloat16", "float16"),
        default="checkpoint",
        help="Precision of the encoders. auto: bfloat16 if in hardware; checkpoint: that of the weights.",
    )
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps; by default an accelerator if there is one.")
    add("--batch_size", type=int, default=8, metavar="N", help="The most windows that are judged at once.")
    add("--num_workers", type=int, metavar="N", help="Threads that read and decode; by default one per core.")
    add("--engine", choices=("local", "ray"), default="local", help="ray: judge on a Ray cluster.")
    add = parser.add_argument_group("the results").add_argument
    add("--output", metavar="FILE", help="File for the results, by whose name the format is known; or a folder.")
    add("--format", choices=FORMATS, help="Format of the results, if not by the name of the file.")
    add("--plot", metavar="FILE", help="Picture of one recording over time (.png, .svg, .pdf).")
    _add_flag(parser, "--resume", True, "Go on with the results in --output; false: replace them.")
    add("--min_confidence", type=float, default=0.0, metavar="P", help="Leave out labels that are less probable.")
    _add_flag(parser, "--embedding", False, "Add a column with an embedding.")
    _add_flag(parser, "--strict", False, "Exit with status 1 if a row has an error.")
    return parser


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows no default that is None or False."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False, "1/1") else super()._get_help_string(action)


def _add_flag(parser: argparse.ArgumentParser, name: str, default: bool, text: str) -> None:
    """An option that may stand alone or with true or false, as those of the other commands."""
    parser._action_groups[-1].add_argument(
        name, nargs="?", const=True, default=default, type=_truth, metavar="true|false", help=text
    )


def _truth(word: str) -> bool:
    if word.lower() not in _WORDS:
        raise argparse.ArgumentTypeError(f"give true or false, not {word!r}")
    return _WORDS[word.lower()]


_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def with_flags_spelled(argv: list[str]) -> list[str]:
    """`--strict call.wav` → `--strict true call.wav`: the input is not the value of the option."""
    return [
        part
        for word, after in zip_longest(argv, argv[1:], fillvalue="")
        for part in ([word, "true"] if word in FLAGS and after.lower() not in _WORDS else [word])
    ]


def parse_options(argv: list[str]) -> argparse.Namespace:
    """Parse `INPUT … [--option value …]`, or a recipe and options.

    Raises:
        SystemExit: an option is unknown or invalid; the status is 2.
    """
    if argv and argv[0].endswith((".yaml", ".yml")):
        from .arguments import expand_recipe

        argv = expand_recipe(argv, PROG)
    parser = build_parser()
    options = parser.parse_intermixed_args(with_flags_spelled([os.path.expanduser(word) for word in argv]))
    if empty := [name for name, value in vars(options).items() if value == ""]:
        parser.error(f"--{empty[0]} is empty: give a value, or leave the option out")
    if not options.inputs and options.text is None:
        parser.error("give an INPUT to judge (a recording, a folder, a table …), or --text")
    return options


def main(argv: list[str]) -> None:
    options = parse_options(argv)
    from .predicting import predict

    raise SystemExit(predict(options))
