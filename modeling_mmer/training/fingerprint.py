"""Stores the settings of a run in its checkpoints, so that a checkpoint is not resumed by another run.

They are part of `trainer_state.json`, which is written last, so that every complete checkpoint has them.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState

from .resuming import checkpoints_under, is_whole


class Fingerprint(TrainerCallback, ExportableState):
    """Stores the settings and the training time of a run in each checkpoint.

    Args:
        settings: everything that the results depend on, as JSON values.
        seconds: training time before the run was resumed.
    """

    def __init__(self, settings: Mapping[str, Any], seconds: float = 0.0):
        self.settings = settings
        self.seconds_before = seconds
        self.started = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Training time so far, including the time before the run was resumed."""
        return self.seconds_before + (0.0 if self.started is None else time.monotonic() - self.started)

    def state(self) -> dict[str, Any]:
        return {"args": {"settings": dict(self.settings), "seconds": self.seconds}, "attributes": {}}


def read_fingerprint(checkpoint: str | Path) -> dict[str, Any]:
    """`settings` and `seconds` of a complete checkpoint or a finished run's folder; empty if they are not recorded."""
    state = json.loads(Path(checkpoint, TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    return state.get("stateful_callbacks", {}).get(Fingerprint.__name__, {}).get("args", {})


def difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describe the differences between the settings of two runs; empty if they are equal."""
    changed = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    return "; ".join(f"{name} was {then.get(name)!r} and is {now.get(name)!r}" for name in changed)


def require_same_run(folder: str | Path, settings: Mapping[str, Any], checkpoint: str | None = None) -> None:
    """Raise a ValueError if a folder has the model or checkpoints of another run, or `checkpoint` is from another run.

    Nothing is deleted or overwritten: only the user knows whether they are still needed.
    """
    paths = [Path(folder), *checkpoints_under(folder), *([] if checkpoint is None else [Path(checkpoint)])]
    for path in filter(is_whole, paths):
        if (then := read_fingerprint(path).get("settings")) == settings:
            continue
        reason = (
            "whose settings are not recorded" if then is None else f"with other settings ({difference(then, settings)})"
        )
        raise ValueError(
            f"{path} is from a run {reason}. Choose another --output_dir for this run, or repeat the options of that "
            "run to resume it. --model fine-tunes its model."
        )
