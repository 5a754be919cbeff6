"""The command line: `mmer COMMAND …`, a module here for each.

`train.py`, `eval.py` and `reproduce.py` of a checkout call it too.
"""

import sys
from importlib import import_module

COMMANDS = {
    "train": "train a model and judge it",
    "eval": "judge a trained model on any corpus",
    "reproduce": "train every system of the paper's tables, and write the tables",
    "export": "make a folder to publish of a trained model",
    "corpus": "describe a corpus: counts, durations, labels, what splits share, broken files",
}


def main(argv: list[str] | None = None) -> None:
    """Run `mmer COMMAND …`.

    Raises:
        SystemExit: with a message and a status other than 0 for bad input, without a traceback.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] not in COMMANDS:
        usage = "usage: mmer COMMAND [recipe.yaml] [--option value …]\n\n"
        usage += "\n".join(f"  {name:10}{what}" for name, what in COMMANDS.items())
        asked = bool(argv) and argv[0] in ("-h", "--help")
        print(usage, file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
    import_module(f".{argv[0]}", __name__).main(argv[1:])
