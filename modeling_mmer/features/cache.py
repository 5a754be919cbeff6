"""Frozen-encoder states on disk: each utterance is encoded once, not once per epoch, seed and run.

A file holds the states (L', T, D) of one recording or text, in half precision, real frames only, with a checksum. Its
name is the digest of all that the states depend on (the content, the encoder's weights, which states are kept, how it
is run), so that a renamed recording is found again and a changed one, or another encoder, is not. `extraction.py`
writes the files; here they are found and read, memory-mapped, without the encoders.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.utils import logging

from ..corpora.recordings import Clip, Source, sources_of
from ..model.configuration_mmer import MODALITIES
from ..model.hub_names import commit_of
from ..model.modeling_mmer import MMERModel
from ..model.processing_mmer import MMERProcessor
from .lengths import longest_inputs

logger = logging.get_logger(__name__)

STATES = {modality: f"{modality}_states" for modality in MODALITIES}  # columns that name a row's files
COMMITS = "encoders"  # subfolder of notes: whose states, by hub name and commit, are here
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_WHERE_CLASSES_ARE = ("auto_map", "processor_class")  # fields of a feature extractor's config
_READERS = 8  # threads: hashing recordings waits for the disk


class FeatureCache:
    """Where the states of a model's encoders lie.

    Args:
        folder: of the files.
        model: whose encoders, contexts and choice of states the files depend on; its encoders need not be loaded.
        processor: which makes their inputs.
        dtype: of the files, a key of `DTYPES`.

    Raises:
        ValueError: an unknown dtype.
        OSError: the model names an encoder that cannot be found.
    """

    def __init__(self, folder: str | os.PathLike, model: MMERModel, processor: MMERProcessor, dtype: str = "float16"):
        if dtype not in DTYPES:
            raise ValueError(f"States are kept as {' or '.join(DTYPES)}, not {dtype}.")
        self.folder = Path(folder)
        self.dtype = DTYPES[dtype]
        self._commits: dict[str, str] = {}  # of encoders that were named by the hub
        self.longest = longest_inputs(processor)
        config = model.config
        # Saving a processor adds where its class is found, which changes no spectrogram.
        settings = {k: v for k, v in processor.feature_extractor.to_dict().items() if k not in _WHERE_CLASSES_ARE}
        preprocessing = json.dumps(settings, sort_keys=True, default=str)
        audio, text = (self._encoder(model, modality) for modality in MODALITIES)
        self._origin = {
            "audio": digest(*audio, preprocessing, config.audio_context, str(config.audio_layers), dtype),
            "text": digest(*text, str(config.text_layers), dtype),
        }

    def _encoder(self, model: MMERModel, modality: str) -> tuple[str, str]:
        """What tells the weights of a model's encoder from others, and the dtype that they compute in."""
        encoder, name = model.encoders[modality].encoder, model.config.encoder_name(modality)
        dtype = str(model.dtype if encoder is None else encoder.dtype)  # that of the model is what it will be loaded in
        if name is None:
            return weights_digest(encoder), dtype
        commit = model.config.encoder_revision(modality) or commit_of(name)
        if commit is not None:
            self._commits[name] = commit
        return named_identity(name, commit), dtype

    def note_commits(self) -> None:
        """Leave a note in the folder of the commits whose states it gets, and say so if it holds those of others."""
        for name, commit in self._commits.items():
            notes, as_file = self.folder / COMMITS, name.replace("/", "--")
            others = sorted(path.name.rpartition("@")[2] for path in notes.glob(f"{as_file}@*"))
            if others and commit not in others:
                logger.warning(
                    f"{self.folder} holds states of {name} at commit {', '.join(others)}; this model has commit "
                    f"{commit}: utterances are encoded anew."
                )
            notes.mkdir(parents=True, exist_ok=True)
            (notes / f"{as_file}@{commit}").touch()

    def locate(self, rows: Dataset, processor: MMERProcessor) -> Dataset:
        """Rows with the columns `audio_states` and `text_states`: the names of their files, None for what is missing.

        Raises:
            OSError: a recording cannot be read.
        """
        sources = sources_of(rows)
        paths = list(dict.fromkeys(source.path for source in sources if isinstance(source, Clip)))
        with ThreadPoolExecutor(_READERS) as readers:  # a recording of many spans is read once
            contents = dict(zip(paths, readers.map(file_digest, paths), strict=True))
            audio = list(readers.map(partial(self._audio_name, contents), sources))
        text = [self._text_name(string, processor) for string in rows["text"]]
        return rows.add_column(STATES["audio"], audio).add_column(STATES["text"], text)

    def path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.safetensors"

    def holds(self, name: str) -> bool:
        """Whether the file is there and not cut short. (That no bit of it has changed is seen when it is read.)"""
        try:
            with safe_open(self.path(name), framework="pt"):
                return True
        except (OSError, SafetensorError):
            return False

    def load(self, row: dict[str, Any], modality: str) -> torch.Tensor | None:
        """The states (L', T, D) of a located row, or None where it lacks the modality.

        Raises:
            ValueError: the file is not there, or damaged; a damaged one is put aside, so that the next extraction
                makes it anew.
        """
        name = row[STATES[modality]]
        if name is None:
            return None
        path = self.path(name)
        try:
            with safe_open(path, framework="pt") as file:
                states, expected = file.get_tensor("states"), file.metadata()["crc32"]
            if checksum(states) != expected:
                raise ValueError("its checksum does not match")
        except (OSError, SafetensorError, ValueError) as error:
            if path.exists():
                path.replace(path.with_suffix(".damaged"))
            raise ValueError(
                f"Utterance {row['utterance_id']}: no whole {modality} states at {path} ({error}). Start again: they "
                "will be made anew."
            ) from error
        return states

    def _audio_name(self, contents: Mapping[str, str], source: Source | None) -> str | None:
        """The digest of a recording's content and, if it is one, of the span (`contents`: path -> digest)."""
        if source is None:
            return None
        if isinstance(source, str):
            return digest(self._origin["audio"], Path(source).read_bytes())
        return digest(self._origin["audio"], contents[source.path], source.span)

    def _text_name(self, text: str | None, processor: MMERProcessor) -> str | None:
        if text is None:
            return None
        return digest(self._origin["text"], processor.encode_text([text])["input_ids"].numpy().tobytes())


def checksum(states: torch.Tensor) -> str:
    return f"{zlib.crc32(states.contiguous().view(torch.uint8).numpy()):08x}"


def named_identity(name: str, commit: str | None) -> str:
    """What tells one named set of weights from another, without loading them: a hub name by its commit, a folder (which
    has none) by the content of its files."""
    if commit is not None:
        return f"{name}@{commit}"
    files = [path for path in sorted(Path(name).iterdir()) if path.suffix in (".safetensors", ".bin")]
    with ThreadPoolExecutor(_READERS) as readers:
        return digest(Path(name, "config.json").read_bytes(), *readers.map(file_digest, files))


def weights_digest(module: nn.Module) -> str:
    """SHA-256 of a module's architecture, weights and their names."""
    sha = hashlib.sha256(repr(module).encode())
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def digest(*parts: str | bytes) -> str:
    """SHA-256 of parts, each told apart from the next by its length."""
    sha = hashlib.sha256()
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        sha.update(len(part).to_bytes(8, "little") + part)
    return sha.hexdigest()


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
