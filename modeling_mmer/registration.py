"""Registers MMER with the Auto classes and pipelines of transformers, on import; and the pipeline of this package."""

from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedModel
from transformers.pipelines import PIPELINE_REGISTRY

from .model.configuration_mmer import MMERConfig
from .model.modeling_mmer import MMERForEmotionRecognition, MMERModel
from .model.pipeline_mmer import MMERPipeline
from .model.processing_mmer import MMERProcessor

TASK = "multimodal-emotion-recognition"
RELEASED = Path(__file__).parent / "released"  # the model that is used where none is named

transformers.AutoConfig.register("mmer", MMERConfig, exist_ok=True)
transformers.AutoModel.register(MMERConfig, MMERModel, exist_ok=True)
transformers.AutoModelForAudioClassification.register(MMERConfig, MMERForEmotionRecognition, exist_ok=True)
transformers.AutoModelForSequenceClassification.register(MMERConfig, MMERForEmotionRecognition, exist_ok=True)
transformers.AutoProcessor.register(MMERConfig, MMERProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(
    TASK,
    pipeline_class=MMERPipeline,
    pt_model=transformers.AutoModelForAudioClassification,
    default={"model": (str(RELEASED), None)},
    type="multimodal",
)


def pipeline(model: str | PreTrainedModel | None = None, **options: Any) -> MMERPipeline:
    """The pipeline of a model, run by the code of this package: a checkpoint's own code is not needed.

    Args:
        model: a model, a folder or a hub name; by default the model that comes with the package.
        options: those of `transformers.pipeline`, such as `device`, `dtype`, `batch_size` and `revision`.

    Raises:
        OSError: the model, or an encoder that it names, does not exist.
    """
    model = str(RELEASED) if model is None else model
    return transformers.pipeline(TASK, model=model, pipeline_class=MMERPipeline, **options)
