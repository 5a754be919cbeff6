"""The error that stops a run that has diverged."""

from collections.abc import Sequence


class DivergedError(ValueError):
    """A loss, gradient or prediction is NaN or infinite."""

    def __init__(self, what: str, step: int, utterances: Sequence[str]):
        self.what, self.step, self.utterances = what, step, list(utterances)
        named = f" Utterances of the batch: {', '.join(map(str, utterances))}." if utterances else ""
        super().__init__(
            f"{what} at step {step}: training has diverged.{named} Check these recordings and labels (`mmer corpus "
            "describe` finds corrupt ones), or lower the learning rate. Earlier checkpoints are kept."
        )

    def __reduce__(self):
        """Needed for pickling, because `args` is the message and not the arguments of `__init__`."""
        return type(self), (self.what, self.step, self.utterances)
