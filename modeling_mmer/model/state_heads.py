"""Linear heads that judge classes from the encoder states themselves, beside the shared transformer.

Our extension (`state_heads` of the config). A linear map of mean states is hard to beat with few recordings, since it
has little to overfit. It learns by a supervised term of its own, and its logits are averaged with those of f.

Shapes: B examples, K classes, L+1 encoder states, D encoder width.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from .configuration_mmer import MMERConfig
from .embedding import ModalityTokens

# Adam moves all weights alike, so a step moves the logits of a wide input further. Inputs are scaled to make up for it.
REFERENCE_WIDTH = 6000

Predictions = dict[str, torch.Tensor]  # task → logits (B, K), or values (B,)


class StateHead(nn.Linear):
    """(B, L+1, D) means of states → logits (B, K); it starts at zero."""

    def __init__(self, num_states: int, encoder_width: int, size: int):
        super().__init__(num_states * encoder_width, size)

    def forward(self, means: torch.Tensor) -> torch.Tensor:
        means = means.flatten(1).to(self.weight.dtype)
        return super().forward(means * (REFERENCE_WIDTH / self.in_features))


class StateHeads(nn.ModuleDict):
    """A head for each modality and class task. A combination's logits are the sum over its modalities."""

    def __init__(self, config: MMERConfig):
        tasks = [task for task in config.tasks if task.is_class]
        super().__init__(
            {
                modality: nn.ModuleDict({t.name: StateHead(*config.states_shape(modality), t.size) for t in tasks})
                for modality in config.modalities
            }
        )

    def forward(self, tokens: Mapping[str, ModalityTokens], modalities: Iterable[str]) -> Predictions:
        """Logits (B, K) of each class task, from those of `modalities` that the batch has; a row that lacks one gets
        nothing from it."""
        total: Predictions = {}
        for modality in modalities:
            if modality not in tokens:
                continue
            of_modality = tokens[modality]
            for task, head in self[modality].items():
                logits = head(of_modality.state_means) * of_modality.present.unsqueeze(-1)
                total[task] = logits + total[task] if task in total else logits
        return total


def averaged(predictions: Predictions, of_states: Predictions) -> Predictions:
    """Predictions whose logits are the mean of both, where both have a task."""
    return predictions | {task: (predictions[task] + logits) / 2 for task, logits in of_states.items()}
