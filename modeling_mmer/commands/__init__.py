"""The command line: `mmer COMMAND …`, one module per command.

The scripts `train.py`, `eval.py` and `reproduce.py` call it too.
"""

import sys
from importlib import import_module

COMMANDS = {
    "predict": "judge recordings and texts: files, folders, tables, whole archives",
    "train": "train and evaluate a model",
    "eval": "evaluate a trained model on any corpus",
    "reproduce": "train every system in the paper's tables and write the tables",
    "export": "export a trained model to a folder that can be published",
    "space": "open a page in the browser that judges recordings and texts",
    "corpus": "describe a corpus: counts, durations, labels, overlap of its splits, broken files",
}


def main(argv: list[str] | None = None) -> None:
    """Run `mmer COMMAND …`.

    Raises:
        SystemExit: the input is invalid; a message is printed, without a traceback, and the status is not 0.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] not in COMMANDS:
        usage = "usage: mmer COMMAND [recipe.yaml] [--option value …]\n\n"
        usage += "\n".join(f"  {name:10}{what}" for name, what in COMMANDS.items())
        wants_help = bool(argv) and argv[0] in ("-h", "--help")
        print(usage, file=sys.stdout if wants_help else sys.stderr)
        sys.exit(0 if wants_help else 2)
    import_module(f".{argv[0]}", __name__).main(argv[1:])
