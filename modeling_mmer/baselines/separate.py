"""Separate models: one for each combination of modalities, trained on that combination alone.

A deployment needs three of them. Each is MMER's transformer over the same embeddings, with a single pass.
"""

import torch
from torch import nn

from ..model.embedding import embed_states
from ..model.passes import COMBINATIONS
from .base import Baseline, BaselineConfig, Predictions, States
from .branch import Branch, build_embedder, show


class SeparateModel(Baseline):
    """A model for `config.combination`; every row must have it."""

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        modalities = COMBINATIONS[config.combination]
        self.embedders = nn.ModuleDict({m: build_embedder(config, m, self.states_shape(m)) for m in modalities})
        self.branches = nn.ModuleDict({config.combination: Branch(config)})
        self.post_init()
        self.freeze_encoders()

    def combinations(self) -> tuple[str, ...]:
        return (self.config.combination,)

    def judge(self, states: States, present: dict[str, torch.Tensor]) -> Predictions:
        tokens = embed_states(self.embedders, states, self.training)
        branch = self.branches[self.config.combination]
        embeddings = {m: t.hidden for m, t in tokens.items()}
        of_pass = show(tokens, embeddings, self.embedders, COMBINATIONS[self.config.combination])
        return {self.config.combination: branch.heads(branch(of_pass).cls)}
