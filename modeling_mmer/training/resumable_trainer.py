"""`ResumableTrainer`: a Trainer whose runs may be stopped at any moment, and end as if they had not been.

Its checkpoints are whole or not there, its batches depend on seed and epoch alone, an evaluation changes nothing of the
training around it, and a run that diverges stops before the step and names the utterances. It knows no model.
"""

import math
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .batching import FrameCapBatchSampler, LengthBucketSampler
from .collator import UTTERANCE_IDS, with_ids
from .divergence import DivergedError
from .preemption import outlive_termination
from .resuming import EarlyStopping, last_checkpoint, marked_until_whole, remove_broken_off, write_errors_named


class SamplerEpochs(TrainerCallback):
    """Sets the epoch of every sampler. accelerate does not reach all of them in the epoch in which a run is resumed."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.epoch = int(state.epoch)

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        sampler = train_dataloader.batch_sampler
        while sampler is not None:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(self.epoch)
            sampler = getattr(sampler, "batch_sampler", getattr(sampler, "sampler", None))
        self.epoch += 1


class ResumableTrainer(Trainer):
    """A run that is resumed equals the uninterrupted one, on a CPU bit for bit.

    Takes the arguments of `transformers.Trainer`. Each method of it that is overridden here says what a run would lose
    without that.

    Raises:
        DivergedError: a loss or a gradient is NaN or infinite; the message names the batch's utterances.
        WriteError: a checkpoint cannot be written.
    """

    def __init__(self, *args, **kwargs):
        self.resumed_from: str | None = None  # the checkpoint that the run goes on from
        self._step_ids: list[str] = []  # utterances of all batches since the last step
        super().__init__(*args, **kwargs)
        self.add_callback(SamplerEpochs())

    # ── going on ────────────────────────────────────────────────────────────────────────────────────────────────────

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """Without it, `True` would choose a checkpoint that was broken off, and one would stay on the disk."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_checkpoint(self.args.output_dir)
        if self.args.should_save:
            remove_broken_off(self.args.output_dir)
        self.resumed_from = resume_from_checkpoint or None
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def set_initial_training_values(self, args, dataloader):
        """Without it, a run that is resumed at its end would take a further step: it has no epoch left."""
        epochs, steps_per_epoch, *others, max_steps = super().set_initial_training_values(args, dataloader)
        if self.resumed_from is not None:
            state = TrainerState.load_from_json(str(Path(self.resumed_from, TRAINER_STATE_NAME)))
            stopping = [callback for callback in self.callback_handler.callbacks if isinstance(callback, EarlyStopping)]
            if state.global_step >= max_steps or any(callback.is_over(state) for callback in stopping):
                epochs = state.global_step // steps_per_epoch
        return epochs, steps_per_epoch, *others, max_steps

    # ── checkpoints ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _save_checkpoint(self, model, trial):
        """Without it, a checkpoint that was broken off would look like one, and a full disk end in a traceback."""
        folder = Path(self._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        with marked_until_whole(folder) if self.args.should_save else write_errors_named(folder):
            super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir):
        """Without it, `trainer_state.json`, which follows and makes a checkpoint whole, might be there before the
        random states of other processes."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    # ── divergence ──────────────────────────────────────────────────────────────────────────────────────────────────

    def training_step(self, model, inputs, *args, **kwargs):
        """Without it, a run that diverged would train on, and its checkpoints replace those from before."""
        ids, inputs = split_ids(inputs)
        loss = super().training_step(model, inputs, *args, **kwargs)
        if not loss.isfinite():
            what = f"The loss is {loss.item()}{self.loss_details()}"
            raise DivergedError(what, self.state.global_step + 1, ids)
        self._step_ids += ids
        if self.accelerator.sync_gradients:  # of the step's last batch
            # A gradient scaler meets infinite gradients on its way to a good scale, and skips the step.
            if self.accelerator.scaler is None:
                norm = self.accelerator.clip_grad_norm_(model.parameters(), math.inf)  # clips nothing
                if norm is not None and not math.isfinite(norm):
                    what = f"The norm of the gradient is {float(norm)}"
                    raise DivergedError(what, self.state.global_step + 1, self._step_ids)
            self._step_ids = []
        return loss

    def loss_details(self) -> str:
        """What the message about a loss that is not finite says of it, in brackets."""
        return ""

    # ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _get_dataloader(self, *, sampler_fn=None, is_training=False, **kwargs) -> DataLoader:
        """Without it, the order of training would depend on what else is drawn; an evaluation would sort its rows by
        length, and leave some out for `dataloader_drop_last`; no message would know an utterance; and SIGTERM, which a
        scheduler sends to all processes, would end those that load data in the midst of a step."""
        drop_last, collator = self.args.dataloader_drop_last, self.data_collator
        sampler_fn = partial(self._train_sampler, sampler_fn) if is_training else SequentialSampler
        try:
            self.args.dataloader_drop_last = drop_last and is_training
            self.data_collator = partial(with_ids, collator)
            loader = super()._get_dataloader(sampler_fn=sampler_fn, is_training=is_training, **kwargs)
        finally:
            self.args.dataloader_drop_last, self.data_collator = drop_last, collator
        base = getattr(loader, "base_dataloader", loader)
        base.worker_init_fn = partial(outlive_termination, base.worker_init_fn)
        return loader

    def _train_sampler(self, sampler_fn, dataset: Dataset) -> Sampler | None:
        """The Trainer's own sampler (`sampler_fn`), unless batches are made by frames or lengths."""
        args = self.args
        seed = args.seed if args.data_seed is None else args.data_seed
        if (cap := getattr(args, "max_frames_per_batch", None)) is not None:
            if "frames" not in dataset.column_names:
                raise ValueError("A cap of frames needs a column `frames`: `batching.with_lengths` adds it.")
            by_length = args.train_sampling_strategy == "group_by_length"
            return FrameCapBatchSampler(dataset["frames"], cap, seed, by_length, args.world_size, args.process_index)
        sampler = sampler_fn(dataset)
        if isinstance(sampler, LengthGroupedSampler):
            return LengthBucketSampler(sampler.lengths, sampler.batch_size, seed)
        return sampler

    # ── evaluation ──────────────────────────────────────────────────────────────────────────────────────────────────

    def evaluation_loop(self, *args, **kwargs):
        """Without it, training would go on otherwise after an evaluation, whose data loader draws."""
        device = self.args.device
        own = {"devices": [] if device.type in ("cpu", "mps") else [device], "device_type": device.type}
        with torch.random.fork_rng(**own):
            return super().evaluation_loop(*args, **kwargs)


def split_ids(inputs: dict) -> tuple[list[str], dict]:
    """The ids of a batch's utterances, which are for messages, and what the model takes."""
    return inputs.get(UTTERANCE_IDS, []), {name: value for name, value in inputs.items() if name != UTTERANCE_IDS}
