"""Cascade: an audio and a text transformer, and a multimodal one over what they put out; trained together.

Each of the three has a classifier on its own CLS ("three separate classifiers concurrently on top of both unimodal and
multimodal CLS embeddings"), and the multimodal loss reaches down into the unimodal transformers.
"""

from dataclasses import replace

import torch
from torch import nn

from ..model.embedding import ModalityEmbedders
from ..model.encoders import States
from ..model.transformer import show
from .base import Baseline, BaselineConfig, Branch, Predictions


class Cascade(Baseline):
    """Two unimodal transformers below a multimodal one."""

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.embedders = ModalityEmbedders.for_modalities(config, config.modalities)
        self.branches = nn.ModuleDict({combination: Branch(config) for combination in config.combinations})
        self.post_init()

    def predict(self, states: States, present: dict[str, torch.Tensor]) -> Predictions:
        modalities = self.config.modalities
        tokens = self.embedders(states)
        outputs = {m: self.branches[m](show(tokens, (m,), whole=True)) for m in modalities}
        # The sequences (B, N_m, d) that the two put out. A modality that only other processes have is hidden here.
        above = {m: replace(t, projected=outputs[m].tokens.get(m, t.projected)) for m, t in tokens.items()}
        outputs["audio_text"] = self.branches["audio_text"](show(above, modalities, whole=True))
        return {name: self.branches[name].predict(output) for name, output in outputs.items()}
