"""Writes a checkpoint when a scheduler ends a run: it sends SIGTERM, and some time later SIGKILL.

The current step is finished, a checkpoint is written, and the process exits with status 143 (128 + SIGTERM), which
means interrupted, as in shells. The same command with `--resume_from_checkpoint true` continues the run.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

import torch
from transformers import TrainerCallback
from transformers.utils import logging

logger = logging.get_logger(__name__)

STATUS = 128 + signal.SIGTERM


class Preempted(SystemExit):
    """Raised after the checkpoint was written, to end an interrupted run."""

    def __init__(self, status: int = STATUS):
        super().__init__(status)


class CheckpointOnTermination(TrainerCallback):
    """Writes a checkpoint at the end of the step in which SIGTERM arrives, and raises [`Preempted`].

    Differs from transformers' `enable_jit_checkpoint` in three ways. All processes end at the same step, whichever of
    them received the signal. The checkpoint is one that the uninterrupted run could have written: after a complete step
    and, at the end of an epoch, after its evaluation, so that the resumed run gives the same result. Nothing follows
    the checkpoint: no evaluation, which might take too long, and no results of a partly trained model.
    """

    def __init__(self):
        self.asked = False  # whether this process received the signal
        self.ends = False  # whether any process did
        self.saved_step = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.previous_handler = signal.signal(signal.SIGTERM, self._ask)

    def on_train_end(self, args, state, control, **kwargs):
        signal.signal(signal.SIGTERM, self.previous_handler)

    def on_step_end(self, args, state, control, **kwargs):
        if not (control.should_training_stop or state.epoch.is_integer()):  # otherwise on_epoch_end follows immediately
            self._save_if_asked(args, control)

    def on_epoch_end(self, args, state, control, **kwargs):
        self._save_if_asked(args, control)
        if self.ends and self.saved_step == state.global_step:  # already saved at the end of the step
            self._end(state)

    def on_save(self, args, state, control, **kwargs):
        self.saved_step = state.global_step
        if self.ends:
            self._end(state)

    def _ask(self, signum, frame):
        self.asked = True

    def _save_if_asked(self, args, control):
        asked = torch.tensor(float(self.asked), device=args.device)
        if args.world_size > 1:
            torch.distributed.all_reduce(asked)
        self.ends = bool(asked > 0)
        control.should_save |= self.ends

    def _end(self, state):
        if state.is_world_process_zero:
            logger.warning(
                f"Interrupted by SIGTERM after step {state.global_step} of {state.max_steps}; a checkpoint was "
                "written. Continue with the same command and --resume_from_checkpoint true."
            )
        raise Preempted


def outlive_termination(then: Callable[[int], None] | None, worker: int) -> None:
    """Set up a data loading worker that ignores SIGTERM unless the trainer sends it, and call `then(worker)`.

    A scheduler signals all processes of a job, but the trainer needs its workers to finish the step.
    """
    if hasattr(signal, "sigwaitinfo"):  # not on macOS and Windows
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(multiprocessing.parent_process().pid,), daemon=True).start()
    if then is not None:
        then(worker)


def _end_with(trainer: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)
