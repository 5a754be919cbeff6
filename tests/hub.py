"""Creates a cache of the hub as `hf download` leaves it, so that models load by name without a network."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import datasets
import huggingface_hub.constants
import pytest
import torch
from conftest import randomize, real_input_config, real_input_processor
from transformers import AutoModel, WhisperModel

FIRST, SECOND = "1" * 40, "2" * 40  # commits


def put(cache: Path, name: str, folder: Path, commit: str = FIRST, kind: str = "models") -> Path:
    """Lay the files of a folder out as a commit of a repository, its newest; the folder in the cache."""
    repository = cache / f"{kind}--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        if file.is_file():
            os.symlink(file.resolve(), snapshot / file.name)
    point(cache, name, commit, kind=kind)
    return snapshot


def point(cache: Path, name: str, commit: str, branch: str = "main", kind: str = "models") -> None:
    """Let a branch of a repository be at a commit."""
    refs = cache / f"{kind}--{name.replace('/', '--')}" / "refs"
    refs.mkdir(exist_ok=True)
    (refs / branch).write_text(commit)


@contextmanager
def offline(cache: Path):
    """This process, and those that it starts, work offline and find models in `cache`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        patch.setenv("HF_HUB_CACHE", str(cache))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield cache


def make_encoders(folder: Path, seed: int) -> dict[str, Path]:
    """A tiny Whisper with its feature extractor and a tiny RoBERTa with its tokenizer, for real inputs."""
    config, processor = real_input_config(), real_input_processor()
    torch.manual_seed(seed)
    encoders = {"audio": WhisperModel(config.audio_config), "text": AutoModel.from_config(config.text_config)}
    parts = {"audio": processor.feature_extractor, "text": processor.tokenizer}
    for modality, encoder in encoders.items():
        randomize(encoder).save_pretrained(folder / modality)
        parts[modality].save_pretrained(folder / modality)
    return {modality: folder / modality for modality in encoders}


def copy(cache: Path, to: Path) -> Path:
    """A cache of its own for a test that changes it; the files are linked."""
    return Path(shutil.copytree(cache, to, symlinks=True))
