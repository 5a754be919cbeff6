"""The floor: linear classifiers on the mean of each modality's states, one for each combination.

It shows what the frozen encoders give away for nothing: whatever learns from sequences must beat it. The states are
always standardised: of one state a linear map expresses the same, and it is found much sooner.
"""

import torch
from torch import nn

from ..model.embedding import StateMixer
from ..model.heads import TaskHeads
from ..model.passes import COMBINATIONS, MODALITIES
from .base import Baseline, BaselineConfig, Predictions, States


class LinearProbe(Baseline):
    """mean_j H_j^m of the modalities of a combination, side by side → a linear map per task."""

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        shapes = {modality: self.states_shape(modality) for modality in MODALITIES}
        self.embedders = nn.ModuleDict({m: StateMixer(*shape, standardize=True) for m, shape in shapes.items()})
        self.heads = nn.ModuleDict(
            {
                name: TaskHeads(config, lambda _, size, of=modalities: nn.Linear(sum(shapes[m][1] for m in of), size))
                for name, modalities in COMBINATIONS.items()
            }
        )
        self.post_init()
        self.freeze_encoders()

    def judge(self, states: States, present: dict[str, torch.Tensor]) -> Predictions:
        means = {modality: self.mean(states, modality, len(present["audio"])) for modality in MODALITIES}
        return {
            name: self.heads[name](torch.cat([means[m] for m in modalities], dim=-1))
            for name, modalities in COMBINATIONS.items()
        }

    def mean(self, states: States, modality: str, rows: int) -> torch.Tensor:
        """Over a row's real frames or tokens of the mixed states: (B, D), zero where the row lacks the modality."""
        embedder = self.embedders[modality]
        if modality not in states or not states[modality][1].any():
            return embedder.layer_logits.new_zeros(rows, embedder.encoder_width)
        of_modality, mask = states[modality]
        return embedder.mix(of_modality, mask).sum(1) / mask.sum(-1, keepdim=True).clamp(min=1)
