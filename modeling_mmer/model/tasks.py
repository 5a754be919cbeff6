"""What a model is asked to predict: one [`Task`] for each head, each term of L_S, each label and each figure.

`MMERConfig.tasks` makes them from the config's fields; heads, losses, collator and predictions loop over them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

NOT_LABELLED = -100  # the class of a row without a label, which cross-entropy leaves out; of a dimension it is NaN


@dataclass(frozen=True)
class Task:
    """A class among `labels` or, without labels, a dimension: a number on `scale`.

    Args:
        name: of the task in labels, losses, predictions and figures.
        labels: the classes, in the order of the logits; None for a dimension.
        scale: lowest and highest value of a dimension; None for classes.
        class_weights: of the cross-entropy, in the order of `labels`; None: all classes weigh the same.
    """

    name: str
    labels: tuple[str, ...] | None = None
    scale: tuple[float, float] | None = None
    class_weights: tuple[float, ...] | None = None

    @property
    def is_class(self) -> bool:
        return self.labels is not None

    @property
    def size(self) -> int:
        """Outputs of the task's head."""
        return len(self.labels) if self.is_class else 1


def read_labels(
    labels: Mapping[str, torch.Tensor] | torch.Tensor, tasks: Iterable[Task], rows: int
) -> dict[str, torch.Tensor]:
    """Labels of a batch of `rows` as the losses take them: those of classes in 64 bits. A tensor is the emotions'.

    Raises:
        ValueError: a task is unknown, a label is the number of no class, or there is not one for each row.
    """
    if isinstance(labels, torch.Tensor):
        labels = {"emotion": labels}
    elif not isinstance(labels, Mapping):
        raise ValueError(f"labels must be a dict of tensors, or a tensor of the emotions, not {type(labels).__name__}.")
    known = {task.name: task for task in tasks}
    if unknown := set(labels) - set(known):
        raise ValueError(f"Labels of unknown tasks: {', '.join(sorted(unknown))}. Known: {', '.join(known)}.")
    for name, of_task in labels.items():
        if of_task.shape != (rows,):
            raise ValueError(f"labels of {name} must be one for each of the {rows} rows, not {tuple(of_task.shape)}.")
    return {name: class_numbers(known[name], v) if known[name].is_class else v for name, v in labels.items()}


def class_numbers(task: Task, labels: torch.Tensor) -> torch.Tensor:
    """Labels of a task with classes as int64, after a check that each is one of its numbers, or `NOT_LABELLED`."""
    if labels.is_floating_point():
        raise ValueError(f"labels of {task.name} must be whole numbers, not {labels.dtype}.")
    labels = labels.long()
    outside = labels[(labels != NOT_LABELLED) & ((labels < 0) | (labels >= task.size))]
    if len(outside):
        raise ValueError(
            f"labels of {task.name} are 0 to {task.size - 1} ({', '.join(task.labels)}), or {NOT_LABELLED} where there "
            f"is none; {outside[0].item()} is neither."
        )
    return labels
