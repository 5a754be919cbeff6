"""Removes tokens, keys and passwords from command lines, so that they can be recorded."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

HIDDEN = "***"
_SECRET_NAME = re.compile(r"token(?!s)|api_?key|(?:^|_)keys?$|passw|secret|credential", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"(?P<name>-{0,2}[A-Za-z][\w-]*)=(?P<value>.*)", re.DOTALL)
_SECRET_VALUE = re.compile(r"\bhf_[A-Za-z0-9]{8,}|(?<=://)[^/@\s]+@")  # a token of the hub; credentials in a URL


def redacted(words: Sequence[str]) -> list[str]:
    """The words of a command line, with `***` for the values of options with the name of a secret, in any spelling
    (`--hub_token X`, `--hub-token=X`, `HF_TOKEN=X`), and for anything that looks like a token."""
    shown, is_secret = [], False
    for word in words:
        assigned = _ASSIGNMENT.fullmatch(word)
        if assigned and _is_secret(assigned["name"]):
            word, is_secret = f"{assigned['name']}={HIDDEN}", False
        elif word.startswith("--"):
            is_secret = _is_secret(word)
        elif is_secret:
            word = HIDDEN
        shown.append(_SECRET_VALUE.sub(lambda found: HIDDEN + ("@" if found[0].endswith("@") else ""), word))
    return shown


def command_line(argv: Sequence[str]) -> str:
    """`sys.argv` as it would be typed, without secrets."""
    return shlex.join(redacted([Path(argv[0]).name, *argv[1:]]))


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name.lstrip("-").replace("-", "_")) is not None
