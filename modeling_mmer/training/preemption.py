"""Ending a run when a scheduler asks for it: SIGTERM, and some time later SIGKILL.

The step that is under way is finished, a checkpoint written, and the process ends with status 143 (128 + SIGTERM), as a
shell calls that of a process which SIGTERM killed. It is not 0, for the run is not done and has no results, and not 1,
for nothing is wrong: whoever started it knows that the same command with `--resume_from_checkpoint true` goes on.
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
    """Raised where training ends because it was asked to, after its checkpoint was written."""

    def __init__(self, status: int = STATUS):
        super().__init__(status)


class CheckpointOnTermination(TrainerCallback):
    """Writes a checkpoint at the end of the step in which SIGTERM arrives, and raises [`Preempted`].

    Differs from transformers' `enable_jit_checkpoint` in three things. All processes end at the same step, whichever of
    them were told. The checkpoint is one that the uninterrupted run could have written there, so that the resumed run
    equals it: after a whole step and, where an epoch ends with it, after that epoch's evaluation. And nothing follows
    it: no evaluation, which might outlast the scheduler's patience, and no results of a model that is half trained.
    """

    def __init__(self):
        self.asked = False  # this process, by the signal
        self.ends = False  # all processes agree
        self.saved_step = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.previous_handler = signal.signal(signal.SIGTERM, self._ask)

    def on_train_end(self, args, state, control, **kwargs):
        signal.signal(signal.SIGTERM, self.previous_handler)

    def on_step_end(self, args, state, control, **kwargs):
        if not (control.should_training_stop or state.epoch.is_integer()):  # then the end of the epoch follows at once
            self._save_if_asked(args, control)

    def on_epoch_end(self, args, state, control, **kwargs):
        self._save_if_asked(args, control)
        if self.ends and self.saved_step == state.global_step:  # at the end of the step
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
                f"Stopped by SIGTERM after step {state.global_step} of {state.max_steps}; its checkpoint is written. "
                "The same command with --resume_from_checkpoint true goes on."
            )
        raise Preempted


def outlive_termination(then: Callable[[int], None] | None, worker: int) -> None:
    """In a process that loads data: end on SIGTERM only if it comes from the trainer. `then` is called after it.

    A scheduler signals all processes of a job, and training cannot finish its step without this one.
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
