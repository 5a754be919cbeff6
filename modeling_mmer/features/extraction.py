"""Running the frozen encoders over a corpus, once: what fills a [`FeatureCache`].

The utterances that the cache could hold are dealt into groups in an order that depends on them alone, and a group is
encoded as one batch. An extraction that was killed therefore goes on with the very batches that were left, gives the
same files bit for bit, and repeats no more than the group that was open. Files are written beside and renamed, so two
runs may fill one folder at once.
"""

import shutil
import time
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from safetensors.torch import save_file
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..corpora.recordings import as_input, sources_of
from ..files import written_beside
from ..model.configuration_mmer import MODALITIES
from ..model.modeling_mmer import MMERForEmotionRecognition, MMERModel
from ..model.processing_mmer import ExampleError, MMERProcessor
from .cache import STATES, FeatureCache, checksum
from .lengths import rough_length

UNFINISHED = "unfinished"  # subfolder of files that are being written
SPARE = 0.95  # of a disk's free space that an extraction may fill


@dataclass(frozen=True)
class Entry:
    """One recording or text to be encoded: the name of its file, its content as the processor takes it, and roughly
    its frames or tokens."""

    name: str
    content: str | dict[str, Any]
    length: int
    utterance_id: str


def extract(
    features: FeatureCache,
    model: MMERForEmotionRecognition,
    processor: MMERProcessor,
    splits: Iterable[Dataset],
    group_size: int,
    num_workers: int = 0,
    show_progress: bool = True,
) -> None:
    """Encode what the cache lacks of located rows; every process takes its share.

    Encoders that are not loaded are, if there is something to do, and given back afterwards.

    Args:
        group_size: utterances of a batch of the encoder.
        num_workers: processes that read recordings and compute features while the encoder runs; 0: this one does.

    Raises:
        ValueError: the disk is too small for what is to come, or a recording or text cannot be read.
    """
    state = PartialState()
    splits = list(splits)
    share = slice(state.process_index, None, state.num_processes)
    groups = {modality: lacking_groups(features, splits, modality, group_size, share) for modality in MODALITIES}
    core = model.base_model
    check_space(features, core, groups, state.num_processes)
    if any(groups.values()):
        sweep(features)
        if state.is_main_process:
            features.note_commits()
        borrowed = [encoder for encoder in core.encoders.values() if encoder.encoder is None]
        if borrowed:
            model.load_encoders()
        core.to(state.device)
        for modality in MODALITIES:
            prepared = DataLoader(
                groups[modality],
                batch_size=None,  # a group is a batch already
                collate_fn=partial(prepare_group, processor, modality),
                num_workers=num_workers if modality == "audio" else 0,  # to tokenize takes no time
            )
            silent = not (show_progress and state.is_main_process)
            for group, inputs in tqdm(prepared, desc=f"Encoding {modality}", disable=silent):
                encode_group(features, core, modality, group, inputs)
        for encoder in borrowed:
            encoder.encoder = None
    state.wait_for_everyone()


def lacking_groups(
    features: FeatureCache, splits: Iterable[Dataset], modality: str, group_size: int, share: slice = slice(None)
) -> list[list[Entry]]:
    """The groups, of a share of all, of which the cache lacks something; utterances of like length are together.

    The share is taken before what is there is left out: another process may have written more by then.
    """
    entries = {}
    for rows in splits:
        contents = [source and as_input(source) for source in sources_of(rows)] if modality == "audio" else rows["text"]
        columns = (rows[column] for column in ("utterance_id", STATES[modality], "duration"))
        for content, utterance_id, name, duration in zip(contents, *columns, strict=True):
            if name is not None:
                length = rough_length(modality, duration if modality == "audio" else content)
                entries[name] = Entry(name, content, int(min(length, features.longest[modality])), utterance_id)
    ordered = sorted(entries.values(), key=lambda entry: (entry.length, entry.name))
    groups = [ordered[start : start + group_size] for start in range(0, len(ordered), group_size)]
    return [group for group in groups[share] if not all(features.holds(entry.name) for entry in group)]


def check_space(
    features: FeatureCache, core: MMERModel, groups: dict[str, list[list[Entry]]], processes: int = 1
) -> None:
    """Raise a ValueError unless the disk has room for the states to come, of all processes."""
    needed = 0
    for modality, embedder in core.embedders.items():
        kept, width = embedder.states_shape
        needed += sum(entry.length for group in groups[modality] for entry in group) * kept * width * 2  # bytes each
    features.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(features.folder).free
    needed *= processes  # shares are alike
    if needed > SPARE * free:
        kept = {modality: embedder.states_shape[0] for modality, embedder in core.embedders.items()}
        raise ValueError(
            f"The encoder states to come need about {needed / 1e9:.1f} GB, and {features.folder} has "
            f"{free / 1e9:.1f} GB free. Name another folder with --feature_cache, or keep fewer of the "
            f"{kept['audio']} audio and {kept['text']} text states with --cache_layers."
        )


def prepare_group(
    processor: MMERProcessor, modality: str, group: list[Entry]
) -> tuple[list[Entry], dict[str, torch.Tensor] | ValueError]:
    """A group and the encoder's inputs; or the fault in it, for what a worker raises comes with its traceback.

    Runs on one thread, as workers do: on another number the last bits of a spectrogram may be others.
    """
    encode = processor.encode_audio if modality == "audio" else processor.encode_text
    try:
        with one_thread():
            return group, encode([entry.content for entry in group])
    except ExampleError as error:
        return group, ValueError(f"Utterance {group[error.index].utterance_id}: {error}")


@contextmanager
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def encode_group(
    features: FeatureCache,
    core: MMERModel,
    modality: str,
    group: list[Entry],
    inputs: dict[str, torch.Tensor] | ValueError,
) -> None:
    """Encode one group and write what is lacking of it."""
    if isinstance(inputs, ValueError):
        raise inputs
    inputs = {name: tensor.to(core.device) for name, tensor in inputs.items()}
    states, mask = core.encoders(inputs)[modality]
    for entry, of_entry, length in zip(group, states, mask.sum(-1).tolist(), strict=True):
        if not features.holds(entry.name):
            write_states(features, entry.name, of_entry[:, :length])


def write_states(features: FeatureCache, name: str, states: torch.Tensor) -> None:
    """Write states (L', T, D); in float32 if they exceed the range of the cache's dtype."""
    if states.abs().max() < torch.finfo(features.dtype).max:
        states = states.to(features.dtype)
    states = states.cpu().contiguous()
    with written_beside(features.path(name), features.folder / UNFINISHED) as unfinished:
        save_file({"states": states}, unfinished, metadata={"crc32": checksum(states)})


def sweep(features: FeatureCache) -> None:
    """Remove what killed extractions left unfinished, unless it is young enough to be another run's."""
    for path in (features.folder / UNFINISHED).glob("*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > 3600:
                path.unlink()
