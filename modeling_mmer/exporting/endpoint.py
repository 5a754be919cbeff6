"""What makes an export answer on the hub's Inference Endpoints: their handler, and the packages that it needs."""

import shutil
from pathlib import Path

HERE = Path(__file__).parent


def write_endpoint(folder: Path, onnx: bool = False) -> None:
    """Copy `handler.py` and `requirements.txt` into the folder of a model, or of ONNX graphs."""
    shutil.copy(HERE / "handler.py", folder)
    shutil.copy(HERE / ("onnx_requirements.txt" if onnx else "requirements.txt"), folder / "requirements.txt")
    if onnx:
        shutil.copy(HERE / "onnx_endpoint.py", folder)
