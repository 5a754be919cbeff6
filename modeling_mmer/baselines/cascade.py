"""Cascade: an audio and a text transformer, and a multimodal one over what they put out; trained together.

Each of the three has a classifier on its own CLS ("three separate classifiers concurrently on top of both unimodal and
multimodal CLS embeddings"), and the multimodal loss reaches down into the unimodal transformers.
"""

import torch
from torch import nn

from ..model.embedding import embed_states
from ..model.passes import COMBINATIONS, MODALITIES
from .base import Baseline, BaselineConfig, Predictions, States
from .branch import Branch, build_embedder, show


class Cascade(Baseline):
    """Two unimodal transformers below a multimodal one."""

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.embedders = nn.ModuleDict({m: build_embedder(config, m, self.states_shape(m)) for m in MODALITIES})
        self.branches = nn.ModuleDict({combination: Branch(config) for combination in COMBINATIONS})
        self.post_init()
        self.freeze_encoders()

    def judge(self, states: States, present: dict[str, torch.Tensor]) -> Predictions:
        tokens = embed_states(self.embedders, states, self.training)
        embeddings = {m: t.hidden for m, t in tokens.items()}
        contextual = {m: self.branches[m](show(tokens, embeddings, self.embedders, (m,))) for m in MODALITIES}
        # (B, N_m, d): the sequences that the two put out. A modality that only other processes have is hidden here.
        above = {m: contextual[m].tokens.get(m, t.hidden) for m, t in tokens.items()}
        both = show(tokens, above, self.embedders, MODALITIES)
        contextual["audio_text"] = self.branches["audio_text"](both)
        return {name: self.branches[name].heads(contextual[name].cls) for name in COMBINATIONS}
