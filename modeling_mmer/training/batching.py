"""Which rows of a split make a batch: rows of like lengths together, or as many rows as padded frames allow.

Both samplers draw from a generator of their own, by seed and epoch, and not from the one that dropout draws from: all
processes, and a resumed run, see the same batches.
"""

import math
from collections.abc import Iterable, Iterator

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
    """Add what batches are made by: `frames`, roughly the encoder frames and text tokens of a row, and `length`,
    roughly its tokens in the shared sequence, where `stride` frames are one.

    Args:
        processor: what lies beyond the frames and tokens at which it cuts inputs does not count.
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


class LengthBucketSampler(Sampler):
    """Batches of like lengths, by seed and epoch: each bucket of four batches' rows is sorted, and the batches are
    shuffled.

    Differs from transformers' sampler for `group_by_length` in three things. The order comes from a generator of its
    own. Buckets are small, and batches do not come in order of their length. It pads half as much as random batches do,
    at a price: among rows that last equally long the contrastive term has no easy negatives, and retrieval is learnt
    far more slowly.
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
        whole = len(self) // self.batch_size  # what is left over makes the last, short batch
        order = torch.randperm(whole, generator=generator).tolist() + list(range(whole, len(batches)))
        return iter(torch.cat([batches[index] for index in order]).tolist())


class FrameCapBatchSampler(BatchRebalanceSampler):
    """Batches of as many rows as fit under a cap of padded frames: rows × the longest of them, on each process.

    The rows are cut into batches in random order or, `by_length`, in one in which buckets of four batches' rows are
    sorted; then the batches are shuffled. A row longer than the cap is a batch of its own. Each epoch has every row,
    in batches of its own but always as many of them, for the Trainer reckons its schedule, and the place of a resumed
    run, by their number. It is the most that any of eight epochs needs: an epoch that needs more is drawn again, and in
    one that needs fewer the largest batches are halved.

    Every process draws the whole plan and takes its own column of it: at each step all have equally many rows, as the
    losses over the global batch ask for. Up to `processes - 1` rows of an epoch are taken twice to make that so.

    It is a `BatchRebalanceSampler`, of which nothing else is used, because the Trainer takes batches from no other
    sampler as they are.

    Args:
        frames: of each row, its encoder frames and text tokens.
        max_frames: the cap, in the same unit.
        seed: of the order.
        by_length: sort the rows of a bucket.
        processes, rank: how many share the batches, and which this one is.
    """

    TRIALS = 8

    def __init__(
        self,
        frames: list[int],
        max_frames: int,
        seed: int,
        by_length: bool = False,
        processes: int = 1,
        rank: int = 0,
    ):
        self.frames = torch.as_tensor(frames)
        self.max_frames = max_frames
        self.seed = seed
        self.by_length = by_length
        self.processes = processes
        self.rank = rank
        self.epoch = 0
        if rank == 0 and (alone := int((self.frames > max_frames).sum())):
            logger.warning(f"{alone} rows are longer than {max_frames} frames: each is a batch of its own.")
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
        """An epoch's batches (rows, processes) of row indices, as few as its order allows."""
        rows = len(self.frames)
        padded = -(-rows // self.processes) * self.processes
        order = torch.randperm(rows, generator=generator)[torch.arange(padded) % rows]
        if self.by_length:
            order = self._sorted_in_buckets(order)
        order = order.view(-1, self.processes)
        return list(order.split(cut(self.frames[order].amax(1).tolist(), self.max_frames)))

    def _sorted_in_buckets(self, order: torch.Tensor) -> torch.Tensor:
        """Buckets sorted in turn up and down, so that a batch across two of them is of like lengths as well."""
        rows_per_batch = self.processes * self.max_frames / self.frames.float().mean().item()
        buckets = order.split(max(1, round(BATCHES_PER_BUCKET * rows_per_batch)))
        orders = [self.frames[bucket].argsort(descending=i % 2 == 1, stable=True) for i, bucket in enumerate(buckets)]
        return torch.cat([bucket[by_frames] for bucket, by_frames in zip(buckets, orders, strict=True)])


def cut(lengths: Iterable[int], cap: int) -> list[int]:
    """The sizes of the fewest runs of rows, in their order, of which size × longest stays under the cap, if one row
    does."""
    sizes, longest = [], 0
    for length in lengths:
        longest = max(longest, length)
        if sizes and (sizes[-1] + 1) * longest <= cap:
            sizes[-1] += 1
        else:
            sizes.append(1)
            longest = length
    return sizes
