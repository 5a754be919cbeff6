"""The masked autoencoder: which tokens MASK replaces, and the way back from z to encoder embeddings (Eq. 4, 5).

Shapes: B examples, T frames or tokens, N = ceil(T / k) tokens, D encoder width, d shared width.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from .configuration_mmer import MMERConfig
from .embedding import ModalityTokens
from .transformer import PassOutput

Tokens = Mapping[str, ModalityTokens]


class TokenMasking(nn.Module):
    """MASK, and the tokens that it replaces."""

    def __init__(self, config: MMERConfig):
        super().__init__()
        self.config = config
        self.mask_token = nn.Parameter(torch.zeros(config.hidden_size))

    def forward(self, tokens: Tokens) -> tuple[dict[str, ModalityTokens], dict[str, torch.Tensor]]:
        """Tokens of which some are MASK, and which (B, N).

        MASK takes the place of h before v^m is added: a masked token still shows its modality.
        """
        masked = {m: draw_mask(t.mask, self.config.mask_ratio, fixed=not self.training) for m, t in tokens.items()}
        given = {m: torch.where(masked[m].unsqueeze(-1), self.mask_token, t.projected) for m, t in tokens.items()}
        return {m: replace(t, projected=given[m]) for m, t in tokens.items()}, masked


def draw_mask(real: torch.Tensor, ratio: float, fixed: bool = False) -> torch.Tensor:
    """Which real tokens of (B, N) are replaced by MASK: `ratio` of each row, rounded down, at least one of two or more.

    A row of a single token keeps it: nothing would be left to reconstruct it from. `fixed`, for evaluations, draws by
    position alone and from a generator of its own: the mask of a row is always the same, on every device and in every
    batch, and training goes on as if there had been no evaluation.
    """
    count = real.sum(-1)
    number = (count * ratio).floor().long()
    if ratio > 0:
        number = torch.where(count >= 2, number.clamp(min=1), 0)
    if fixed:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.rand(real.shape[-1], generator=generator, device="cpu").to(real.device).expand(real.shape)
    else:
        drawn = torch.rand(real.shape, device=real.device)
    order = drawn.masked_fill(~real, 2.0).argsort(-1)  # real ones first, shuffled
    rank = torch.empty_like(order).scatter_(
        -1, order, torch.arange(real.shape[-1], device=real.device).expand_as(order)
    )
    return rank < number.unsqueeze(-1)


class StateDecoders(nn.ModuleDict):
    """A decoder for each modality, and Eq. 5 over what they reconstruct."""

    def __init__(self, config: MMERConfig):
        super().__init__({modality: StateDecoder.for_modality(config, modality) for modality in config.modalities})
        self.config = config

    def forward(self, output: PassOutput, tokens: Tokens, masked: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Each example's part of Eq. 5, the errors of its modalities added: (B,), float32.

        Args:
            output: of the masked pass.
            tokens: of the batch, without MASK.
            masked: which of them MASK had replaced, (B, N) for each modality.
        """
        total = output.cls.sum(-1).float() * 0.0  # carries a graph, also where nothing is reconstructed
        for modality, z in output.tokens.items():
            decoder, of_modality = self[modality], tokens[modality]
            target, counted = decoder.target(of_modality, masked[modality])
            reconstructed = decoder(z, of_modality.mask, length=target.shape[1])
            total = total + reconstruction_errors(reconstructed, target, counted)
        return total


class StateDecoder(nn.Module):
    """Eq. 4: z at a modality's own positions (B, N, d) → reconstructed embeddings (B, T, D).

    Audio is brought back to its frames by a transposed convolution or, with `mae_upsampling="linear"`, by linear
    interpolation between tokens and a linear layer. The target is the encoder embeddings H or, with
    `mae_target="projected"`, the tokens h.
    """

    def __init__(self, config: MMERConfig, output_width: int, stride: int):
        super().__init__()
        self.config = config
        self.stride = stride
        self.transposed = stride > 1 and config.mae_upsampling == "transposed"
        self.projection = (
            TransposedWindowConvolution(config.hidden_size, output_width, stride)
            if self.transposed
            else nn.Linear(config.hidden_size, output_width)
        )

    @classmethod
    def for_modality(cls, config: MMERConfig, modality: str) -> "StateDecoder":
        if config.mae_target == "projected":
            return cls(config, config.hidden_size, stride=1)
        _, width = config.states_shape(modality)
        return cls(config, width, config.stride(modality))

    def target(self, tokens: ModalityTokens, masked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What is to be reconstructed (B, T, D), and the positions (B, T) that count."""
        on_masked = self.config.mae_loss_on == "masked"
        if self.config.mae_target == "projected":  # never detached, or its collapse would not show
            return tokens.projected, masked if on_masked else tokens.mask
        target = tokens.states.detach() if self.config.mae_detach_target else tokens.states
        if self.config.mae_target_norm == "frame":
            target = nn.functional.layer_norm(target.float(), target.shape[-1:])
        counted = tokens.states_mask
        if on_masked:
            counted = counted & masked.repeat_interleave(self.stride, dim=1)[:, : counted.shape[1]]
        return target, counted

    def forward(self, contextual: torch.Tensor, mask: torch.Tensor, length: int) -> torch.Tensor:
        """contextual (B, N, d), mask (B, N) true where real → the first `length` frames (B, length, D)."""
        if self.stride == 1:
            return self.projection(contextual)
        if self.transposed:
            return self.projection(contextual)[:, :length]
        return self.projection(interpolate(contextual, mask, self.stride)[:, :length])


class TransposedWindowConvolution(nn.ConvTranspose1d):
    """Eq. 4 of audio: the transposed convolution to [`WindowConvolution`], a linear layer to the frames of each window.

    The numbers and weights are those of `nn.ConvTranspose1d`.
    """

    def __init__(self, hidden_size: int, output_width: int, stride: int):
        super().__init__(hidden_size, output_width, kernel_size=stride, stride=stride)

    def forward(self, contextual: torch.Tensor) -> torch.Tensor:
        """(B, N, d) → (B, N·k, D): time first, unlike `nn.ConvTranspose1d`."""
        windows = nn.functional.linear(contextual, self.weight.permute(2, 1, 0).flatten(0, 1))  # (B, N, k·D)
        return windows.unflatten(-1, (self.stride[0], -1)).flatten(1, 2) + self.bias


def interpolate(tokens: torch.Tensor, mask: torch.Tensor, factor: int) -> torch.Tensor:
    """Tokens (B, N, d) as `factor` times as many, linearly between them; the last real one goes on behind itself."""
    last = (mask.sum(-1, keepdim=True) - 1).clamp(min=0).unsqueeze(-1).expand(-1, 1, tokens.shape[-1])
    tokens = torch.where(mask.unsqueeze(-1), tokens, tokens.gather(1, last))
    return nn.functional.interpolate(tokens.transpose(1, 2), scale_factor=factor, mode="linear").transpose(1, 2)


def reconstruction_errors(reconstructed: torch.Tensor, target: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Each example's part of Eq. 5: the mean over its counted positions of the mean squared error per dimension.

    Args:
        reconstructed, target: (B, T, D).
        counted: (B, T) bool. A row without any counts as zero.

    Returns:
        (B,), float32.
    """
    squared = (reconstructed.float() - target.float()).square().mean(-1)  # (B, T)
    return (squared * counted).sum(-1) / counted.sum(-1).clamp(min=1)
