"""`mmer space`: a page in the browser that judges recordings and texts, for people who would rather look than read."""

import argparse
import os
import signal
import sys
from typing import NoReturn

from . import COMMANDS

PROG = "mmer space"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG,
        description=COMMANDS["space"].capitalize(),
        epilog='Needs Gradio: pip install "modeling-mmer[space]".',
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--model",
        metavar="NAME",
        default=os.environ.get("MMER_MODEL") or None,
        help="Folder or hub name (default: $MMER_MODEL, or else the model that comes with the package).",
    )
    add(
        "--transcribe",
        metavar="MODEL",
        default=os.environ.get("MMER_TRANSCRIBE") or None,
        help="Speech recogniser; with it, the page offers to write down the words (default: $MMER_TRANSCRIBE).",
    )
    add("--host", metavar="ADDRESS", default="127.0.0.1", help="0.0.0.0: others may open it (default: this machine).")
    add("--port", metavar="N", type=int, default=7860, help="Port of the page (default: 7860).")
    return parser


def main(argv: list[str]) -> None:
    options = build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        from ..space.page import Page

        serve(Page(options.model, options.transcribe), options.host, options.port)
    except (ImportError, OSError, ValueError) as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def serve(page, host: str, port: int) -> NoReturn:
    """Serve until SIGTERM or Ctrl-C, delete what is on disk, and end the process at once.

    When Python itself ends, it stops the threads in which torch computes, which aborts the process. The first process
    of a container cannot abort, but hangs.
    """
    status = 0
    try:
        page.launch(server_name=host, server_port=port)
    except SystemExit as stopped:
        status = stopped.code
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    page.delete_files()
    sys.stdout.flush()
    os._exit(status)
