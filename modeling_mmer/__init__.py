"""MMER: emotion recognition from speech, from text, or from both with one set of weights.

Public names are imported on first use, so that `mmer --help` does not import torch. The first use also registers MMER
with the Auto classes and pipelines of transformers (see `registration`). If the Auto classes are already imported,
`import modeling_mmer` registers it.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model.configuration_mmer import MMERConfig
    from .model.modeling_mmer import (
        MMERForEmotionRecognition,
        MMERModel,
        MMERModelOutput,
        MMEROutput,
        MMERPreTrainedModel,
    )
    from .model.pipeline_mmer import MMERPipeline
    from .model.processing_mmer import MMERProcessor
    from .registration import pipeline
    from .training.collator import MMERCollator
    from .training.trainer import MMERTrainer

__version__ = "0.1.0"

__all__ = [
    "MMERCollator",
    "MMERConfig",
    "MMERForEmotionRecognition",
    "MMERModel",
    "MMERModelOutput",
    "MMEROutput",
    "MMERPipeline",
    "MMERPreTrainedModel",
    "MMERProcessor",
    "MMERTrainer",
    "pipeline",
]

_MODULES = {  # public name → its module
    "MMERCollator": "training.collator",
    "MMERConfig": "model.configuration_mmer",
    "MMERPipeline": "model.pipeline_mmer",
    "MMERProcessor": "model.processing_mmer",
    "MMERTrainer": "training.trainer",
    "pipeline": "registration",
}


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module(".registration", __name__)
    return getattr(import_module(f".{_MODULES.get(name, 'model.modeling_mmer')}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if "transformers.models.auto.modeling_auto" in sys.modules:
    import_module(".registration", __name__)
