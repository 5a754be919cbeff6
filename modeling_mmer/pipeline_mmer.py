"""Raw audio and/or text in, emotion out: the pipeline `multimodal-emotion-recognition`.

This file travels with checkpoints: it imports only torch, transformers and numpy, and no model class.
"""

from transformers import Pipeline


class MMERPipeline(Pipeline):
    """Emotion, sentiment and dimensions of utterances given as audio, text or both."""


__all__ = ["MMERPipeline"]
