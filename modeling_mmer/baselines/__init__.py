"""The rivals of Table 1, one file each: the inputs, outputs, Trainer and metrics of MMER, other ways to use them.

They are `PreTrainedModel`s that are saved and loaded like any other, from this package: they bring no remote code.
"""

from .base import Baseline, BaselineConfig
from .cascade import Cascade
from .cif_mmin import CIFMMIN, CIFMMINTeacher
from .late_fusion import LateFusion
from .linear_probe import LinearProbe
from .separate import SeparateModel

__all__ = [
    "CIFMMIN",
    "Baseline",
    "BaselineConfig",
    "CIFMMINTeacher",
    "Cascade",
    "LateFusion",
    "LinearProbe",
    "SeparateModel",
]
