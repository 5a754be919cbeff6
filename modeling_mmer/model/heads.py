"""What is read from z: the tasks, from z at CLS (f) and, if asked for, from pooled tokens beside it; and the embedding
that the contrastive term compares (g of Eq. 6).

Shapes: B examples, K classes, N_m tokens of modality m, d shared width.
"""

import math
from collections.abc import Callable

import torch
from torch import nn

from .configuration_mmer import MMERConfig
from .embedding import ModalityTokens
from .transformer import Dropout, PassOutput

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)  # as CLIP's, and its bound
HIGHEST_SCALE = 100


def mean_of(z: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of z (B, N, d) over the real tokens of mask (B, N): (B, d), zero for rows without any."""
    mask = mask.unsqueeze(-1)
    return (z * mask).sum(1) / mask.sum(1).clamp(min=1)


class AttentionPooling(nn.Module):
    """Weighted means of a modality's tokens: each head weighs them by scores of its own, for its share of the d
    dimensions. It starts close to the mean."""

    def __init__(self, config: MMERConfig):
        super().__init__()
        self.score = nn.Linear(config.hidden_size, config.num_attention_heads)

    def forward(self, z: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """z (B, N, d) and mask (B, N), true where real → (B, d), zero for rows without tokens."""
        scores = self.score(z).float().masked_fill(~mask.unsqueeze(-1), torch.finfo(torch.float32).min)
        weights = (scores.softmax(1) * mask.unsqueeze(-1)).to(z.dtype)  # (B, N, h)
        return torch.einsum("bnh,bnhw->bhw", weights, z.unflatten(-1, (weights.shape[-1], -1))).flatten(1)


class Readout(nn.ModuleDict):
    """What the task heads read of a pass: z at CLS (the paper) or, beside it, the pooled tokens of each modality, zero
    where the pass or the row lacks it. Our extension, `readout` of the config."""

    def __init__(self, config: MMERConfig):
        pooled = [] if config.readout == "cls" else config.modalities
        super().__init__({m: AttentionPooling(config) for m in pooled} if config.readout == "attention" else {})
        self.pooled = list(pooled)
        self.width = config.hidden_size * (1 + len(pooled))

    def forward(self, output: PassOutput) -> torch.Tensor:
        """(B, width)."""
        parts = [output.cls]
        for modality in self.pooled:
            if modality not in output.spans:
                parts.append(torch.zeros_like(output.cls))
                continue
            pool = self[modality] if modality in self else mean_of
            parts.append(pool(output.tokens[modality], output.mask[:, output.spans[modality]]))
        return torch.cat(parts, dim=-1)


class TaskHead(nn.Sequential):
    """f: a two-layer feed-forward network on z^CLS, or on what is read beside it, `inputs` wide in all."""

    def __init__(self, config: MMERConfig, size: int, inputs: int | None = None):
        super().__init__(
            nn.Linear(inputs or config.hidden_size, config.hidden_size),
            nn.GELU(),
            Dropout(config.dropout),
            nn.Linear(config.hidden_size, size),
        )


class TaskHeads(nn.ModuleDict):
    """A head for each task of the config."""

    def __init__(self, config: MMERConfig, build: Callable[[MMERConfig, int], nn.Module] = TaskHead):
        super().__init__({task.name: build(config, task.size) for task in config.tasks})
        self.config = config

    def forward(self, read: torch.Tensor) -> dict[str, torch.Tensor]:
        """f of every task for what is read of a pass (B, width): logits (B, K); dimensions (B,) on the corpus's scale.

        A dimension's head works on [0, 1], from the middle of the scale (1 − CCC does not change under the mapping).
        """
        predictions = {}
        for task in self.config.tasks:
            predictions[task.name] = self[task.name](read)
            if not task.is_class:
                low, high = task.scale
                predictions[task.name] = low + (high - low) * (0.5 + predictions[task.name].squeeze(-1).float())
        return predictions


class ContrastiveHead(nn.Sequential):
    """g: Linear and ReLU over the mean of a modality's tokens; the mean alone with `contrastive_projection=False`.

    For the form "cosine" (ours, after CLIP), g has no ReLU and ends on the unit sphere, and the similarities are
    multiplied by a learnt scale, the inverse of the temperature.
    """

    def __init__(self, config: MMERConfig):
        cosine = config.contrastive_form == "cosine"
        layers = [nn.Linear(config.hidden_size, config.hidden_size), *([] if cosine else [nn.ReLU()])]
        super().__init__(*(layers if config.contrastive_projection else ()))
        self.logit_scale = nn.Parameter(torch.full((1,), INITIAL_LOGIT_SCALE)) if cosine else None

    @property
    def scale(self) -> torch.Tensor | float:
        """What similarities are multiplied by: 1 without a temperature."""
        return 1.0 if self.logit_scale is None else self.logit_scale.exp().clamp(max=HIGHEST_SCALE)

    def forward(self, output: PassOutput, modality: str, tokens: ModalityTokens | None) -> torch.Tensor:
        """z^m = g(mean_j z_j^m) over the modality's real tokens, without CLS and SEP: (B, d); void for rows without."""
        mean = mean_of(output.tokens[modality], tokens.mask) if modality in output.tokens else output.cls
        embeds = super().forward(mean)
        return embeds if self.logit_scale is None else nn.functional.normalize(embeds.float(), dim=-1)
