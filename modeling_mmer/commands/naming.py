"""The argument `MODEL` of the commands, a folder or a hub name: what is needed before the model is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from ..model.configuration_mmer import MODALITIES
from ..model.hub_names import commit_of
from ..training.training_corpus import FILE
from .arguments import expand_home

_RECORDS = ("README.md", "*.png", "results.json", "trainer_state.json", FILE)  # files besides the model itself


def model_and_options(argv: list[str], prog: str, usage: str) -> tuple[str, list[str]]:
    """Split `MODEL --option …` into the model and the options. `--help` needs no model."""
    if argv and argv[0] in ("-h", "--help"):
        return "", argv
    if not argv or argv[0].startswith("-"):
        raise SystemExit(f"usage: {prog} {usage}; MODEL is a folder or a hub name.")
    return expand_home(argv[0]), argv[1:]


def encoder_commits(encoders: tuple[str, str], options: Mapping[str, Any]) -> dict[str, str | None]:
    """The config fields that pin the audio and the text encoder to the commits of the revisions in `options`.

    Raises:
        OSError: an encoder does not exist.
    """
    fields = [f"{modality}_encoder_revision" for modality in MODALITIES]
    return {field: commit_of(encoder, options[field]) for field, encoder in zip(fields, encoders, strict=True)}


def model_folder(name: str, commit: str | None) -> Path:
    """The folder with the card, pictures and records of a model. Those of a hub name are downloaded."""
    return Path(name if commit is None else snapshot_download(name, revision=commit, allow_patterns=_RECORDS))
