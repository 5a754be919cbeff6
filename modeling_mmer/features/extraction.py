"""Fills a [`FeatureCache`]: runs the frozen encoders once over a corpus.

Utterances are divided into groups in an order that depends only on the utterances, and each group is encoded as one
batch. Encoded groups are collected until they fill a shard, which is then written. An interrupted extraction therefore
continues with the same batches, gives the same files bit for bit, and repeats at most two shards: the one that was
being written, and the one that was being filled.
"""

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..corpora.recordings import as_input, sources_of
from ..model.configuration_mmer import MODALITIES
from ..model.modeling_mmer import MMERForEmotionRecognition, MMERModel
from ..model.processing_mmer import ExampleError, MMERProcessor
from .cache import STATES, FeatureCache
from .lengths import rough_length
from .shards import SHARD_BYTES

USABLE_SPACE = 0.95  # fraction of the free disk space that an extraction may use


@dataclass(frozen=True)
class Entry:
    """A recording or text to encode: the name of its states, its content as input of the processor, and its
    approximate length in frames or tokens."""

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
    """Encode what the cache lacks. Each process of a distributed run encodes its share.

    If the encoders are not loaded, they are loaded when needed and released afterwards.

    Args:
        splits: located rows ([`FeatureCache.locate`]).
        group_size: batch size of the encoders.
        num_workers: number of processes that read recordings and compute features; 0: the main process does.

    Raises:
        ValueError: the disk is too small for the missing states, the folder cannot be written, or a recording or text
            cannot be read.
    """
    state = PartialState()
    splits = list(splits)
    features.shards.refresh()
    share = slice(state.process_index, None, state.num_processes)
    groups = {modality: missing_groups(features, splits, modality, group_size, share) for modality in MODALITIES}
    core = model.base_model
    if any(groups.values()):
        require_disk_space(features, core, groups, state.num_processes)
        features.shards.remove_unfinished()
        if state.is_main_process:
            features.note_commits()
        borrowed = [encoder for encoder in core.encoders.values() if encoder.encoder is None]
        if borrowed:
            model.load_encoders()
        core.to(state.device)
        for modality in MODALITIES:
            prepared = DataLoader(
                groups[modality],
                batch_size=None,  # a group is already a batch
                collate_fn=partial(prepare_group, processor, modality),
                num_workers=num_workers if modality == "audio" else 0,  # tokenizing is fast
            )
            silent = not (show_progress and state.is_main_process)
            fill(features, core, modality, tqdm(prepared, desc=f"Encoding {modality}", disable=silent))
        for encoder in borrowed:
            encoder.encoder = None
    state.wait_for_everyone()
    features.shards.refresh()


def missing_groups(
    features: FeatureCache, splits: Iterable[Dataset], modality: str, group_size: int, share: slice = slice(None)
) -> list[list[Entry]]:
    """The groups in a share of all groups that are not completely cached. A group has utterances of similar length.

    The share is taken first: it must not depend on what another process has written in the meantime.
    """
    entries = {}
    for rows in splits:
        contents = [source and as_input(source) for source in sources_of(rows)] if modality == "audio" else rows["text"]
        columns = (rows[column] for column in ("utterance_id", STATES[modality], "duration"))
        for content, utterance_id, name, duration in zip(contents, *columns, strict=True):
            if name is not None:
                length = rough_length(modality, duration if modality == "audio" else content)
                entries[name] = Entry(name, content, int(min(length, features.longest[modality])), utterance_id)
    # The longest first: their memory is reused for all others. In the other order, each group needs a little more than
    # those before it have freed, and the heap grows.
    ordered = sorted(entries.values(), key=lambda entry: (-entry.length, entry.name))
    groups = [ordered[start : start + group_size] for start in range(0, len(ordered), group_size)]
    return [group for group in groups[share] if not all(entry.name in features.shards for entry in group)]


def require_disk_space(
    features: FeatureCache, core: MMERModel, groups: dict[str, list[list[Entry]]], processes: int = 1
) -> None:
    """Raise a ValueError if the folder cannot be written or is too small for the missing states of all processes."""
    shapes = {modality: core.embedders[modality].states_shape for modality in groups}
    lengths = {m: sum(entry.length for group in groups[m] for entry in group) for m in shapes}
    needed = sum(lengths[m] * kept * width * 2 for m, (kept, width) in shapes.items())  # 2 bytes each
    features.folder.mkdir(parents=True, exist_ok=True)
    if not os.access(features.folder, os.W_OK):
        raise ValueError(
            f"{features.folder} lacks encoder states, and it cannot be written. Choose another folder with "
            "--feature_cache, or fill it as a user who may write."
        )
    free = shutil.disk_usage(features.folder).free
    needed *= processes  # shares are about equal
    if needed > USABLE_SPACE * free:
        states = " and ".join(f"{kept} {modality}" for modality, (kept, _) in shapes.items())
        raise ValueError(
            f"The encoder states need about {needed / 1e9:.1f} GB, but {features.folder} has only {free / 1e9:.1f} GB "
            f"free. Choose another folder with --feature_cache, or keep fewer of the {states} states with "
            "--cache_layers."
        )


def prepare_group(
    processor: MMERProcessor, modality: str, group: list[Entry]
) -> tuple[list[Entry], dict[str, torch.Tensor] | ValueError]:
    """A group and its encoder inputs, or an error, which is raised in the main process: a worker would add a traceback.

    Runs on one thread, as in workers, because the number of threads can change the last bits of a spectrogram.
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


def fill(
    features: FeatureCache,
    core: MMERModel,
    modality: str,
    prepared: Iterable[tuple[list[Entry], dict[str, torch.Tensor] | ValueError]],
) -> None:
    """Encode groups of a modality and write their states, a shard at a time, while the next ones are encoded."""
    states: dict[str, torch.Tensor] = {}
    with ThreadPoolExecutor(1) as writer:
        written = writer.submit(features.shards.write, states)
        try:
            for group, inputs in prepared:
                states |= encode_group(features, core, modality, group, inputs)
                if sum(of_entry.nbytes for of_entry in states.values()) >= SHARD_BYTES:
                    written.result()  # no more than one waits for the disk
                    written = writer.submit(features.shards.write, states)
                    states = {}
        finally:  # also before an error that names a recording
            written.result()
            features.shards.write(states)


@torch.no_grad()
def encode_group(
    features: FeatureCache,
    core: MMERModel,
    modality: str,
    group: list[Entry],
    inputs: dict[str, torch.Tensor] | ValueError,
) -> dict[str, torch.Tensor]:
    """Encode one group. Returns the states (L', T, D) that are not cached yet, by name, as they are kept."""
    if isinstance(inputs, ValueError):
        raise inputs
    inputs = {name: tensor.to(core.device) for name, tensor in inputs.items()}
    states, mask = core.encoders(inputs)[modality]
    rows = zip(group, states, mask.sum(-1).tolist(), strict=True)
    return {
        entry.name: rounded(of_entry[:, :length], features.dtype)
        for entry, of_entry, length in rows
        if entry.name not in features.shards
    }


def rounded(states: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A copy of states on the CPU in a dtype, or in their own if they overflow it."""
    kept = dtype if states.abs().max() < torch.finfo(dtype).max else states.dtype
    return states.to("cpu", kept, copy=True, memory_format=torch.contiguous_format)
