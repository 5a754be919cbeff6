"""`MODEL`, a folder or a hub name: what the commands that take one know of it before they load it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, snapshot_download

from ..model.configuration_mmer import MODALITIES, MMERConfig
from ..model.hub_names import CONFIG, commit_of
from ..training.training_corpus import FILE
from .arguments import expanded

BESIDE = ("README.md", "*.png", "results.json", "trainer_state.json", FILE)  # what is of use of a model's folder


def model_and_options(argv: list[str], prog: str, usage: str) -> tuple[str, list[str]]:
    """`MODEL --option …` → the two; `--help` needs no model."""
    if argv and argv[0] in ("-h", "--help"):
        return "", argv
    if not argv or argv[0].startswith("-"):
        raise SystemExit(f"usage: {prog} {usage}; MODEL is a folder or a hub name.")
    return expanded(argv[0]), argv[1:]


def model_commit(name: str) -> str | None:
    """The commit that a model's config, weights and processor are to be loaded from; None of a folder.

    Raises:
        OSError: there is no such model.
        ValueError: it is no MMER.
    """
    commit = commit_of(name)
    file = Path(name, CONFIG) if commit is None else hf_hub_download(name, CONFIG, revision=commit)
    kind = json.loads(Path(file).read_text(encoding="utf-8")).get("model_type")
    if kind != MMERConfig.model_type:
        raise ValueError(f"{name} is a model of type {kind}, not {MMERConfig.model_type}: name a trained MMER model.")
    return commit


def encoder_commits(encoders: tuple[str, str], options: Mapping[str, Any]) -> dict[str, str | None]:
    """The fields of the config that pin an audio and a text encoder to the commits that `options` ask for.

    Raises:
        OSError: there is no such encoder.
    """
    fields = [f"{modality}_encoder_revision" for modality in MODALITIES]
    return {field: commit_of(encoder, options[field]) for field, encoder in zip(fields, encoders, strict=True)}


def model_folder(name: str, commit: str | None) -> Path:
    """Where the card, pictures and records of a model lie; those of a hub name are fetched."""
    return Path(name if commit is None else snapshot_download(name, revision=commit, allow_patterns=BESIDE))
