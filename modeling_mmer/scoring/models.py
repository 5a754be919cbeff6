"""The model of a scorer: its name → its commit, its pipeline, and the fingerprint that tells it from others."""

import json
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download

from ..features.cache import digest, named_identity
from ..model.configuration_mmer import MMERConfig
from ..model.hub_names import CONFIG, commit_of
from ..model.modeling_mmer import MMERForEmotionRecognition
from ..model.pipeline_mmer import MMERPipeline
from ..model.processing_mmer import MMERProcessor
from ..precision import decide_dtype
from ..registration import RELEASED, TASK

CHECKPOINT = "checkpoint"  # the dtype that the weights have


def model_name(model: str | None) -> str:
    """The name of a model; of None, the folder of the model that comes with the package.

    Raises:
        OSError: this installation has no such model.
    """
    if model is not None:
        return str(model)
    if not (RELEASED / CONFIG).is_file():
        raise OSError("This installation has no model of its own: name one, a folder or a hub name, with --model.")
    return str(RELEASED)


def model_commit(name: str, revision: str | None = None) -> str | None:
    """The commit to load config, weights and processor of a model from; None for a folder.

    Raises:
        OSError: the model does not exist.
        ValueError: it is not an MMER model.
    """
    commit = commit_of(name, revision)
    file = Path(name, CONFIG) if commit is None else hf_hub_download(name, CONFIG, revision=commit)
    kind = json.loads(Path(file).read_text(encoding="utf-8")).get("model_type")
    if kind != MMERConfig.model_type:
        raise ValueError(f"{name} is a model of type {kind}, not {MMERConfig.model_type}: give a trained MMER model.")
    return commit


def load_pipeline(name: str, commit: str | None, dtype: str = CHECKPOINT, device: str | None = None) -> MMERPipeline:
    """The pipeline of a model, on `device` (default: an accelerator if there is one).

    Args:
        dtype: of the encoders, as of [`decide_dtype`], all else in float32; or `checkpoint`, the whole model in that of
            its weights.

    Raises:
        OSError, ValueError: it cannot be loaded.
    """
    of_encoders = None if dtype == CHECKPOINT else getattr(torch, decide_dtype(dtype, device)[0])
    of_model = "auto" if of_encoders is None else torch.float32
    model = MMERForEmotionRecognition.from_pretrained(name, revision=commit, dtype=of_model).eval()
    if of_encoders is not None:
        model.cast_encoders(of_encoders)
    processor = MMERProcessor.from_pretrained(name, revision=commit)
    return MMERPipeline(model=model, processor=processor, task=TASK, device=device)


def fingerprint(name: str, commit: str | None) -> str:
    """A digest of the weights of a model, of its encoders and of the settings of its processor. Equal models have equal
    fingerprints, whatever their folders are called.

    Raises:
        OSError: the model, or an encoder that it names, does not exist.
    """
    config = MMERConfig.from_pretrained(name, revision=commit)
    parts = [named_identity(name, commit)]
    if commit is None:
        parts += [file.read_bytes() for file in sorted(Path(name).glob("*.json")) if file.name in PROCESSOR_FILES]
    for modality in config.modalities:
        if (encoder := config.encoder_name(modality)) is not None:
            parts.append(named_identity(encoder, config.encoder_revision(modality) or commit_of(encoder)))
    return digest(*parts)


PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json")
