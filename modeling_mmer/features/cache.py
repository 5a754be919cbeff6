"""A cache of frozen-encoder states on disk: each utterance is encoded once instead of once per epoch, seed and run.

The states (L', T, D) of one recording or text are kept without padding, in half precision, and with a checksum. Their
name is a digest of everything that they depend on: the input, the weights of the encoder, the selected states and the
settings. A renamed recording is therefore found again, while a changed recording or another encoder is encoded anew.
`extraction.py` fills the cache, and `shards.py` has its files. This module names and reads states, without loading the
encoders.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers.utils import logging

from ..corpora.recordings import Clip, Source, sources_of
from ..model.configuration_mmer import MODALITIES
from ..model.hub_names import commit_of
from ..model.modeling_mmer import MMERModel
from ..model.processing_mmer import MMERProcessor
from .lengths import longest_inputs
from .shards import Shards

logger = logging.get_logger(__name__)

STATES = {modality: f"{modality}_states" for modality in MODALITIES}  # columns with the names of a row's states
COMMITS = "encoders"  # subfolder that records the hub name and commit of each encoder in the cache
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_CODE_FIELDS = ("auto_map", "processor_class")  # fields of a feature extractor's config that do not affect features
_READERS = 8  # threads; hashing recordings is bound by the disk


class FeatureCache:
    """The cached states of the encoders of a model.

    Args:
        folder: the folder of the cache.
        model: the model. Its encoders, audio context and layer selection are part of the keys; the encoders need not
            be loaded.
        processor: the processor that prepares the inputs.
        dtype: precision of the states, a key of `DTYPES`.

    Raises:
        ValueError: the dtype is unknown.
        OSError: an encoder of the model cannot be found.
    """

    def __init__(self, folder: str | os.PathLike, model: MMERModel, processor: MMERProcessor, dtype: str = "float16"):
        if dtype not in DTYPES:
            raise ValueError(f"States can be cached as {' or '.join(DTYPES)}, not as {dtype}.")
        self.folder = Path(folder)
        self.shards = Shards(folder)
        self.dtype = DTYPES[dtype]
        self._commits: dict[str, str] = {}  # hub name -> commit
        self.longest = longest_inputs(processor)
        config = model.config
        # Saving a processor adds fields that locate its code. They do not change the features.
        settings = {k: v for k, v in processor.feature_extractor.to_dict().items() if k not in _CODE_FIELDS}
        preprocessing = json.dumps(settings, sort_keys=True, default=str)
        audio, text = (self._encoder(model, modality) for modality in MODALITIES)
        self._origin = {
            "audio": digest(*audio, preprocessing, config.audio_context, str(config.audio_layers), dtype),
            "text": digest(*text, str(config.text_layers), dtype),
        }

    def _encoder(self, model: MMERModel, modality: str) -> tuple[str, str]:
        """An identifier of the weights of an encoder, and the dtype that it runs in."""
        encoder, name = model.encoders[modality].encoder, model.config.encoder_name(modality)
        # Encoders are loaded in the dtype that was chosen for them, or in that of the model.
        dtype = str((model.encoders[modality].dtype or model.dtype) if encoder is None else encoder.dtype)
        if name is None:
            return weights_digest(encoder), dtype
        commit = model.config.encoder_revision(modality) or commit_of(name)
        if commit is not None:
            self._commits[name] = commit
        return named_identity(name, commit), dtype

    def note_commits(self) -> None:
        """Record the commits of the encoders in the folder. Warn if it has states of other commits."""
        for name, commit in self._commits.items():
            notes, as_file = self.folder / COMMITS, name.replace("/", "--")
            others = sorted(path.name.rpartition("@")[2] for path in notes.glob(f"{as_file}@*"))
            if others and commit not in others:
                logger.warning(
                    f"{self.folder} has states of {name} at commit {', '.join(others)}, but this model uses commit "
                    f"{commit}: utterances are encoded again."
                )
            notes.mkdir(parents=True, exist_ok=True)
            (notes / f"{as_file}@{commit}").touch()

    def locate(self, rows: Dataset, processor: MMERProcessor) -> Dataset:
        """Add the columns `audio_states` and `text_states` with the names of states, None where a modality is missing.

        Raises:
            OSError: a recording cannot be read.
        """
        sources = sources_of(rows)
        paths = list(dict.fromkeys(source.path for source in sources if isinstance(source, Clip)))
        contents = file_digests(paths)  # a recording with many spans is read once
        with ThreadPoolExecutor(_READERS) as readers:
            audio = list(readers.map(partial(self._audio_name, contents), sources))
        text = [self._text_name(string, processor) for string in rows["text"]]
        return rows.add_column(STATES["audio"], audio).add_column(STATES["text"], text)

    def load(self, row: dict[str, Any], modality: str) -> torch.Tensor | None:
        """The states (L', T, D) of a located row, or None if it lacks the modality.

        Raises:
            ValueError: they are missing or damaged. A damaged file is moved aside, so that the next extraction creates
                it again.
        """
        if row[STATES[modality]] is None:
            return None
        try:
            return self.shards.read(row[STATES[modality]])
        except ValueError as error:
            raise ValueError(f"Utterance {row['utterance_id']}: the {modality} states {error}") from error

    def _audio_name(self, contents: Mapping[str, str], source: Source | None) -> str | None:
        """The name of the states of a recording or a span of one (`contents`: path -> digest of the recording)."""
        if source is None:
            return None
        if isinstance(source, str):
            return digest(self._origin["audio"], Path(source).read_bytes())
        return digest(self._origin["audio"], contents[source.path], source.span)

    def _text_name(self, text: str | None, processor: MMERProcessor) -> str | None:
        if text is None:
            return None
        return digest(self._origin["text"], processor.encode_text([text])["input_ids"].numpy().tobytes())


def named_identity(name: str, commit: str | None) -> str:
    """An identifier of named weights, without loading them: a hub name with its commit, or a digest of the files of a
    folder."""
    if commit is not None:
        return f"{name}@{commit}"
    files = [path for path in sorted(Path(name).iterdir()) if path.suffix in (".safetensors", ".bin")]
    return digest(Path(name, "config.json").read_bytes(), *file_digests(files).values())


def weights_digest(module: nn.Module) -> str:
    """SHA-256 of the architecture, the parameter names and the weights of a module."""
    sha = hashlib.sha256(repr(module).encode())
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def digest(*parts: str | bytes) -> str:
    """SHA-256 of several parts, each preceded by its length."""
    sha = hashlib.sha256()
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        sha.update(len(part).to_bytes(8, "little") + part)
    return sha.hexdigest()


def file_digests(paths: Iterable[str | os.PathLike]) -> dict[str | os.PathLike, str]:
    """SHA-256 of the content of each file."""

    def read(path: str | os.PathLike) -> str:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    paths = list(paths)
    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(paths, readers.map(read, paths), strict=True))
