"""How long the rows of a padded batch are, and which of them an encoder runs on together.

Shapes: B examples, T frames, samples or tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

# An encoder's run costs as much as so many frames more, whatever it runs on: on a CPU its weights are read from memory,
# on an accelerator its kernels are launched. A batch is run in parts where that saves more padding than this.
FRAMES_OF_A_RUN = {"cpu": 50}
FRAMES_OF_A_RUN_ELSEWHERE = 2000

# On a CPU, oneDNN makes kernels for every number of rows and of states that it has not seen. In bfloat16 that takes
# longer than their use for a short clip, and they keep megabytes; in float32 they are small, but lie between what is
# freed, so that it cannot be given back. Encoders run on 1, 2, 4 … rows, with a mask, of so many lengths a doubling.
LENGTHS_OF_A_DOUBLING = {torch.float32: 16}
LENGTHS_OF_A_DOUBLING_ELSEWHERE = 8  # dearer kernels: fewer of them


@dataclass
class Lengths:
    """How long each row is, on the device and on the host.

    counts: (B,), on the device.
    order: (B,), on the device: the rows, the longest first.
    by_row: the lengths of the rows; 0 where a row has nothing.
    """

    counts: torch.Tensor
    order: torch.Tensor
    by_row: list[int]

    @property
    def longest_first(self) -> list[int]:
        """The lengths in the order of `order`."""
        return sorted(self.by_row, reverse=True)


def read_lengths(masks: Mapping[str, torch.Tensor], padded_behind: Sequence[str]) -> dict[str, Lengths]:
    """The lengths of the rows of masks (B, T) bool.

    The host waits for the device once here and nowhere else before the loss: it must know how long rows are to run the
    encoders on nothing else, and what is wrong with a batch is found in the same way.

    Args:
        padded_behind: the modalities whose padding must come last.

    Raises:
        ValueError: padding comes before something real.
    """
    counts = {m: mask.sum(-1) for m, mask in masks.items()}
    broken = [(mask[:, 1:] & ~mask[:, :-1]).any(-1) for m, mask in masks.items() if m in padded_behind]
    on_host = torch.stack([*counts.values(), *(rows.long() for rows in broken)]).tolist()
    if any(map(any, on_host[len(counts) :])):
        raise ValueError("Padding must come last: a mask has real positions behind padded ones (pad on the right).")
    return {
        m: Lengths(of_modality, of_modality.argsort(descending=True, stable=True), by_row)
        for (m, of_modality), by_row in zip(counts.items(), on_host, strict=False)
    }


def buckets(longest_first: Sequence[int], run: int) -> list[slice]:
    """Divide rows into parts of like length, in order; rows of length 0 are in none.

    A part ends where its padding would exceed `run` frames, which another run costs.
    """
    parts, start, padding = [], 0, 0
    present = [length for length in longest_first if length]
    for row, length in enumerate(present):
        padding += present[start] - length
        if padding > run:
            parts.append(slice(start, row))
            start, padding = row, 0
    return [*parts, slice(start, len(present))] if present else []


def kernel_length(states: int, of_a_doubling: int) -> int:
    """The least length that is not below this number and is one of few: 1, 2 … 15, 16, 18, 20 … 30, 32, 36, 40 … for 8
    of a doubling. Twice such a length is another, and so is the sum of the lengths of a power of two of rows."""
    step = 2 ** max(0, states.bit_length() - of_a_doubling.bit_length())
    return -(-states // step) * step


def powers_of_two(parts: Sequence[slice]) -> list[slice]:
    """Parts of rows, divided into parts of 1, 2, 4 … rows, the largest first."""
    divided = []
    for part in parts:
        start = part.start
        while (left := part.stop - start) > 0:
            divided.append(slice(start, start := start + 2 ** (left.bit_length() - 1)))
    return divided
