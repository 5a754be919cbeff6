"""The heads f that read every task from z at CLS, and the supervised term over what they predict.

Shapes: B examples, K classes, d shared width.
"""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from .configuration_mmer import MMERConfig
from .losses import gatherer, supervised_loss
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
    """A head per task: emotion, sentiment and the dimensions of the config."""

    def __init__(self, config: MMERConfig, build: Callable[[MMERConfig, int], nn.Module] = TaskHead):
        sizes = {"emotion": len(config.emotion_labels), "sentiment": len(config.sentiment_labels)}
        sizes |= {dimension: 1 for dimension in config.dimensions}
        super().__init__({task: build(config, size) for task, size in sizes.items()})
        self.config = config

    def forward(self, cls: torch.Tensor) -> dict[str, torch.Tensor]:
        """f(z^CLS) of every task for cls (B, d): logits (B, K); dimensions (B,) on the corpus's scale.

        A dimension's head works on [0, 1], from the middle of the scale (1 − CCC does not change under the mapping).
        """
        predictions = {task: head(cls) for task, head in self.items()}
        low, high = self.config.label_scale
        for dimension in self.config.dimensions:
            predictions[dimension] = low + (high - low) * (0.5 + predictions[dimension].squeeze(-1).float())
        return predictions


def supervised(
    model: nn.Module,
    predictions: Mapping[str, Mapping[str, torch.Tensor]],
    labels: Mapping[str, torch.Tensor],
    present: Mapping[str, torch.Tensor],
    smoothing: float = 0.0,
) -> dict[str, torch.Tensor]:
    """The term `supervised` over the global batch, with the class weights of the model's config; and each task's part.

    Args: as of [`losses.supervised_loss`].
    """
    gather, config = gatherer(model.training), model.config
    predictions = {name: {t: gather(p) for t, p in tasks.items()} for name, tasks in predictions.items()}
    present = {name: gather(rows) for name, rows in present.items()}
    labels = {task: gather(of_task) for task, of_task in labels.items()}
    weights = {
        task: None if weights is None else torch.tensor(weights, dtype=torch.float32, device=model.device)
        for task, weights in (
            ("emotion", config.emotion_class_weights),
            ("sentiment", config.sentiment_class_weights),
        )
    }
    total, of_tasks = supervised_loss(predictions, labels, present, weights, smoothing)
    return {"supervised": total, **of_tasks}
