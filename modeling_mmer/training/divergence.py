"""The error in which training ends where it has diverged."""

from collections.abc import Sequence


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
