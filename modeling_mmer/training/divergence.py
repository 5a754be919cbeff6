"""Training stops where it has diverged, and names the batch: the ids of its utterances travel with it as far as the
trainer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

UTTERANCES = "utterance_ids"  # the key of a batch that no model sees


class DivergedError(ValueError):
    """A loss, a gradient or a prediction is NaN or infinite."""

    def __init__(self, what: str, step: int, utterances: Sequence[str]):
        self.what, self.step, self.utterances = what, step, list(utterances)
        named = f" Utterances of the batch: {', '.join(map(str, utterances))}." if utterances else ""
        super().__init__(
            f"{what} at step {step}: training has diverged.{named} Look at these recordings and labels (mmer corpus "
            "describe finds broken ones), or try a lower learning rate. Checkpoints written before are kept."
        )

    def __reduce__(self):
        """Pickled by what it was made of: `args` holds the finished message, which `__init__` does not take."""
        return type(self), (self.what, self.step, self.utterances)


@dataclass
class NamingCollator:
    """A collator whose batches also hold the `utterance_id` of their rows, if rows have one."""

    collator: Callable[[Sequence[dict[str, Any]]], dict[str, Any]]

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {**self.collator(rows), UTTERANCES: [row["utterance_id"] for row in rows if "utterance_id" in row]}
