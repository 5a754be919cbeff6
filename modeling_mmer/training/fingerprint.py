"""The settings of a run travel with its checkpoints, so that none is taken for another run's.

They lie in `trainer_state.json`, which is written last: a checkpoint that is whole has them.
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
    """Leaves the settings of a run, and how long it has trained, in each of its checkpoints.

    Args:
        settings: all that the run's outcome depends on, as JSON holds it.
        seconds: that the legs took from which a stopped run goes on.
    """

    def __init__(self, settings: Mapping[str, Any], seconds: float = 0.0):
        self.settings = settings
        self.seconds_before = seconds
        self.started = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Of training so far, with the legs before."""
        return self.seconds_before + (0.0 if self.started is None else time.monotonic() - self.started)

    def state(self) -> dict[str, Any]:
        return {"args": {"settings": dict(self.settings), "seconds": self.seconds}, "attributes": {}}


def read_fingerprint(checkpoint: str | Path) -> dict[str, Any]:
    """`settings` and `seconds` of a whole checkpoint, or of a finished run's folder; empty where they are not known."""
    state = json.loads(Path(checkpoint, TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    return state.get("stateful_callbacks", {}).get(Fingerprint.__name__, {}).get("args", {})


def difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two runs' settings, in words; empty if nothing does."""
    changed = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    return "; ".join(f"{name} was {then.get(name)!r} and is {now.get(name)!r}" for name in changed)


def require_same_run(folder: str | Path, settings: Mapping[str, Any], checkpoint: str | None = None) -> None:
    """Raise a ValueError if another run's model or checkpoints lie in a folder, or `checkpoint` is another run's.

    Nothing there is deleted or written over: only their owner knows whether they are still needed.
    """
    held = [Path(folder), *checkpoints_under(folder), *([] if checkpoint is None else [Path(checkpoint)])]
    for path in filter(is_whole, held):
        if (then := read_fingerprint(path).get("settings")) == settings:
            continue
        told = (
            "whose settings are not recorded"
            if then is None
            else f"under other settings ({difference(then, settings)})"
        )
        raise ValueError(
            f"{path} is of a run {told}. Name another --output_dir for this run, or give that run's options to go on "
            "with it; --model trains its model further."
        )
