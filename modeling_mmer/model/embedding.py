"""What becomes of one modality's encoder states: layer mix, projection and type embedding (Eq. 1, 2).

One class serves every modality, told apart by its stride: k > 1 is the strided convolution of audio, 1 the linear layer
of text (the same thing with windows of one).

Shapes: B examples, L+1 encoder states, T frames or tokens, N = ceil(T / k) tokens, D encoder width, d shared width.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import nn

from .configuration_mmer import MMERConfig
from .distributed import several_processes
from .frozen_encoder import PendingStates
from .mixing import Mix


@dataclass
class ModalityTokens:
    """One modality of a batch. Rows that lack it have an all-false mask.

    projected (B, N, d) are the embeddings h before v^m, mask (B, N); states (B, T, D) are the mixed encoder
    embeddings H, states_mask (B, T); type_embedding (d,) is v^m. It is kept here because offloaded weights of an
    embedder are only loaded in its `forward`.
    """

    projected: torch.Tensor
    mask: torch.Tensor
    states: torch.Tensor
    states_mask: torch.Tensor
    type_embedding: torch.Tensor

    @property
    def embeddings(self) -> torch.Tensor:
        """h + v^m: what enters the shared sequence, (B, N, d)."""
        return self.projected + self.type_embedding

    @property
    def present(self) -> torch.Tensor:
        """(B,) bool: the rows that have this modality."""
        return self.mask.any(-1)


class StateMixer(nn.Module):
    """Eq. 1: the learnt convex combination of a modality's encoder states, standardised before if asked for."""

    def __init__(self, num_states: int, encoder_width: int, standardize: bool):
        super().__init__()
        self.encoder_width = encoder_width
        self.layer_logits = nn.Parameter(torch.zeros(num_states))
        self.standardizer = StateStandardizer(num_states, encoder_width) if standardize else None

    @property
    def states_shape(self) -> tuple[int, int]:
        """L+1 and D of the states it takes."""
        return len(self.layer_logits), self.encoder_width

    @property
    def layer_weights(self) -> torch.Tensor:
        """w^m of Eq. 1, (L+1,): non-negative, summing to one."""
        return self.layer_logits.softmax(0)

    def mix(self, states: torch.Tensor | PendingStates, mask: torch.Tensor) -> torch.Tensor:
        """States (B, L+1, T, D), which are computed now if they are pending, and mask (B, T), true where real →
        H (B, T, D), zero at padded positions."""
        mean_and_std = () if self.standardizer is None else self.standardizer()
        mix = partial(Mix, self.layer_weights, *mean_and_std)
        if isinstance(states, PendingStates):
            mixed = states.received(mix)
        else:
            given = mix()
            for state in states.unbind(1):
                given.add(state)
            mixed = given.result()
        return mixed.to(self.layer_logits.dtype).masked_fill(~mask.unsqueeze(-1), 0.0)


class ModalityEmbedder(StateMixer):
    """Encoder states of modality m → tokens of the shared transformer."""

    def __init__(self, num_states: int, encoder_width: int, hidden_size: int, stride: int, standardize: bool):
        super().__init__(num_states, encoder_width, standardize)
        self.stride = stride
        self.projection = (
            WindowConvolution(encoder_width, hidden_size, stride)
            if stride > 1
            else nn.Linear(encoder_width, hidden_size)
        )
        self.type_embedding = nn.Parameter(torch.zeros(hidden_size))  # v^m

    @classmethod
    def for_modality(cls, config: MMERConfig, modality: str) -> "ModalityEmbedder":
        """The embedder of one modality of a config: its encoder's states, its stride."""
        standardize = config.state_normalization == "standardize"
        return cls(*config.states_shape(modality), config.hidden_size, config.stride(modality), standardize)

    def forward(self, states: torch.Tensor | PendingStates, mask: torch.Tensor) -> ModalityTokens:
        """States (B, L+1, T, D), or those that are pending, and mask (B, T), true where real → tokens. What lies at
        padded positions leaves no trace."""
        mixed = self.mix(states, mask)
        projected, token_mask = self.project(mixed, mask)
        return ModalityTokens(projected, token_mask, states=mixed, states_mask=mask, type_embedding=self.type_embedding)

    def no_states(self, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States (B, L+1, 1, D) and mask (B, 1) of a modality that no row has, beside any mask (B, T) of another."""
        states = self.layer_logits.new_zeros((len(mask), len(self.layer_logits), 1, self.encoder_width))
        return states, torch.zeros_like(mask[:, :1])

    def project(self, mixed: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Eq. 2: H (B, T, D) → h (B, N, d). A ragged tail is padded to a whole window, real if any frame of it is."""
        if self.stride == 1:
            return self.projection(mixed), mask
        tail = -mixed.shape[1] % self.stride
        mixed = nn.functional.pad(mixed, (0, 0, 0, tail))  # (B, N·k, D)
        mask = nn.functional.pad(mask, (0, tail))
        return self.projection(mixed), mask.reshape(mask.shape[0], -1, self.stride).any(-1)


class WindowConvolution(nn.Conv1d):
    """Eq. 2 of audio: a convolution whose windows do not overlap, computed as a linear layer over each window.

    The numbers and weights are those of `nn.Conv1d`, whose bfloat16 form is plainly wrong for few channels on CPUs with
    AMX (oneDNN 3.12; pytorch/pytorch#169688), and takes three times as long to train on a CPU.
    """

    def __init__(self, encoder_width: int, hidden_size: int, stride: int):
        super().__init__(encoder_width, hidden_size, kernel_size=stride, stride=stride)

    def forward(self, mixed: torch.Tensor) -> torch.Tensor:
        """(B, N·k, D) → (B, N, d): time first, unlike `nn.Conv1d`."""
        windows = mixed.reshape(mixed.shape[0], -1, self.stride[0] * mixed.shape[2])  # (B, N, k·D)
        return nn.functional.linear(windows, self.weight.transpose(1, 2).flatten(1), self.bias)


class ModalityEmbedders(nn.ModuleDict):
    """The embedders of several modalities: encoder states of a batch → tokens of each modality that some row has."""

    @classmethod
    def for_modalities(cls, config: MMERConfig, modalities: Iterable[str]) -> "ModalityEmbedders":
        return cls({modality: ModalityEmbedder.for_modality(config, modality) for modality in modalities})

    def forward(
        self, states: Mapping[str, tuple[torch.Tensor | PendingStates, torch.Tensor]]
    ) -> dict[str, ModalityTokens]:
        """States (B, L+1, T, D), or those that are pending, and mask (B, T) of each modality that some row has → its
        tokens."""
        any_mask = next(iter(states.values()))[1]
        tokens = {}
        for modality, embedder in self.items():
            if modality in states:
                tokens[modality] = embedder(*states[modality])
            elif self.training and several_processes():  # others may have it, and all must share one backward
                tokens[modality] = embedder(*embedder.no_states(any_mask))
        return tokens


class StateStandardizer(nn.Module):
    """Shifts and scales each layer's dimensions by statistics over the real frames of the training utterances.

    Our extension (`state_normalization="standardize"`): a few dimensions of raw Whisper states hold most of their
    variance. The statistics are buffers: made by one pass before training, kept in the checkpoint.
    """

    def __init__(self, num_states: int, encoder_width: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_states, encoder_width))
        self.register_buffer("std", torch.ones(num_states, encoder_width))
        self.register_buffer("calibrated", torch.zeros((), dtype=torch.bool))
        self._is_known = False  # to be calibrated

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation, (L+1, D) each."""
        # A host that looks at a tensor waits for its device. Statistics are only ever set, so it looks until they are.
        self._is_known = self._is_known or bool(self.calibrated)
        if not self._is_known:
            raise ValueError(
                "state_normalization='standardize' needs statistics of the training states, and this model has none "
                "yet: train it with MMERTrainer, or call model.calibrate(batches)."
            )
        return self.mean, self.std

    def moments(self, frames: torch.Tensor | None = None) -> torch.Tensor:
        """Count, sum and sum of squares over real frames (n, L+1, D), float64 (3, L+1, D); zeros without frames."""
        if frames is None:
            return self.mean.new_zeros((3, *self.mean.shape), dtype=torch.float64)
        frames = frames.double()
        return torch.stack([torch.full_like(frames[0], len(frames)), frames.sum(0), frames.square().sum(0)])

    def set_statistics(self, moments: torch.Tensor) -> None:
        """Set mean and deviation from the `moments` of all training frames, those of other processes included."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(moments)
        count, total, squares = moments
        mean = total / count.clamp(min=1)
        variance = squares / count.clamp(min=1) - mean.square()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(variance > 1e-10, variance.clamp(min=0).sqrt(), 1.0))  # a constant stays as it is
        self.calibrated.fill_(True)
