"""Samplers: batches of rows of similar length, or of as many rows as fit under a number of padded frames.

Both samplers use their own generator, seeded by seed and epoch, instead of the global one that dropout uses. All
processes and resumed runs therefore get the same batches.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import BatchRebalanceSampler
from transformers.utils import logging

from ..features.lengths import CHARACTERS_PER_TOKEN, FRAMES_PER_SECOND, longest_inputs, rough_length
from ..model.processing_mmer import MMERProcessor

logger = logging.get_logger(__name__)

BATCHES_PER_BUCKET = 4  # rows of a bucket are sorted by length


def with_lengths(split: Dataset, stride: int, processor: MMERProcessor | None = None) -> Dataset:
    """Add the columns that batches are made by: `frames`, the approximate number of encoder frames and text tokens of a
    row, and `length`, the approximate number of its tokens in the shared sequence.

    Args:
        stride: number of frames per token.
        processor: if given, inputs count only up to the length at which it cuts them.
    """
    longest = longest_inputs(processor) if processor else dict.fromkeys(("audio", "text"), math.inf)
    window, characters = (longest["audio"] - 1) / FRAMES_PER_SECOND, (longest["text"] - 2) * CHARACTERS_PER_TOKEN
    pairs = [
        (None if seconds is None else min(seconds, window), int(min(len(text or ""), characters)))
        for seconds, text in zip(split["duration"], split["text"], strict=True)
    ]
    frames = [
        (rough_length("audio", seconds) if seconds is not None else 0) + (n // CHARACTERS_PER_TOKEN + 2 if n else 0)
        for seconds, n in pairs
    ]
    lengths = [
        round((seconds or 0.0) * FRAMES_PER_SECOND / stride) + n // CHARACTERS_PER_TOKEN + 1 for seconds, n in pairs
    ]
    return split.add_column("frames", frames).add_column("length", lengths)


def repeated(rows: Dataset, repeats: Sequence[str] | None) -> Dataset:
    """Training rows, those of some of the joined corpora several times.

    Args:
        rows: of several corpora; their ids start with the name of their corpus.
        repeats: `corpus=n`; n is how often each row of the corpus is there.

    Raises:
        ValueError: an entry is not of this form, or no row is of its corpus.
    """
    ids = rows["utterance_id"][:] if repeats else []
    times = np.ones(len(ids), dtype=int)
    for entry in repeats or ():
        name, _, count = entry.rpartition("=")
        if not name or not count.isdecimal() or int(count) < 1:
            raise ValueError(f"--repeat_corpora takes corpus=n, with n a whole number of at least 1, not {entry}.")
        of_corpus = np.array([utterance_id.startswith(f"{name}/") for utterance_id in ids])
        if not of_corpus.any():
            known = sorted({utterance_id.partition("/")[0] for utterance_id in ids if "/" in utterance_id})
            raise ValueError(f"--repeat_corpora {entry}: no training row is of {name}; there are {', '.join(known)}.")
        times[of_corpus] = int(count)
    return rows.select(np.repeat(np.arange(len(ids)), times)) if repeats else rows


class LengthBucketSampler(Sampler):
    """Batches of rows of similar length: the rows of each bucket of four batches are sorted by length, then the batches
    are shuffled.

    Differs from transformers' sampler for `group_by_length` in three ways: it has its own generator, buckets are small,
    and batches are not ordered by length. It halves the padding of random batches. In return, retrieval is learnt far
    more slowly, because the contrastive term has no easy negatives among rows of similar length.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int):
        self.lengths = torch.as_tensor(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        buckets = torch.randperm(len(self), generator=generator).split(BATCHES_PER_BUCKET * self.batch_size)
        sorted_buckets = [bucket[self.lengths[bucket].argsort(stable=True)] for bucket in buckets]
        batches = [batch for bucket in sorted_buckets for batch in bucket.split(self.batch_size)]
        whole = len(self) // self.batch_size  # the remaining rows are the last, smaller batch
        order = torch.randperm(whole, generator=generator).tolist() + list(range(whole, len(batches)))
        return iter(torch.cat([batches[index] for index in order]).tolist())


class FrameCapBatchSampler(BatchRebalanceSampler):
    """Batches of as many rows as fit under a maximum number of padded frames: rows × longest row, on each process.

    Rows are divided into batches in random order. With `by_length`, the rows of each bucket of four batches are sorted
    first. The batches are then shuffled. A row longer than the maximum is a batch of its own.

    Each epoch has all rows and draws new batches, but always the same number of them, because the Trainer computes its
    schedule and the position of a resumed run from that number. It is the largest number that any of eight epochs
    needs. An epoch that needs more is drawn again; in one that needs fewer, the largest batches are halved.

    Each process draws all batches and takes its own column. At each step all processes have the same number of rows, as
    losses over the global batch require. Up to `processes - 1` rows of an epoch are repeated for that.

    The class is a `BatchRebalanceSampler` only because the Trainer does not accept batches from other samplers.

    Args:
        frames: number of encoder frames and text tokens of each row.
        max_frames: the maximum per batch, in the same unit.
        seed: seed of the order.
        by_length: whether to sort the rows of a bucket by length.
        processes, rank: number of processes, and the index of this one.
    """

    TRIALS = 8

    def __init__(
        self, frames: list[int], max_frames: int, seed: int, by_length: bool = False, processes: int = 1, rank: int = 0
    ):
        self.frames = torch.as_tensor(frames)
        self.max_frames = max_frames
        self.seed = seed
        self.by_length = by_length
        self.processes = processes
        self.rank = rank
        self.epoch = 0
        if rank == 0 and (alone := int((self.frames > max_frames).sum())):
            logger.warning(f"{alone} rows have more than {max_frames} frames: each is a batch of its own.")
        self.batches = max(len(self._draw(self._generator(epoch))) for epoch in range(self.TRIALS))

    def __len__(self) -> int:
        return self.batches

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        generator = self._generator(self.epoch)
        batches = self._draw(generator)
        while len(batches) > self.batches:
            batches = self._draw(generator)
        while len(batches) < self.batches:
            largest = max(range(len(batches)), key=lambda index: len(batches[index]))
            batches[largest : largest + 1] = batches[largest].tensor_split(2)
        for index in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[index][:, self.rank].tolist()

    def _generator(self, epoch: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed + epoch)

    def _draw(self, generator: torch.Generator) -> list[torch.Tensor]:
        """The batches of an epoch, row indices (rows, processes), as few as the order allows."""
        rows = len(self.frames)
        padded = -(-rows // self.processes) * self.processes
        order = torch.randperm(rows, generator=generator)[torch.arange(padded) % rows]
        if self.by_length:
            order = self._sorted_in_buckets(order)
        order = order.view(-1, self.processes)
        return list(order.split(batch_sizes(self.frames[order].amax(1).tolist(), self.max_frames)))

    def _sorted_in_buckets(self, order: torch.Tensor) -> torch.Tensor:
        """Sort buckets alternately up and down, so that a batch across two of them has similar lengths too."""
        rows_per_batch = self.processes * self.max_frames / self.frames.float().mean().item()
        buckets = order.split(max(1, round(BATCHES_PER_BUCKET * rows_per_batch)))
        orders = [self.frames[bucket].argsort(descending=i % 2 == 1, stable=True) for i, bucket in enumerate(buckets)]
        return torch.cat([bucket[by_frames] for bucket, by_frames in zip(buckets, orders, strict=True)])


def batch_sizes(lengths: Iterable[int], cap: int) -> list[int]:
    """Divide rows, in order, into as few batches as possible with size × longest length ≤ `cap`. A longer row is a
    batch of its own. Returns the batch sizes."""
    sizes, longest = [], 0
    for length in lengths:
        longest = max(longest, length)
        if sizes and (sizes[-1] + 1) * longest <= cap:
            sizes[-1] += 1
        else:
            sizes.append(1)
            longest = length
    return sizes
