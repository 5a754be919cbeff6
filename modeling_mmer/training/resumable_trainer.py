"""`ResumableTrainer`: a Trainer whose runs can be stopped at any time and resumed with the same result.

Checkpoints are complete or do not exist, batches depend only on seed and epoch, an evaluation does not affect training,
and a run that diverges stops before the optimizer step. Nothing here depends on the model.
"""

import math
from collections.abc import Sequence
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
from .preemption import outlive_termination
from .resuming import EarlyStopping, last_checkpoint, marked_until_whole, remove_broken_off, write_errors_named


class DivergedError(ValueError):
    """A loss, gradient or prediction is NaN or infinite."""

    def __init__(self, what: str, step: int, utterances: Sequence[str]):
        self.what, self.step, self.utterances = what, step, list(utterances)
        named = f" Utterances of the batch: {', '.join(map(str, utterances))}." if utterances else ""
        super().__init__(
            f"{what} at step {step}: training has diverged.{named} Check these recordings and labels (`mmer corpus "
            "describe` finds corrupt ones), or lower the learning rate. Earlier checkpoints are kept."
        )

    def __reduce__(self):
        """Needed for pickling, because `args` is the message and not the arguments of `__init__`."""
        return type(self), (self.what, self.step, self.utterances)


class SamplerEpochs(TrainerCallback):
    """Sets the epoch of all samplers in the epoch in which a run is resumed, where accelerate does not reach them."""

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        sampler = train_dataloader.batch_sampler
        while sampler is not None:
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(int(state.epoch))
            sampler = getattr(sampler, "batch_sampler", getattr(sampler, "sampler", None))


class ResumableTrainer(Trainer):
    """A `transformers.Trainer` whose resumed runs equal uninterrupted ones, on a CPU bit for bit.

    The docstring of each overridden method says what would happen without it.
    """

    def __init__(self, *args, **kwargs):
        self.resumed_from: str | None = None  # path of a checkpoint
        self._step_ids: list[str] = []  # utterances since the last optimizer step
        super().__init__(*args, **kwargs)
        self.add_callback(SamplerEpochs())

    def train(self, resume_from_checkpoint=None, *args, **kwargs):
        """Without it, `True` could select an incomplete checkpoint, and incomplete ones would never be deleted."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_checkpoint(self.args.output_dir)
        if self.args.should_save:
            remove_broken_off(self.args.output_dir)
        self.resumed_from = resume_from_checkpoint or None
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def set_initial_training_values(self, args, dataloader):
        """Without it, a run that is resumed after its last step would take another one. It has no epochs left."""
        epochs, steps_per_epoch, *others, max_steps = super().set_initial_training_values(args, dataloader)
        if self.resumed_from is not None:
            state = TrainerState.load_from_json(str(Path(self.resumed_from, TRAINER_STATE_NAME)))
            stopping = [c for c in self.callback_handler.callbacks if isinstance(c, EarlyStopping)]
            if state.global_step >= max_steps or any(c.has_stopped(state) for c in stopping):
                epochs = state.global_step // steps_per_epoch
        return epochs, steps_per_epoch, *others, max_steps

    def _save_checkpoint(self, model, trial):
        """Without it, an incomplete checkpoint would look complete, and a full disk would end in a traceback."""
        folder = Path(self._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        with marked_until_whole(folder) if self.args.should_save else write_errors_named(folder):
            super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir):
        """Without it, `trainer_state.json`, which marks a complete checkpoint, could exist before the random states
        of other processes."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    def training_step(self, model, inputs, *args, **kwargs):
        """Without it, a run that has diverged would continue, and its checkpoints would replace the earlier ones."""
        ids, inputs = split_ids(inputs)
        loss = super().training_step(model, inputs, *args, **kwargs)
        if not loss.isfinite():
            what = f"The loss is {loss.item()}{self.loss_details()}"
            raise DivergedError(what, self.state.global_step + 1, ids)
        self._step_ids += ids
        if self.accelerator.sync_gradients:  # the last batch of the step
            # With a gradient scaler, infinite gradients are normal: it skips the step and lowers the scale.
            if self.accelerator.scaler is None:
                norm = self.accelerator.clip_grad_norm_(model.parameters(), math.inf)  # does not clip
                if norm is not None and not math.isfinite(norm):
                    what = f"The norm of the gradient is {float(norm)}"
                    raise DivergedError(what, self.state.global_step + 1, self._step_ids)
            self._step_ids = []
        return loss

    def loss_details(self) -> str:
        """Details for the message about a loss that is not finite."""
        return ""

    def _get_dataloader(self, *, sampler_fn=None, is_training=False, **kwargs) -> DataLoader:
        """Without it, batches by length would depend on other random draws; an evaluation could sort rows by length, or
        drop some with `dataloader_drop_last`; messages could not name utterances; and SIGTERM, which schedulers send to
        all processes, would end data-loading workers in the middle of a step."""
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
        """The sampler for batches by frames or by length; otherwise the one of the Trainer, `sampler_fn`."""
        args = self.args
        seed = args.seed if args.data_seed is None else args.data_seed
        if (cap := getattr(args, "max_frames_per_batch", None)) is not None:
            if "frames" not in dataset.column_names:
                raise ValueError("max_frames_per_batch needs a column `frames`: add it with `batching.with_lengths`.")
            by_length = args.train_sampling_strategy == "group_by_length"
            return FrameCapBatchSampler(dataset["frames"], cap, seed, by_length, args.world_size, args.process_index)
        sampler = sampler_fn(dataset)
        if isinstance(sampler, LengthGroupedSampler):
            return LengthBucketSampler(sampler.lengths, sampler.batch_size, seed)
        return sampler

    def evaluation_loop(self, *args, **kwargs):
        """Without it, an evaluation would change the random state of training, because its data loader draws."""
        device = self.args.device
        own = {"devices": [] if device.type in ("cpu", "mps") else [device], "device_type": device.type}
        with torch.random.fork_rng(**own):
            return super().evaluation_loop(*args, **kwargs)


def split_ids(inputs: dict) -> tuple[list[str], dict]:
    """Split a batch into the ids of its utterances and the inputs of the model."""
    return inputs.get(UTTERANCE_IDS, []), {name: value for name, value in inputs.items() if name != UTTERANCE_IDS}
