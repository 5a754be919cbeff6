"""What stands below every model here: the frozen encoders, and the mixing of their states.

`MMERBackbone` runs the encoders, once per step and without gradient, over the rows that have their modality, or takes
states that were computed before. What mixes the states of a modality (Eq. 1) is in `embedders`, which the model that
builds on it fills: [`StateMixer`] or one of its kinds.

Shapes: B examples, L+1 encoder states, T_a frames, T_t text tokens, D encoder width.
"""

import copy
from collections.abc import Iterable

import torch
from torch import nn
from transformers import PreTrainedModel

from .configuration_mmer import MMERConfig
from .encoders import (
    audio_states,
    build_audio_encoder,
    build_text_encoder,
    is_whisper,
    mask_of_frames,
    mask_or_ones,
    pack_encoder,
    text_states,
    unpack_encoder,
)
from .modeling_base import MMERPreTrainedModel

ENCODERS = ("audio_encoder", "text_encoder")


class MMERBackbone(MMERPreTrainedModel):
    """Frozen encoders and what mixes their states."""

    def __init__(self, config: MMERConfig):
        super().__init__(config)
        self.audio_encoder = self.text_encoder = None
        if config.audio_encoder_name_or_path is None:
            self.audio_encoder = build_audio_encoder(config.audio_config)
            self.text_encoder = build_text_encoder(config.text_config)
        self.embedders = nn.ModuleDict()

    def states_shape(self, modality: str) -> tuple[int, int]:
        """L+1 and D of the states that are kept of a modality."""
        encoder, layers = {
            "audio": (self.config.audio_config, self.config.audio_layers),
            "text": (self.config.text_config, self.config.text_layers),
        }[modality]
        return encoder.num_hidden_layers + 1 if layers is None else len(layers), encoder.hidden_size

    def freeze_encoders(self):
        for encoder in self.encoders():
            encoder.requires_grad_(False).eval()

    def encoders(self) -> list[PreTrainedModel]:
        return [encoder for encoder in (self.audio_encoder, self.text_encoder) if encoder is not None]

    def __getstate__(self):
        packed = {part: pack_encoder(getattr(self, part)) for part in ENCODERS if getattr(self, part) is not None}
        return self.__dict__ | {"_modules": self._modules | packed}

    def __setstate__(self, state):
        encoders = {part: unpack_encoder(state["_modules"][part]) for part in ENCODERS if state["_modules"].get(part)}
        super().__setstate__(state | {"_modules": state["_modules"] | encoders})

    def __deepcopy__(self, memo):
        """A copy within the process takes the encoders as they are: nothing need be packed for it."""
        copied = memo[id(self)] = type(self).__new__(type(self))
        vars(copied).update(copy.deepcopy(vars(self), memo))
        return copied

    def train(self, mode: bool = True):
        super().train(mode)
        for encoder in self.encoders():
            encoder.eval()
        return self

    def get_input_embeddings(self) -> nn.Module | None:
        """The token embeddings of the text encoder; None where it is not loaded."""
        return None if self.text_encoder is None else self.text_encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.text_encoder.set_input_embeddings(value)

    def read(self, **inputs: torch.Tensor | None) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """What [`MMERBackbone.encode`] gives, after a check that it fits this model.

        Raises:
            ValueError: states are of another shape than this model mixes, or an example has neither modality.
        """
        states = self.encode(**inputs)
        for modality, (of_modality, mask) in states.items():
            expected = self.embedders[modality].states_shape
            if mask.any() and (of_modality.shape[1], of_modality.shape[3]) != expected:
                raise ValueError(
                    f"{modality} states of shape {tuple(of_modality.shape)} do not fit: they must be (B, L+1, T, D) "
                    f"with L+1, D = {expected}."
                )
        present = sum(states[modality][1].any(-1).long() for modality in states)  # (B,)
        if not states or not present.all():
            lacking = "every example" if not states else f"example {(present == 0).nonzero().flatten().tolist()}"
            what = " nor ".join(self.embedders)
            what, needed = (f"Neither {what}", "at least one of them") if " nor " in what else (f"No {what}", "it")
            raise ValueError(f"{what} for {lacking} of the batch: each needs {needed}.")
        return states

    def encode(
        self,
        input_features=None,
        input_features_mask=None,
        input_values=None,
        input_values_mask=None,
        input_ids=None,
        attention_mask=None,
        audio_hidden_states=None,
        audio_mask=None,
        text_hidden_states=None,
        text_mask=None,
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """States (B, L+1, T, D) and mask (B, T) bool of each modality given: the encoders' one run per step.

        A modality that the model does not mix is not looked at. An `attention_mask` without text is that of the audio:
        a feature extractor alone, as in the stock pipelines, calls it so.
        """
        audio, frames_mask, other = input_features, input_features_mask, input_values
        if not is_whisper(self.config.audio_config):
            audio, frames_mask, other = input_values, input_values_mask, input_features
        if audio is not None and frames_mask is None and input_ids is None and attention_mask is not None:
            frames_mask = mask_of_frames(attention_mask, audio.shape[-1])
        if other is not None:
            kind = self.config.audio_config.model_type
            raise ValueError(
                f"A {kind} encoder reads the other kind of audio: use the processor saved with this model."
            )
        states = {}
        if "audio" not in self.embedders:
            pass
        elif audio_hidden_states is not None:
            states["audio"] = audio_hidden_states, mask_or_ones(audio_mask, audio_hidden_states[:, 0, :, 0])
        elif audio is not None:
            states["audio"] = self._encode_rows(
                lambda rows, mask: audio_states(self.audio_encoder, rows, mask, self.config.audio_context),
                self.audio_encoder,
                self.config.audio_layers,
                audio,
                mask_or_ones(frames_mask, audio[:, 0] if audio.dim() == 3 else audio),
            )
        if "text" not in self.embedders:
            pass
        elif text_hidden_states is not None:
            states["text"] = text_hidden_states, mask_or_ones(text_mask, text_hidden_states[:, 0, :, 0])
        elif input_ids is not None:
            states["text"] = self._encode_rows(
                lambda rows, mask: text_states(self.text_encoder, rows, mask.long()),
                self.text_encoder,
                self.config.text_layers,
                input_ids,
                mask_or_ones(attention_mask, input_ids),
            )
        return states

    def _encode_rows(self, encode, encoder, layers, inputs, mask):
        """Run an encoder over the rows that have the modality and keep the states that are mixed; the others get zeros
        and an all-false mask."""
        if encoder is None:
            raise ValueError(
                "This model has no encoders loaded: give it encoder states (audio_hidden_states, text_hidden_states), "
                "or load it with from_pretrained, from_audio_text_pretrained or load_encoders()."
            )
        present = mask.any(-1)
        if not present.any():
            return inputs.new_zeros((len(inputs), 1, 1, 1)), mask[:, :1]
        some, some_mask = encode(inputs[present], mask[present])
        some = some if layers is None else some[:, list(layers)]
        if present.all():
            return some, some_mask
        states = some.new_zeros((len(inputs), *some.shape[1:]))
        states[present] = some
        states_mask = some_mask.new_zeros((len(inputs), some_mask.shape[1]))
        states_mask[present] = some_mask
        return states, states_mask

    @torch.no_grad()
    def calibrate(self, batches: Iterable[dict[str, torch.Tensor]]):
        """Set the statistics of `state_normalization="standardize"` from the real frames of training batches.

        Under several processes each gives its own share of the batches, and all end up with the same statistics.
        """
        sums = {m: torch.zeros_like(e.standardizer.moments()) for m, e in self.embedders.items()}
        for batch in batches:
            for modality, (states, mask) in self.encode(**batch).items():
                if mask.any():
                    sums[modality] += self.embedders[modality].standardizer.moments(states.transpose(1, 2)[mask])
        for modality, embedder in self.embedders.items():
            embedder.standardizer.set_statistics(sums[modality])
