"""What a stopped run goes on from: checkpoints that are whole, and callbacks that go on counting.

The Trainer writes a checkpoint file by file into `checkpoint-STEP`, `trainer_state.json` last. So that a process may be
killed, or the disk may fill up, at any moment, a folder counts as a checkpoint once that file is in it, and until then
holds a marker, under the name that transformers gives it; older checkpoints are deleted only afterwards.
"""

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from transformers import EarlyStoppingCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

logger = logging.get_logger(__name__)

MARKER = "checkpoint-is-incomplete.txt"
NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # of writes alone


class WriteError(OSError):
    """What a run has to keep could not be written: a full disk, a quota, a folder that is read-only."""


def is_whole(checkpoint: str | Path) -> bool:
    """Whether a checkpoint was written to its end."""
    try:
        json.loads(Path(checkpoint, TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def last_checkpoint(folder: str | Path) -> str | None:
    """The whole checkpoint under `folder` with the most steps; None if there is none."""
    whole = [checkpoint for checkpoint in checkpoints_under(folder) if is_whole(checkpoint)]
    return str(whole[-1]) if whole else None


def remove_broken_off(folder: str | Path) -> None:
    """Delete what a run that was killed while it wrote a checkpoint has left of it."""
    for checkpoint in checkpoints_under(folder):
        if (checkpoint / MARKER).exists() and not is_whole(checkpoint):
            logger.warning(f"{checkpoint} was not written to its end: it is deleted.")
            shutil.rmtree(checkpoint, ignore_errors=True)


def checkpoints_under(folder: str | Path) -> list[Path]:
    """`checkpoint-STEP` folders, whole or not, by step."""
    prefix = f"{PREFIX_CHECKPOINT_DIR}-"
    found = [path for path in Path(folder).glob(f"{prefix}*") if path.name.removeprefix(prefix).isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(prefix)))


@contextmanager
def marked_until_whole(checkpoint: Path) -> Iterator[None]:
    """Around the writing of a checkpoint: what breaks off is marked as such, and deleted if writing fails.

    Raises:
        WriteError: the checkpoint cannot be written.
    """
    with write_errors_named(checkpoint):
        try:
            checkpoint.mkdir(parents=True, exist_ok=True)
            (checkpoint / MARKER).touch()
            (checkpoint / TRAINER_STATE_NAME).unlink(missing_ok=True)  # of the same step, from before
            yield
            (checkpoint / MARKER).unlink()
        finally:
            if not is_whole(checkpoint):
                shutil.rmtree(checkpoint, ignore_errors=True)


@contextmanager
def write_errors_named(folder: str | Path) -> Iterator[None]:
    """Turn what a failed write raises, which each library does in its own way, into an error that says what to do.

    Raises:
        WriteError: something under `folder` cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, WriteError) or not is_failed_write(error):
            raise
        existing = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
        free = shutil.disk_usage(existing).free / 1e9
        raise WriteError(
            f"{folder} cannot be written ({error}); {free:.1f} GB are free there. Checkpoints that were whole before "
            "are kept: make room, and go on from the last one with --resume_from_checkpoint true."
        ) from error


def is_failed_write(error: Exception) -> bool:
    """Whether it is a write that failed, as Python, safetensors and torch tell it; torch names no cause."""
    if isinstance(error, OSError):
        return error.errno in NOT_WRITTEN
    if isinstance(error, SafetensorError):
        return any(f"(os error {number})" in str(error) for number in NOT_WRITTEN)
    return any(part in str(error) for part in ("unexpected pos", "PytorchStreamWriter", "iostream error"))


class EarlyStopping(EarlyStoppingCallback):
    """Counts on in a resumed run, from the evaluations in its log."""

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        self.early_stopping_patience_counter = evaluations_since_best(state)

    def is_over(self, state: TrainerState) -> bool:
        """Whether a run had come to its end in this state."""
        return evaluations_since_best(state) >= self.early_stopping_patience


def evaluations_since_best(state: TrainerState) -> int:
    best = state.best_global_step or 0
    return sum(entry["step"] > best for entry in state.log_history if "eval_loss" in entry)
