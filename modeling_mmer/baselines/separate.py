"""Separate models: one for each combination of modalities, trained on that combination alone.

A deployment needs three of them. Each is MMER's transformer over the same embeddings, with a single pass.
"""

import torch
from torch import nn

from ..model.embedding import ModalityEmbedders
from ..model.encoders import States
from ..model.transformer import show
from .base import Baseline, BaselineConfig, Branch, Predictions


class SeparateModel(Baseline):
    """A model for `config.combination`; every row must have it."""

    def __init__(self, config: BaselineConfig):
        self.modalities = config.combinations[config.combination]
        super().__init__(config, self.modalities)
        self.embedders = ModalityEmbedders.for_modalities(config, self.modalities)
        self.branches = nn.ModuleDict({config.combination: Branch(config)})
        self.post_init()

    @property
    def served(self) -> tuple[str, ...]:
        return (self.config.combination,)

    def predict(self, states: States, present: dict[str, torch.Tensor]) -> Predictions:
        branch = self.branches[self.config.combination]
        of_pass = show(self.embedders(states), self.modalities, whole=True)
        return {self.config.combination: branch.predict(branch(of_pass))}
