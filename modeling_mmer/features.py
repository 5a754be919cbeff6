"""Frozen-encoder states on disk: each utterance is encoded once, not once per epoch, seed and run.

A file holds the states (L+1, T, D) of one recording or text, float16, real frames only. Its name is the digest of all
that the states depend on (the content, the encoder's weights, how it is run), so that a renamed recording is found
again and a changed one, or another encoder, is not. Files are written beside and renamed: an interrupted extraction
goes on where it stopped, and two runs may share a folder.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm.auto import tqdm

from .modeling_mmer import MMERModel
from .passes import MODALITIES
from .processing_mmer import ExampleError, MMERProcessor


class FeatureCache:
    """States of a model's encoders by content.

    Args:
        folder: where the files lie; made if it is not there.
        model: whose encoders are run.
        processor: which makes their inputs.
    """

    def __init__(self, folder: str | os.PathLike, model: MMERModel, processor: MMERProcessor):
        self.folder = Path(folder)
        self.model = model
        self.processor = processor
        self._origin = {
            "audio": digest(
                weights_digest(model.audio_encoder),
                json.dumps(processor.feature_extractor.to_dict(), sort_keys=True, default=str),
                model.config.audio_context,
            ),
            "text": digest(weights_digest(model.text_encoder)),
        }

    def fill(self, rows: Iterable[dict[str, Any]], batch_size: int, show_progress: bool = True) -> None:
        """Encode what the cache lacks of corpus rows.

        Raises:
            ValueError: a row's recording or text cannot be read (see `MMERProcessor`).
        """
        for modality in MODALITIES:
            lacking = {}
            for row in rows:
                if row[modality] is not None and not (path := self.path(row, modality)).exists():
                    lacking[path] = row
            by_length = sorted(
                lacking.items(), key=lambda item: (item[1]["duration"] or 0.0, len(item[1]["text"] or ""))
            )
            progress = tqdm(total=len(by_length), desc=f"Encoding {modality}", disable=not show_progress)
            for start in range(0, len(by_length), batch_size):
                paths, batch = zip(*by_length[start : start + batch_size], strict=True)
                self._encode(modality, paths, batch)
                progress.update(len(batch))
            progress.close()

    def load(self, row: dict[str, Any], modality: str) -> torch.Tensor | None:
        """The states (L+1, T, D) of one row, or None where it lacks the modality.

        Raises:
            ValueError: the states are not in the cache, or their file is damaged.
        """
        if row[modality] is None:
            return None
        path = self.path(row, modality)
        try:
            with safe_open(path, framework="pt") as file:
                return file.get_tensor("states")
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"Utterance {row['utterance_id']}: no whole {modality} states at {path} ({error}). Delete that file if "
                "it is there, and start again: it will be made anew."
            ) from error

    def path(self, row: dict[str, Any], modality: str) -> Path:
        """Where the states of a row's recording or text lie."""
        if modality == "audio":
            content = Path(row["audio"]).read_bytes()
        else:
            content = self.processor.encode_text([row["text"]])["input_ids"].numpy().tobytes()
        name = digest(self._origin[modality], content)
        return self.folder / name[:2] / f"{name}.safetensors"

    def _encode(self, modality: str, paths: tuple[Path, ...], rows: tuple[dict[str, Any], ...]) -> None:
        encode = self.processor.encode_audio if modality == "audio" else self.processor.encode_text
        try:
            inputs = encode([row[modality] for row in rows])
        except ExampleError as error:
            raise ValueError(f"Utterance {rows[error.index]['utterance_id']}: {error}") from error
        inputs = {name: tensor.to(self.model.device) for name, tensor in inputs.items()}
        states, mask = self.model.encode(**inputs)[modality]
        if states.abs().max() < torch.finfo(torch.float16).max:  # else kept as they are
            states = states.half()
        for path, of_row, length in zip(paths, states, mask.sum(-1).tolist(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            save_file({"states": of_row[:, :length].cpu().contiguous()}, beside)
            os.replace(beside, path)


def digest(*parts: str | bytes) -> str:
    """SHA-256 of parts, each told apart from the next by its length."""
    sha = hashlib.sha256()
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        sha.update(len(part).to_bytes(8, "little") + part)
    return sha.hexdigest()


def weights_digest(module: nn.Module) -> str:
    """SHA-256 of a module's architecture, weights and their names."""
    sha = hashlib.sha256(repr(module).encode())
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return sha.hexdigest()
