"""How CIF-MMIN is trained: its own optimiser, schedule and clipping, which the paper and its code prescribe.

Both stages have Adam at 2e-4, constant at first and then falling linearly to zero, batches of 64, and the norm of the
gradient limited for each sub-network by itself.
"""

import copy
from dataclasses import dataclass

from torch import nn
from transformers import TrainingArguments
from transformers.optimization import get_wsd_schedule

from ..training.trainer import MMERTrainer


@dataclass(frozen=True)
class Stage:
    """Epochs at a constant rate and then falling, the first beta of Adam, and the largest norm of a gradient."""

    constant_epochs: int
    falling_epochs: int
    beta1: float
    max_grad_norm: float

    @property
    def epochs(self) -> int:
        return self.constant_epochs + self.falling_epochs


TEACHER_STAGE = Stage(constant_epochs=30, falling_epochs=10, beta1=0.9, max_grad_norm=0.5)
IMAGINATION_STAGE = Stage(constant_epochs=20, falling_epochs=20, beta1=0.5, max_grad_norm=1.0)
BATCH_SIZE = 64
LEARNING_RATE = 2e-4


def stage_arguments(arguments: TrainingArguments, stage: Stage) -> TrainingArguments:
    """A run's arguments with what the stage prescribes; a limit of `max_steps` stays."""
    arguments = copy.copy(arguments)
    arguments.num_train_epochs = stage.epochs
    arguments.per_device_train_batch_size = max(1, BATCH_SIZE // arguments.world_size)
    arguments.max_frames_per_batch = None
    arguments.gradient_accumulation_steps = 1  # the pairs of a batch are each other's negatives
    arguments.learning_rate, arguments.warmup_steps, arguments.weight_decay = LEARNING_RATE, 0, 0.0
    arguments.adam_beta1, arguments.adam_beta2 = stage.beta1, 0.999
    arguments.max_grad_norm = stage.max_grad_norm
    return arguments


class CIFMMINTrainer(MMERTrainer):
    """Trains one stage with the arguments of `stage_arguments`."""

    def __init__(self, *args, stage: Stage, **kwargs):
        self.stage = stage
        super().__init__(*args, **kwargs)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        falling = round(num_training_steps * self.stage.falling_epochs / self.stage.epochs)
        self.lr_scheduler = get_wsd_schedule(
            optimizer or self.optimizer,
            num_warmup_steps=0,
            num_decay_steps=falling,
            num_training_steps=num_training_steps,
            decay_type="linear",
        )
        return self.lr_scheduler

    def _clip_grad_norm(self, model):
        self.accelerator.unscale_gradients()  # once for all parts: a loss scaler refuses a second time
        norms = [
            nn.utils.clip_grad_norm_(part.parameters(), self.args.max_grad_norm) for part in sub_networks(self.model)
        ]
        return max(norms)


def sub_networks(model: nn.Module) -> list[nn.Module]:
    """The parts with gradients that are clipped each by itself: each encoder, each projection, mix and classifier."""
    parts = []
    for name, part in model.named_children():
        of_part = part.children() if name in ("embedders", "projections") else [part]
        if name == "features":
            of_part = [*part.specific.children(), *part.invariant.children()]
        parts += [p for p in of_part if any(parameter.grad is not None for parameter in p.parameters())]
    return parts
