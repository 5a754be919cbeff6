"""The heads f that read every task from z at CLS, and the supervised term over what they predict.

Shapes: B examples, K classes, d shared width.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from .configuration_mmer import MMERConfig
from .losses import IGNORED, gatherer, supervised_loss
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


def read_labels(
    labels: Mapping[str, torch.Tensor] | torch.Tensor, config: MMERConfig, rows: int
) -> dict[str, torch.Tensor]:
    """Labels of a batch of `rows` as the losses take them: those of classes in 64 bits. A tensor is the emotions'.

    Raises:
        ValueError: a task is unknown, a label is the number of no class, or there is not one for each row.
    """
    if isinstance(labels, torch.Tensor):
        labels = {"emotion": labels}
    elif not isinstance(labels, Mapping):
        raise ValueError(f"labels must be a dict of tensors, or a tensor of the emotions, not {type(labels).__name__}.")
    classes = {"emotion": config.emotion_labels, "sentiment": config.sentiment_labels}
    tasks = (*classes, *config.dimensions)
    if unknown := set(labels) - set(tasks):
        raise ValueError(f"Labels of unknown tasks: {', '.join(sorted(unknown))}. Known: {', '.join(tasks)}.")
    for task, of_task in labels.items():
        if of_task.shape != (rows,):
            raise ValueError(f"labels of {task} must be one for each of the {rows} rows, not {tuple(of_task.shape)}.")
    of_classes = {task: class_numbers(task, labels[task], names) for task, names in classes.items() if task in labels}
    return dict(labels) | of_classes


def class_numbers(task: str, labels: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """Labels of a task with classes as int64, after a check that each is one of its numbers, or `IGNORED`."""
    if labels.is_floating_point():
        raise ValueError(f"labels of {task} must be whole numbers, not {labels.dtype}.")
    labels = labels.long()
    outside = labels[(labels != IGNORED) & ((labels < 0) | (labels >= len(names)))]
    if len(outside):
        raise ValueError(
            f"labels of {task} are 0 to {len(names) - 1} ({', '.join(names)}), or {IGNORED} where there is none; "
            f"{outside[0].item()} is neither."
        )
    return labels


def supervised(
    model: nn.Module,
    predictions: Mapping[str, Mapping[str, torch.Tensor]],
    labels: Mapping[str, torch.Tensor] | torch.Tensor,
    present: Mapping[str, torch.Tensor],
    smoothing: float = 0.0,
) -> dict[str, torch.Tensor]:
    """The term `supervised` over the global batch, with the class weights of the model's config; and each task's part.

    Args: as of [`losses.supervised_loss`]; labels as of [`read_labels`].
    """
    gather, config = gatherer(model.training), model.config
    labels = read_labels(labels, config, rows=len(next(iter(present.values()))))
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
