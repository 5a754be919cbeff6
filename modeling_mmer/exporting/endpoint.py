"""What makes an export answer on the hub's Inference Endpoints: their handler, and the packages that it needs."""

import shutil
from pathlib import Path

FILES = ("handler.py", "requirements.txt")


def write_endpoint(folder: Path) -> None:
    """Copy `handler.py` and `requirements.txt` into the folder of a model."""
    for name in FILES:
        shutil.copy(Path(__file__).with_name(name), folder)
