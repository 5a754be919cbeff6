"""An exponential average of the weights, judged and saved in place of them; training goes on from the weights.

Small corpora are overfitted within a few epochs, and the best epoch is a noisy choice. The average of the last hundred
steps or so is better than either, and costs nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

WEIGHTS = "training_weights.safetensors"  # in a checkpoint whose model is the average: what training goes on from


class WeightAverage(TrainerCallback):
    """w̄ ← β w̄ + (1 − β) w after each step t, with β = min(decay, (1 + t) / (10 + t)): a short run is not held at its
    start. Without a decay nothing happens.

    A checkpoint's model is w̄, and w lies beside it, so that a resumed run equals the uninterrupted one.
    """

    def __init__(self, decay: float = 0):
        self.decay = decay
        self.checkpoint: str | Path | None = None  # that training goes on from
        self.trained: dict[str, torch.nn.Parameter] = {}
        self.average: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def on_train_begin(self, args, state, control, model, **kwargs):
        if not self.decay:
            return
        self.trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.average = {name: weight.detach().clone() for name, weight in self.trained.items()}
        if self.checkpoint is not None and (file := Path(self.checkpoint, WEIGHTS)).is_file():
            for name, weight in load_file(file).items():
                self.trained[name].copy_(weight)

    @torch.no_grad()
    def on_step_end(self, args, state, control, **kwargs):
        beta = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        for name, average in self.average.items():
            average.lerp_(self.trained[name], 1 - beta)

    @torch.no_grad()
    def on_train_end(self, args, state, control, **kwargs):
        """The model is the average, unless it has become the best checkpoint's."""
        if not (args.load_best_model_at_end and state.best_model_checkpoint is not None):
            for name, average in self.average.items():
                self.trained[name].copy_(average)
        self.trained, self.average = {}, {}

    @contextmanager
    def in_place_of_the_weights(self) -> Iterator[None]:
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self):
        for name, average in self.average.items():
            held = self.trained[name].clone()
            self.trained[name].copy_(average)
            average.copy_(held)

    def save_weights(self, folder: Path) -> None:
        """What training goes on from, into a checkpoint."""
        if self.average:
            save_file({name: weight.detach().contiguous() for name, weight in self.trained.items()}, folder / WEIGHTS)
