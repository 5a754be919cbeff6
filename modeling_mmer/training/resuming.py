"""Complete checkpoints, and early stopping that a resumed run continues.

The Trainer writes the files of a checkpoint into `checkpoint-STEP`, `trainer_state.json` last. A folder with that file
is a complete checkpoint. Until then it has a marker, named as in transformers, and older checkpoints are not deleted.
The process can therefore be killed, or the disk can fill up, at any time.
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
NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # only raised by writing


class WriteError(OSError):
    """A file of a run could not be written: the disk or quota is full, or the folder is read-only."""


def is_whole(checkpoint: str | Path) -> bool:
    """Whether a checkpoint is complete."""
    try:
        json.loads(Path(checkpoint, TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def last_checkpoint(folder: str | Path) -> str | None:
    """The complete checkpoint in `folder` with the most steps; None if there is none."""
    whole = [checkpoint for checkpoint in checkpoints_under(folder) if is_whole(checkpoint)]
    return str(whole[-1]) if whole else None


def remove_broken_off(folder: str | Path) -> None:
    """Delete incomplete checkpoints, left by a run that was killed while writing them."""
    for checkpoint in checkpoints_under(folder):
        if (checkpoint / MARKER).exists() and not is_whole(checkpoint):
            logger.warning(f"{checkpoint} is incomplete and will be deleted.")
            shutil.rmtree(checkpoint, ignore_errors=True)


def checkpoints_under(folder: str | Path) -> list[Path]:
    """All `checkpoint-STEP` folders, complete or not, sorted by step."""
    prefix = f"{PREFIX_CHECKPOINT_DIR}-"
    found = [path for path in Path(folder).glob(f"{prefix}*") if path.name.removeprefix(prefix).isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(prefix)))


@contextmanager
def marked_until_whole(checkpoint: Path) -> Iterator[None]:
    """Mark a checkpoint as incomplete while the block writes it, and delete it if writing fails.

    Raises:
        WriteError: the checkpoint cannot be written.
    """
    with write_errors_named(checkpoint):
        try:
            checkpoint.mkdir(parents=True, exist_ok=True)
            (checkpoint / MARKER).touch()
            (checkpoint / TRAINER_STATE_NAME).unlink(missing_ok=True)  # from an earlier checkpoint of the same step
            yield
            (checkpoint / MARKER).unlink()
        finally:
            if not is_whole(checkpoint):
                shutil.rmtree(checkpoint, ignore_errors=True)


@contextmanager
def write_errors_named(folder: str | Path) -> Iterator[None]:
    """Raise a `WriteError` that says what to do for the different errors that libraries raise if writing fails.

    Raises:
        WriteError: a file in `folder` cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if isinstance(error, WriteError) or not is_failed_write(error):
            raise
        existing = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
        free = shutil.disk_usage(existing).free / 1e9
        raise WriteError(
            f"{folder} cannot be written ({error}); {free:.1f} GB are free there. Earlier checkpoints are kept: free "
            "some space, and resume from the last one with --resume_from_checkpoint true."
        ) from error


def is_failed_write(error: Exception) -> bool:
    """Whether an error of Python, safetensors or torch (which gives no reason) means that writing failed."""
    if isinstance(error, OSError):
        return error.errno in NOT_WRITTEN
    if isinstance(error, SafetensorError):
        return any(f"(os error {number})" in str(error) for number in NOT_WRITTEN)
    return any(part in str(error) for part in ("unexpected pos", "PytorchStreamWriter", "iostream error"))


class EarlyStopping(EarlyStoppingCallback):
    """Early stopping that, in a resumed run, counts the evaluations in the log too."""

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        self.has_stopped(state)

    def has_stopped(self, state: TrainerState) -> bool:
        """Count the evaluations since the best one. Returns whether they have stopped the run."""
        best = state.best_global_step or 0
        self.early_stopping_patience_counter = sum(e["step"] > best for e in state.log_history if "eval_loss" in e)
        return self.early_stopping_patience_counter >= self.early_stopping_patience
