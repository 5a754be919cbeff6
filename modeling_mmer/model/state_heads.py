"""Linear heads that judge classes from the encoder states themselves, beside the shared transformer.

Our extension (`state_heads` of the config). A linear map of mean states is hard to beat with few recordings, since it
has little to overfit. It learns by a supervised term of its own, and its logits are added to those of f, weighted.

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
    """A head for each modality and class task, and how much they count beside f.

    The logits of a combination are α · those of f + β · the sum of those of its modalities. α and β, of each task and
    combination, are ½ during training. It fits both to its rows, so the validation rows show which of the two to
    believe, and how far (`training/balance.py`).
    """

    def __init__(self, config: MMERConfig):
        tasks = [task for task in config.tasks if task.is_class]
        super().__init__(
            {
                modality: nn.ModuleDict({t.name: StateHead(*config.states_shape(modality), t.size) for t in tasks})
                for modality in config.modalities
            }
        )
        self.combinations = config.combinations
        self.tasks = [task.name for task in tasks]
        for task in self.tasks:
            self.register_buffer(f"balance_{task}", torch.full((len(self.combinations), 2), 0.5))  # rows of α, β

    def balance(self, task: str) -> torch.Tensor:
        """α and β of each combination, in the config's order: (combinations, 2)."""
        return self.get_buffer(f"balance_{task}")

    def logits(self, tokens: Mapping[str, ModalityTokens], modalities: Iterable[str]) -> Predictions:
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

    def join(self, predictions: Predictions, of_states: Predictions, combination: torch.Tensor | int) -> Predictions:
        """Predictions of f with the logits of both where both have a task.

        Args:
            combination: the number of the combination that they are of, one for all rows or one for each (B,).
        """
        joined = dict(predictions)
        for task, logits in of_states.items():
            alpha, beta = self.balance(task)[combination].unbind(-1)
            if alpha.dim():
                alpha, beta = alpha.unsqueeze(-1), beta.unsqueeze(-1)
            joined[task] = alpha * predictions[task] + beta * logits
        return joined

    def fullest(self, tokens: Mapping[str, ModalityTokens]) -> torch.Tensor:
        """The number of the fullest combination of each row, (B,)."""
        number = None
        for i, modalities in enumerate(self.combinations.values()):
            if all(modality in tokens for modality in modalities):
                has_all = torch.stack([tokens[modality].present for modality in modalities]).all(0)
                number = torch.zeros_like(has_all, dtype=torch.long) if number is None else number
                number = torch.where(has_all, i, number)
        return number
