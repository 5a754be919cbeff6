"""What a model is asked to predict: one [`Task`] for each head, each term of L_S, each label and each figure.

`MMERConfig.tasks` makes them from the names below and the config's fields. Corpora have a column for each name; heads,
losses, collator, figures, predictions and reports loop over them.
"""

from dataclasses import dataclass

CLASS_TASKS = ("emotion", "sentiment")  # of each, `<name>_labels` and `<name>_class_weights` of the config say the rest
DIMENSIONS = ("valence", "arousal", "dominance")
NOT_LABELLED = -100  # the class of a row without a label, which cross-entropy leaves out; of a dimension it is NaN


@dataclass(frozen=True)
class Task:
    """One of `classes` or, without them, a dimension: a number on `scale`.

    Args:
        name: of the task in labels, losses, predictions and figures.
        classes: their names, in the order of the logits; None for a dimension.
        scale: lowest and highest value of a dimension; None for classes.
        class_weights: of the cross-entropy, in the order of `classes`; None: all classes weigh the same.
        soft_labels: whether the votes of raters, where a row has some, replace its label in the cross-entropy.
    """

    name: str
    classes: tuple[str, ...] | None = None
    scale: tuple[float, float] | None = None
    class_weights: tuple[float, ...] | None = None
    soft_labels: bool = False

    @property
    def is_class(self) -> bool:
        return self.classes is not None

    @property
    def votes(self) -> str:
        """The name of its votes among the labels of a batch and the columns of a corpus."""
        return f"{self.name}_votes"

    @property
    def size(self) -> int:
        """Outputs of the task's head."""
        return len(self.classes) if self.is_class else 1
