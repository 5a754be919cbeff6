"""Registers MMER with the Auto classes and pipelines of transformers, on import."""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForSequenceClassification,
    AutoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .model.configuration_mmer import MMERConfig
from .model.modeling_mmer import MMERForEmotionRecognition, MMERModel
from .model.pipeline_mmer import MMERPipeline
from .model.processing_mmer import MMERProcessor

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
