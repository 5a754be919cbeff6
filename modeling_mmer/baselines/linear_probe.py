"""The floor: linear classifiers on the mean of each modality's states, one for each combination.

It shows what the frozen encoders give without a sequence model: whatever learns from sequences must beat it. The
states are always standardised: of one state a linear map expresses the same, and it is found much sooner.
"""

import torch
from torch import nn

from ..model.embedding import StateMixer
from ..model.encoders import States
from ..model.heads import TaskHeads
from ..model.mixing import Means
from .base import Baseline, BaselineConfig, Predictions


class LinearProbe(Baseline):
    """mean_j H_j^m of the modalities of a combination, side by side → a linear map per task."""

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        shapes = {modality: config.states_shape(modality) for modality in config.modalities}
        self.embedders = nn.ModuleDict({m: StateMixer(*shape, standardize=True) for m, shape in shapes.items()})
        self.heads = nn.ModuleDict(
            {
                name: TaskHeads(config, lambda _, size, of=modalities: nn.Linear(sum(shapes[m][1] for m in of), size))
                for name, modalities in config.combinations.items()
            }
        )
        self.post_init()

    def predict(self, states: States, present: dict[str, torch.Tensor]) -> Predictions:
        rows = len(next(iter(present.values())))
        means = {modality: self.mean(states, modality, rows) for modality in self.embedders}
        return {
            name: self.heads[name](torch.cat([means[m] for m in modalities], dim=-1))
            for name, modalities in self.config.combinations.items()
        }

    def mean(self, states: States, modality: str, rows: int) -> torch.Tensor:
        """Over a row's real frames or tokens of the mixed states: (B, D), zero where the row lacks the modality.

        It is the mix of each state's mean, which costs far less than a mix of all frames, and its gradient next to
        nothing."""
        embedder = self.embedders[modality]
        if modality not in states or not states[modality][1].any():
            return embedder.layer_logits.new_zeros(rows, embedder.encoder_width)
        (means,) = embedder.receive(*states[modality], lambda mask: Means(mask, *embedder.statistics()))
        return embedder.layer_weights @ means
