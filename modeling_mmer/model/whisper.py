"""Whisper's encoder with a mask, and the silence that fills its window.

Shapes: B examples, T frames.
"""

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs


class MMERWhisperEncoder(WhisperEncoder):
    """Whisper's encoder for any length up to its window, with a mask that it honours.

    Differs from `WhisperEncoder` in exactly three things: fewer frames than the window are allowed (the first position
    embeddings are used), `attention_mask` reaches the layers, and masked frames are zero before both convolutions, so
    that the last real frame sees what it sees without padding. At the full window it equals upstream bit for bit.
    """

    @merge_with_config_defaults
    @capture_outputs
    def forward(self, input_features, attention_mask=None, **kwargs) -> BaseModelOutput:
        """input_features (B, mels, frames), attention_mask (B, frames) or None → states of ceil(frames / 2) steps."""
        keep = None if attention_mask is None else attention_mask[:, None].to(input_features.dtype)
        states = input_features if keep is None else input_features * keep
        states = nn.functional.gelu(self.conv1(states))
        states = states if keep is None else states * keep
        states = nn.functional.gelu(self.conv2(states)).transpose(1, 2)  # (B, ceil(frames / 2), D)
        states = states + self.embed_positions(torch.arange(states.shape[1], device=states.device))
        mask = None
        if attention_mask is not None:
            mask = hiding_mask(self.config, states, attention_mask[:, ::2].bool())
        for layer in self.layers:
            states = layer(states, mask, **kwargs)
        return BaseModelOutput(last_hidden_state=self.layer_norm(states))


def hiding_mask(config: PreTrainedConfig, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The attention mask that hides what is padding in `mask` (B, T) bool, without looking whether there is any, for
    which the host would have to wait for an accelerator."""
    return create_bidirectional_mask(
        config=config, inputs_embeds=states, attention_mask=mask, allow_is_bidirectional_skip=False
    )


def fill_window(features: torch.Tensor, mask: torch.Tensor, frames: int) -> torch.Tensor:
    """Log-mels (B, mels, T) continued by silence to Whisper's window, as its feature extractor would have done.

    That extractor floors a log-mel at 1e-10 and at 8 decades below the clip's loudest bin, then maps x to (x + 4) / 4.
    """
    loudest = features.masked_fill(~mask[:, None], -torch.inf).amax((1, 2), keepdim=True)
    silence = (loudest - 2.0).clamp(min=-1.5)
    features = torch.where(mask[:, None], features, silence)
    return torch.cat([features, silence.expand(-1, features.shape[1], frames - features.shape[2])], dim=2)
