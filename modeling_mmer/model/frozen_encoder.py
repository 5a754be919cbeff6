"""A frozen encoder E^m: the inputs of a batch in, the states of its real frames or tokens out.

Rows of like length are run together, and the states are handed on one after the other, to be mixed or kept.

Shapes: B examples, L+1 encoder states (embedding output and every layer), T frames or tokens, D encoder width.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from .configuration_mmer import MMERConfig
from .encoder_weights import pack_encoder, unpack_encoder
from .lengths import (
    FRAMES_OF_A_RUN,
    FRAMES_OF_A_RUN_ELSEWHERE,
    LENGTHS_OF_A_DOUBLING,
    LENGTHS_OF_A_DOUBLING_ELSEWHERE,
    Lengths,
    buckets,
    kernel_length,
    powers_of_two,
    read_lengths,
)
from .mixing import Receiver, Stack, passed_on


class FrozenEncoder(nn.Module):
    """E^m: where the states of one modality come from, a pretrained encoder or the batch itself.

    The encoder is built here where a checkpoint holds its weights, and loaded by `load` where the config names it. It
    is in evaluation mode always and has no gradient. Subclasses say which inputs it reads and how.

    Args:
        config: of the model.
        modality: whose `<modality>_config`, `<modality>_layers` … of the config are meant.
    """

    inputs: tuple[str, str] = ()  # names of the raw inputs and of their mask

    def __init__(self, config: MMERConfig, modality: str):
        super().__init__()
        self.model_config, self.modality = config, modality
        self.config = config.encoder_config(modality)
        self.layers = config.layers(modality)
        self.dtype: torch.dtype | None = None  # that it runs in; None: that of the model
        self.encoder = self.build(self.config) if config.encoder_name(modality) is None else None
        self.freeze()

    @classmethod
    def build(cls, config: PreTrainedConfig) -> PreTrainedModel | None:
        """The architecture of an encoder's config, with weights still to come (self-contained checkpoints)."""

    @classmethod
    def fetch(cls, name_or_path: str, revision: str | None = None, **options) -> PreTrainedModel:
        """The pretrained encoder of a folder, or of a commit of a hub name.

        `options` are those of `from_pretrained`; without a `dtype` among them, weights are float32.

        Raises:
            ValueError: the checkpoint lacks a weight of the encoder.
            OSError: it has no weights.
        """
        raise NotImplementedError

    def __getstate__(self):
        return self.__dict__ | {"_modules": {"encoder": None if self.encoder is None else pack_encoder(self.encoder)}}

    def __setstate__(self, state):
        packed = state["_modules"]["encoder"]
        super().__setstate__(state | {"_modules": {"encoder": None if packed is None else unpack_encoder(packed)}})

    def __deepcopy__(self, memo):
        """A copy within the process copies the encoder as it is, without packing it."""
        copied = memo[id(self)] = type(self).__new__(type(self))
        vars(copied).update(copy.deepcopy(vars(self), memo))
        return copied

    def freeze(self):
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True):
        return super().train(False)

    def forward(self, inputs: Mapping[str, torch.Tensor | None]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """States (B, L+1, T, D) and mask (B, T) bool of a batch; None where no row has the modality.

        Rows that lack the modality get zeros and an all-false mask.
        """
        found = self.find(inputs)
        if found is None:
            return None
        padded = [self.modality] if self.reads_raw(inputs) else []
        states = self.of_batch(inputs, *found, read_lengths({self.modality: found[1]}, padded)[self.modality])
        return None if states is None else (stacked(states[0]), states[1])

    def reads_raw(self, inputs: Mapping[str, torch.Tensor | None]) -> bool:
        """Whether the batch has no states of the modality, which the encoder has to compute."""
        return inputs.get(f"{self.modality}_hidden_states") is None

    def find(self, inputs: Mapping[str, torch.Tensor | None]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The states or raw inputs that a batch has of the modality, and their mask (B, T) bool; None without any."""
        if not self.reads_raw(inputs):
            states = inputs[f"{self.modality}_hidden_states"]
            return states, mask_or_ones(inputs.get(f"{self.modality}_mask"), states[:, 0, :, 0])
        raw = inputs.get(self.inputs[0]) if self.inputs else None
        if raw is None:
            return None
        return raw, mask_or_ones(self.mask(inputs), raw[:, 0] if raw.dim() == 3 else raw)

    def of_batch(self, inputs, values: torch.Tensor, mask: torch.Tensor, lengths: Lengths):
        """What was found, as states (B, L+1, T, D) or [`PendingStates`], and the mask (B, T) of its frames; None where
        no row has anything."""
        if not any(lengths.by_row):
            return None
        if not self.reads_raw(inputs):
            return values, mask
        self.require_encoder()
        pending = PendingStates(self, values, mask, lengths)
        return pending, pending.frame_mask

    def mask(self, inputs: Mapping[str, torch.Tensor | None]) -> torch.Tensor | None:
        """The mask (B, T) of the raw inputs, or None where everything is real."""
        return inputs.get(self.inputs[1])

    def frames(self, length):
        """How many states the encoder makes of a raw input of this length, a number or a tensor of them."""
        return length

    def check(self, lengths: Sequence[int]) -> None:
        """Raise a ValueError for raw inputs, none of length 0, that do not fit the encoder."""

    def parts(self, longest_first: Sequence[int], run: int) -> list[slice]:
        """The rows that the encoder runs on together, of all rows with the longest first; see [`buckets`]."""
        parts = buckets([int(self.frames(length)) if length else 0 for length in longest_first], run)
        return powers_of_two(parts) if self.is_rounded else parts

    @property
    def is_rounded(self) -> bool:
        """Whether it is run on few lengths and numbers of rows, because kernels are made for each."""
        return False

    def rounded(self, length: int) -> int:
        """The length that a raw input is padded to, so that it makes one of few numbers of states."""
        return length

    def few(self, states: int) -> int:
        """One of few numbers of states, as many as these or a little more."""
        return kernel_length(states, LENGTHS_OF_A_DOUBLING.get(self.encoder.dtype, LENGTHS_OF_A_DOUBLING_ELSEWHERE))

    def run(self, raw: torch.Tensor, mask: torch.Tensor | None, add: Callable[[torch.Tensor], None]) -> None:
        """Run on rows that all have the modality, and give all states (B, T, D), one after the other, to `add`.

        `mask` is None if everything is real.
        """
        raise NotImplementedError

    def require_encoder(self):
        if self.encoder is None:
            raise ValueError(
                f"This model has no encoders loaded: give it encoder states ({self.modality}_hidden_states), "
                "or load it with from_pretrained, from_audio_text_pretrained or load_encoders()."
            )

    def layers_of_states(self) -> tuple[nn.Module, Sequence[nn.Module]] | None:
        """The layer that the first state enters, and the modules that put out the others; None: ask transformers."""
        return None

    @torch.no_grad()
    def pass_states(self, raw: torch.Tensor, add: Callable[[torch.Tensor], None], **kwargs) -> None:
        """Run the encoder, and give each of its L+1 states (B, T, D) to `add` as soon as it is there."""
        known = None if torch.compiler.is_compiling() else self.layers_of_states()
        if known is not None:
            with passed_on(*known, add):
                self.encoder(raw, **kwargs)
            return
        for state in self.encoder(raw, output_hidden_states=True, **kwargs).hidden_states:
            add(state)


class PendingStates:
    """The states of a batch that its encoder has yet to compute: when they are asked for, and as what.

    Rows of like length are run together, so that a batch costs about what its frames cost, and not its padding.

    Args:
        encoder: of the modality.
        raw, mask: its inputs (B, …, T) and their mask (B, T).
        lengths: of the rows.
    """

    def __init__(self, encoder: FrozenEncoder, raw: torch.Tensor, mask: torch.Tensor, lengths: Lengths):
        encoder.check([length for length in lengths.by_row if length])
        self.encoder, self.raw, self.mask, self.lengths = encoder, raw, mask, lengths
        frames = int(encoder.frames(max(lengths.by_row)))
        self.frame_mask = torch.arange(frames, device=mask.device) < encoder.frames(lengths.counts)[:, None]
        self.frame_mask &= lengths.counts[:, None] > 0

    def stacked(self) -> torch.Tensor:
        """All states: (B, L+1, T, D), zero in rows without the modality."""
        return self.received(Stack)[0]

    def received(self, receiver: Callable[[torch.Tensor], Receiver]) -> tuple[torch.Tensor, ...]:
        """What a receiver makes of the states, zero in rows without the modality: (B, …, D).

        Args:
            receiver: makes a new one for the rows that are run together, from the mask of their frames (B, T).
        """
        longest_first = self.lengths.longest_first
        parts = self.encoder.parts(longest_first, FRAMES_OF_A_RUN.get(self.raw.device.type, FRAMES_OF_A_RUN_ELSEWHERE))
        if len(parts) == 1 and longest_first[-1]:  # all rows at once
            return self._run(self.raw, self.mask, longest_first, receiver(self.frame_mask))
        whole = None
        for part in parts:
            rows = self.lengths.order[part]
            receiving = receiver(self.frame_mask[rows])
            of_rows = self._run(self.raw[rows], self.mask[rows], longest_first[part], receiving)
            if whole is None:  # of the longest rows
                whole = tuple(values.new_zeros((len(self.raw), *values.shape[1:])) for values in of_rows)
            for values, of_part in zip(whole, of_rows, strict=True):
                values[..., : of_part.shape[-2], :][rows] = of_part
        return whole

    def _run(self, raw, mask, longest_first: Sequence[int], receiving: Receiver) -> tuple[torch.Tensor, ...]:
        longest, shortest = longest_first[0], longest_first[-1]
        frames, wanted, count = int(self.encoder.frames(longest)), self.encoder.layers, 0

        def add(state: torch.Tensor) -> None:
            nonlocal count
            if wanted is None or count in wanted:
                receiving.add(state[:, :frames])
            count += 1

        width = self.encoder.rounded(longest) if self.encoder.is_rounded else longest
        raw, mask = cut_or_filled(raw, width), cut_or_filled(mask, width)
        self.encoder.run(raw, None if shortest == width else mask, add)
        return receiving.result()


def stacked(states: torch.Tensor | PendingStates) -> torch.Tensor:
    """States (B, L+1, T, D), computed if they are pending."""
    return states.stacked() if isinstance(states, PendingStates) else states


def mask_or_ones(mask: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """A mask as bool; without one everything in `like`, of the mask's shape, is real."""
    return torch.ones_like(like, dtype=torch.bool) if mask is None else mask.bool()


def makes_kernels(encoder: PreTrainedModel) -> bool:
    """Whether kernels are made for every length that the encoder runs on. A graph takes any length as it is."""
    return encoder.device.type == "cpu" and not (torch.compiler.is_compiling() or torch.jit.is_tracing())


def cut_or_filled(values: torch.Tensor, width: int) -> torch.Tensor:
    """(…, T) → (…, width): cut, or continued by zeros."""
    return (
        values[..., :width] if width <= values.shape[-1] else nn.functional.pad(values, (0, width - values.shape[-1]))
    )
