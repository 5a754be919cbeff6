"""Scoring: columns in, columns out. [`Scorer`] is what `mmer predict`, `datasets.map`, Ray and Spark call.

The class is imported on first use, so that `mmer predict --help` does not import torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .scorer import Scorer

__all__ = ["Scorer"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .scorer import Scorer

    return Scorer
