"""The frozen encoders E^m behind one seam: a batch's inputs in, the states of its real frames or tokens out.

An utterance gets what it would get alone: a Whisper encoder sees either its 30 s window or, masked, the clip's own
frames; raw-waveform encoders (HuBERT, WavLM, wav2vec2) are masked, or run in groups of equal length where a group norm
over time would see the padding. Whatever the kind, the caller gets states (B, L+1, T, D) and a mask (B, T).

Shapes: B examples, L+1 encoder states (embedding output and every layer), T frames or tokens, D encoder width.
"""

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_mmer import MMERConfig
from .encoder_weights import load_encoder, pack_encoder, unpack_encoder, without_pooler

States = dict[str, tuple[torch.Tensor, torch.Tensor]]  # modality → states (B, L+1, T, D) and mask (B, T)


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
            mask = create_bidirectional_mask(
                config=self.config, inputs_embeds=states, attention_mask=attention_mask[:, ::2].bool()
            )
        for layer in self.layers:
            states = layer(states, mask, **kwargs)
        return BaseModelOutput(last_hidden_state=self.layer_norm(states))


# ── one encoder for each modality ───────────────────────────────────────────────────────────────────────────────────


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
        """States (B, L+1, T, D) and mask (B, T) bool of a batch; None where it has nothing of this modality.

        Rows that lack the modality get zeros and an all-false mask.
        """
        states, mask = inputs.get(f"{self.modality}_hidden_states"), inputs.get(f"{self.modality}_mask")
        if states is not None:
            return states, mask_or_ones(mask, states[:, 0, :, 0])
        raw = inputs.get(self.inputs[0]) if self.inputs else None
        if raw is None:
            return None
        mask = mask_or_ones(self.mask(inputs), raw[:, 0] if raw.dim() == 3 else raw)
        present = mask.any(-1)
        if not present.any():
            return raw.new_zeros((len(raw), 1, 1, 1)), mask[:, :1]
        self.require_encoder()
        longest = real_length(mask)
        of_present, frames = self.run(raw[present][..., :longest], mask[present][:, :longest])
        if self.layers is not None:
            of_present = of_present[:, self.layers]
        states, mask = (values.new_zeros((len(raw), *values.shape[1:])) for values in (of_present, frames))
        states[present], mask[present] = of_present, frames
        return states, mask

    def mask(self, inputs: Mapping[str, torch.Tensor | None]) -> torch.Tensor | None:
        """The mask (B, T) of the raw inputs, or None where everything is real."""
        return inputs.get(self.inputs[1])

    def run(self, raw: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All states (B, L+1, T, D) and mask (B, T) of a batch in which every row has the modality."""
        raise NotImplementedError

    def require_encoder(self):
        if self.encoder is None:
            raise ValueError(
                f"This model has no encoders loaded: give it encoder states ({self.modality}_hidden_states), "
                "or load it with from_pretrained, from_audio_text_pretrained or load_encoders()."
            )

    def all_states(self, raw: torch.Tensor, **kwargs) -> torch.Tensor:
        """The L+1 states of the encoder, stacked: (B, L+1, T, D)."""
        with torch.no_grad():
            return torch.stack(self.encoder(raw, output_hidden_states=True, **kwargs).hidden_states, dim=1)


class AudioEncoder(FrozenEncoder):
    """An encoder of audio, whose mask may also come under the name that the stock feature extractors give it."""

    def mask(self, inputs):
        """An `attention_mask` without text is that of the audio, over its frames or the samples they were made of."""
        mask, other = super().mask(inputs), inputs.get("attention_mask")
        if mask is None and other is not None and inputs.get("input_ids") is None:
            return mask_of_frames(other, inputs[self.inputs[0]].shape[-1])
        return mask


class WhisperStates(AudioEncoder):
    """A Whisper encoder over its 30 s window (`audio_context="full"`), or over the clip's own frames (`"trimmed"`)."""

    inputs = ("input_features", "input_features_mask")

    @classmethod
    def build(cls, config):
        return MMERWhisperEncoder(config)

    @classmethod
    def fetch(cls, name_or_path, revision=None, **options):
        # Whole checkpoints have keys `model.encoder.*`, encoder-only ones `encoder.*`, saved encoders none of these.
        options["key_mapping"] = {r"^(model\.)?encoder\.": ""}
        return load_encoder(MMERWhisperEncoder, name_or_path, revision, **options)

    def run(self, raw, mask):
        frames = raw.shape[-1]
        window = 2 * self.config.max_source_positions
        if frames > window:
            raise ValueError(
                f"{frames} frames of audio do not fit the encoder's window of {window}: cut the audio first."
            )
        raw = raw.to(self.encoder.dtype)
        if self.model_config.audio_context == "trimmed":
            return self.all_states(raw, attention_mask=mask), mask[:, ::2]
        states = self.all_states(fill_window(raw, mask, window))
        return states[:, :, : mask[:, ::2].shape[1]], mask[:, ::2]


class WaveformStates(AudioEncoder):
    """A HuBERT-, WavLM- or wav2vec2-shaped encoder: masked, or in groups of equal length under a group norm."""

    inputs = ("input_values", "input_values_mask")

    @classmethod
    def build(cls, config):
        return AutoModel.from_config(config)

    @classmethod
    def fetch(cls, name_or_path, revision=None, **options):
        return load_encoder(AutoModel, name_or_path, revision, **options)

    def run(self, raw, mask):
        samples, lengths = raw.to(self.encoder.dtype) * mask, mask.sum(-1)
        frames = self.encoder._get_feat_extract_output_lengths(lengths).long()
        if int(frames.min()) < 1:
            raise ValueError(
                f"A clip of {int(lengths.min())} samples is shorter than one frame of {self.config.model_type}."
            )
        frame_mask = torch.arange(int(frames.max()), device=mask.device) < frames[:, None]
        if self.config.feat_extract_norm != "group":
            return self.all_states(samples, attention_mask=mask.long()), frame_mask
        states = None
        for length in lengths.unique().tolist():
            rows = lengths == length
            group = self.all_states(samples[rows, :length])  # (B of this length, L+1, T, D)
            if states is None:
                states = group.new_zeros(len(samples), group.shape[1], frame_mask.shape[1], group.shape[3])
            states[rows, :, : group.shape[2]] = group
        return states, frame_mask


class TextStates(FrozenEncoder):
    """A BERT-shaped encoder without its pooler, whose output is not among the states."""

    inputs = ("input_ids", "attention_mask")

    @classmethod
    def build(cls, config):
        return without_pooler(AutoModel.from_config(config))

    @classmethod
    def fetch(cls, name_or_path, revision=None, **options):
        return without_pooler(load_encoder(AutoModel, name_or_path, revision, **options))

    def run(self, raw, mask):
        positions = text_positions(self.encoder)
        if positions is not None and raw.shape[1] > positions:
            raise ValueError(
                f"A text of {raw.shape[1]} tokens does not fit the text encoder's {positions} positions: cut it, with "
                f"max_length={positions} (or less) and truncation=True where it is tokenized."
            )
        return self.all_states(raw, attention_mask=mask.long()), mask


def encoder_class(config: MMERConfig, modality: str) -> type[FrozenEncoder]:
    """The kind of encoder that a modality's config asks for; a modality of another name comes as states only."""
    if modality == "audio":
        return WhisperStates if config.audio_config.model_type == "whisper" else WaveformStates
    return TextStates if modality == "text" else FrozenEncoder


class FrozenEncoders(nn.ModuleDict):
    """The encoders of a model's modalities, run once on each batch: its inputs → the states of each modality."""

    def __init__(self, config: MMERConfig, modalities: Iterable[str]):
        super().__init__({modality: encoder_class(config, modality)(config, modality) for modality in modalities})
        self.config = config
        self.read = {
            name
            for m in config.modalities
            for name in (*encoder_class(config, m).inputs, f"{m}_hidden_states", f"{m}_mask")
        }

    def forward(self, inputs: Mapping[str, torch.Tensor | None]) -> States:
        """States (B, L+1, T, D) and mask (B, T) bool of each modality that the batch gives.

        Raises:
            ValueError: there is an input that the encoders do not read, states are of another shape than this model
                mixes, or an example has no modality.
        """
        if unread := [name for name, value in inputs.items() if value is not None and name not in self.read]:
            raise ValueError(
                f"This model does not read {', '.join(unread)}, but {', '.join(sorted(self.read))}: use the processor "
                "saved with it."
            )
        states = {m: of_batch for m, encoder in self.items() if (of_batch := encoder(inputs)) is not None}
        for modality, (of_modality, mask) in states.items():
            expected = self.config.states_shape(modality)
            if mask.any() and (of_modality.shape[1], of_modality.shape[3]) != expected:
                raise ValueError(
                    f"{modality} states of shape {tuple(of_modality.shape)} do not fit: they must be (B, L+1, T, D) "
                    f"with L+1, D = {expected}."
                )
        present = sum(mask.any(-1).long() for _, mask in states.values())  # (B,)
        if not states or not present.all():
            lacking = "every example" if not states else f"example {(present == 0).nonzero().flatten().tolist()}"
            what, needed = ("Neither", "at least one of them") if len(self) > 1 else ("No", "it")
            raise ValueError(f"{what} {' nor '.join(self)} for {lacking} of the batch: each needs {needed}.")
        return states


# ── functions of tensors ────────────────────────────────────────────────────────────────────────────────────────────


def real_length(mask: torch.Tensor) -> int:
    """The longest row of a mask (B, T), in which what is real must come first."""
    if (mask[:, 1:].bool() & ~mask[:, :-1].bool()).any():
        raise ValueError("Padding must come last: a mask has real positions behind padded ones (pad on the right).")
    return int(mask.bool().sum(-1).max())


def mask_or_ones(mask: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """A mask as bool; without one everything in `like`, of the mask's shape, is real."""
    return torch.ones_like(like, dtype=torch.bool) if mask is None else mask.bool()


def mask_of_frames(mask: torch.Tensor, frames: int) -> torch.Tensor | None:
    """A mask (B, frames), also from one over the samples that the frames were made of; None if it is of neither."""
    samples_per_frame, rest = divmod(mask.shape[1], frames)
    return mask[:, ::samples_per_frame] if samples_per_frame and not rest else None


def text_positions(encoder: PreTrainedModel) -> int | None:
    """The most tokens that a text encoder has positions for; None where it does not look them up in a table.

    RoBERTa's kind counts positions from behind the padding token's number, and says so in its table.
    """
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return None
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


def fill_window(features: torch.Tensor, mask: torch.Tensor, frames: int) -> torch.Tensor:
    """Log-mels (B, mels, T) continued by silence to Whisper's window, as its feature extractor would have done.

    That extractor floors a log-mel at 1e-10 and at 8 decades below the clip's loudest bin, then maps x to (x + 4) / 4.
    """
    loudest = features.masked_fill(~mask[:, None], -torch.inf).amax((1, 2), keepdim=True)
    silence = (loudest - 2.0).clamp(min=-1.5)
    features = torch.where(mask[:, None], features, silence)
    return torch.cat([features, silence.expand(-1, features.shape[1], frames - features.shape[2])], dim=2)
