"""Registers MMER with the Auto classes and pipelines of transformers, on import."""

import transformers
from transformers.pipelines import PIPELINE_REGISTRY

from .model.configuration_mmer import MMERConfig
from .model.modeling_mmer import MMERForEmotionRecognition, MMERModel
from .model.pipeline_mmer import MMERPipeline
from .model.processing_mmer import MMERProcessor

transformers.AutoConfig.register("mmer", MMERConfig, exist_ok=True)
transformers.AutoModel.register(MMERConfig, MMERModel, exist_ok=True)
transformers.AutoModelForAudioClassification.register(MMERConfig, MMERForEmotionRecognition, exist_ok=True)
transformers.AutoModelForSequenceClassification.register(MMERConfig, MMERForEmotionRecognition, exist_ok=True)
transformers.AutoProcessor.register(MMERConfig, MMERProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(
    "multimodal-emotion-recognition",
    pipeline_class=MMERPipeline,
    pt_model=transformers.AutoModelForAudioClassification,
    type="multimodal",
)
