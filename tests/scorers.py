"""A saved model with tiny random encoders that takes real recordings, and recordings for it."""

from pathlib import Path

import torch
from conftest import REPOSITORY, randomize, real_input_config, real_input_processor

from modeling_mmer import MMERForEmotionRecognition

RECORDINGS = sorted((REPOSITORY / "modeling_mmer/corpora/demo_data/audio").glob("*.opus"))
DIMENSIONS = ("valence", "arousal", "dominance")


def save_model(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    model = randomize(MMERForEmotionRecognition(real_input_config()))
    with torch.no_grad():  # dimensions within their scale, beyond which they would all be shown as its end
        for dimension in DIMENSIONS:
            model.heads[dimension][-1].weight.mul_(0.05)
    model.save_pretrained(folder)
    real_input_processor().save_pretrained(folder)
    return folder


def numbers(row: dict) -> list[float]:
    """All numbers of a result, in the order of its columns."""
    return [value for value in row.values() if isinstance(value, float)]
