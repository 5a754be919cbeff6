"""What is read from z: the tasks, from z at CLS (f), and the embedding that the contrastive term compares (g of Eq. 6).

Shapes: B examples, K classes, N_m tokens of modality m, d shared width.
"""

from collections.abc import Callable

import torch
from torch import nn

from .configuration_mmer import MMERConfig
from .embedding import ModalityTokens
from .passes import PassOutput
from .transformer import Dropout


class TaskHead(nn.Sequential):
    """f: a two-layer feed-forward network on z^CLS, or on as many of them, side by side, as `inputs` is wide."""

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

    def forward(self, cls: torch.Tensor) -> dict[str, torch.Tensor]:
        """f(z^CLS) of every task for cls (B, d): logits (B, K); dimensions (B,) on the corpus's scale.

        A dimension's head works on [0, 1], from the middle of the scale (1 − CCC does not change under the mapping).
        """
        predictions = {}
        for task in self.config.tasks:
            predictions[task.name] = self[task.name](cls)
            if not task.is_class:
                low, high = task.scale
                predictions[task.name] = low + (high - low) * (0.5 + predictions[task.name].squeeze(-1).float())
        return predictions


class ContrastiveHead(nn.Sequential):
    """g: Linear and ReLU over the mean of a modality's tokens; the mean alone with `contrastive_projection=False`."""

    def __init__(self, config: MMERConfig):
        super().__init__(
            *((nn.Linear(config.hidden_size, config.hidden_size), nn.ReLU()) if config.contrastive_projection else ())
        )

    def forward(self, output: PassOutput, modality: str, tokens: ModalityTokens | None) -> torch.Tensor:
        """z^m = g(mean_j z_j^m) over the modality's real tokens, without CLS and SEP: (B, d); void for rows without."""
        if modality not in output.tokens:
            return super().forward(output.cls)
        mask = tokens.mask.unsqueeze(-1)
        mean = (output.tokens[modality] * mask).sum(1) / mask.sum(1).clamp(min=1)
        return super().forward(mean)
