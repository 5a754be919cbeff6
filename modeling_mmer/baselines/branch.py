"""A transformer of a rival's own, with its CLS and SEP and a classifier on its CLS.

Separate models, Cascade and Late fusion are made of these. Each has the size of MMER's shared transformer.
"""

import torch
from torch import nn

from ..model.embedding import ModalityEmbedder, ModalityTokens
from ..model.heads import TaskHeads
from ..model.passes import Contextual, Pass, run_alone, shown_of
from ..model.transformer import SharedTransformer
from .base import BaselineConfig


class Branch(nn.Module):
    """CLS | modality | SEP | … → z, and the tasks read from z at CLS."""

    def __init__(self, config: BaselineConfig):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.sep_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.transformer = SharedTransformer(config)
        self.heads = TaskHeads(config)

    def forward(self, of_pass: Pass) -> Contextual:
        return run_alone(of_pass, self.cls_token, self.sep_token, self.transformer)


def build_embedder(config: BaselineConfig, modality: str, states_shape: tuple[int, int]) -> ModalityEmbedder:
    """What MMER does to a modality's states before its transformer (Eq. 1, 2)."""
    return ModalityEmbedder(
        *states_shape,
        hidden_size=config.hidden_size,
        stride=config.audio_stride if modality == "audio" else 1,
        standardize=config.state_normalization == "standardize",
    )


def show(
    tokens: dict[str, ModalityTokens],
    embeddings: dict[str, torch.Tensor],
    embedders: nn.ModuleDict,
    modalities: tuple[str, ...],
) -> Pass:
    """The pass over `modalities` of the rows that have all of them; `embeddings` (B, N_m, d) come before v^m."""
    return Pass(
        {m: embedding + embedders[m].type_embedding for m, embedding in embeddings.items()},
        shown_of(tokens, modalities, whole=True),
    )
