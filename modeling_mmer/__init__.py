"""MMER: emotion recognition from speech, from text, or from both with one set of weights."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForSequenceClassification,
    AutoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_mmer import MMERConfig
from .modeling_mmer import (
    MMERForEmotionRecognition,
    MMERModel,
    MMERModelOutput,
    MMEROutput,
    MMERPreTrainedModel,
)
from .pipeline_mmer import MMERPipeline
from .processing_mmer import MMERProcessor

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
]

_LAZY = {"MMERCollator": "collator", "MMERTrainer": "trainer"}  # the Trainer takes seconds to import

AutoConfig.register("mmer", MMERConfig, exist_ok=True)
AutoModel.register(MMERConfig, MMERModel, exist_ok=True)
AutoModelForAudioClassification.register(MMERConfig, MMERForEmotionRecognition, exist_ok=True)
AutoModelForSequenceClassification.register(MMERConfig, MMERForEmotionRecognition, exist_ok=True)
AutoProcessor.register(MMERConfig, MMERProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(
    "multimodal-emotion-recognition",
    pipeline_class=MMERPipeline,
    pt_model=AutoModelForAudioClassification,
    type="multimodal",
)


def __getattr__(name: str):
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
