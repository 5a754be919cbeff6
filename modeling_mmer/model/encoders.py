"""The frozen encoders E^m behind one seam: a batch's inputs in, the states of its real frames or tokens out.

An utterance gets what it would get alone: a Whisper encoder sees either its 30 s window or, masked, the clip's own
frames; raw-waveform encoders (HuBERT, WavLM, wav2vec2) are masked, or run in groups of equal length where a group norm
over time would see the padding. Whatever the kind, the caller gets states (B, L+1, T, D) and a mask (B, T).

Shapes: B examples, L+1 encoder states (embedding output and every layer), T frames or tokens, D encoder width.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel

from .configuration_mmer import MMERConfig
from .encoder_weights import load_encoder, without_pooler
from .frozen_encoder import FrozenEncoder, PendingStates, makes_kernels, stacked
from .lengths import buckets, read_lengths
from .whisper import MMERWhisperEncoder, fill_window, hiding_mask

States = dict[str, tuple[torch.Tensor, torch.Tensor]]  # modality → states (B, L+1, T, D) and mask (B, T)


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

    @property
    def is_trimmed(self) -> bool:
        return self.model_config.audio_context == "trimmed"

    @property
    def window(self) -> int:
        """Frames of a log-mel that the encoder has positions for."""
        return 2 * self.config.max_source_positions

    def frames(self, length):
        return (length + 1) // 2

    @property
    def is_rounded(self):
        return self.is_trimmed and makes_kernels(self.encoder)

    def rounded(self, length):
        states = self.frames(length)
        return length if self.few(states) == states else min(2 * self.few(states), self.window)

    def check(self, lengths):
        if max(lengths) > self.window:
            raise ValueError(
                f"{max(lengths)} frames of audio do not fit the encoder's window of {self.window}: cut the audio first."
            )

    def parts(self, longest_first, run):
        """In `full` context all rows are as long as the window."""
        return super().parts(longest_first, run) if self.is_trimmed else super().parts([*map(bool, longest_first)], run)

    def layers_of_states(self):
        """The last state is that behind the final norm."""
        return self.encoder.layers[0], [*self.encoder.layers[:-1], self.encoder.layer_norm]

    def run(self, raw, mask, add):
        frames = self.frames(raw.shape[-1])
        raw = raw.to(self.encoder.dtype)
        if self.is_trimmed:
            return self.pass_states(raw, add, attention_mask=mask)
        mask = torch.ones_like(raw[:, 0], dtype=torch.bool) if mask is None else mask
        self.pass_states(fill_window(raw, mask, self.window), lambda state: add(state[:, :frames]))


class WaveformStates(AudioEncoder):
    """A HuBERT-, WavLM- or wav2vec2-shaped encoder: masked, or in groups of equal length under a group norm."""

    inputs = ("input_values", "input_values_mask")

    @classmethod
    def build(cls, config):
        return AutoModel.from_config(config)

    @classmethod
    def fetch(cls, name_or_path, revision=None, **options):
        return load_encoder(AutoModel, name_or_path, revision, **options)

    @property
    def is_masked(self) -> bool:
        """Whether the encoder may see padding that a mask hides; otherwise only rows of one length are run together."""
        return self.config.feat_extract_norm != "group"

    def frames(self, length):
        return self.encoder._get_feat_extract_output_lengths(torch.as_tensor(length)).long()

    def check(self, lengths):
        if int(self.frames(min(lengths))) < 1:
            raise ValueError(f"A clip of {min(lengths)} samples is shorter than one frame of {self.config.model_type}.")

    def parts(self, longest_first, run):
        return super().parts(longest_first, run) if self.is_masked else buckets(longest_first, run=0)

    def layers_of_states(self):
        """The last state is that before a final norm, if there is one."""
        known = self.config.model_type in ("wav2vec2", "hubert", "wavlm")
        return (self.encoder.encoder.layers[0], self.encoder.encoder.layers) if known else None

    def run(self, raw, mask, add):
        raw = raw.to(self.encoder.dtype)
        if not self.is_masked:
            return self.pass_states(raw, add)
        mask = torch.ones_like(raw, dtype=torch.bool) if mask is None else mask
        self.pass_states(raw * mask, add, attention_mask=mask.long())


class TextStates(FrozenEncoder):
    """A BERT-shaped encoder without its pooler, whose output is not among the states."""

    inputs = ("input_ids", "attention_mask")

    @classmethod
    def build(cls, config):
        return without_pooler(AutoModel.from_config(config))

    @classmethod
    def fetch(cls, name_or_path, revision=None, **options):
        return without_pooler(load_encoder(AutoModel, name_or_path, revision, **options))

    def check(self, lengths):
        positions = text_positions(self.encoder)
        if positions is not None and max(lengths) > positions:
            raise ValueError(
                f"A text of {max(lengths)} tokens does not fit the text encoder's {positions} positions: cut it, with "
                f"max_length={positions} (or less) and truncation=True where it is tokenized."
            )

    @property
    def is_rounded(self):
        return makes_kernels(self.encoder)

    def rounded(self, length):
        positions = text_positions(self.encoder)
        return self.few(length) if positions is None else min(self.few(length), positions)

    def layers_of_states(self):
        layers = self.encoder.encoder.layer if self.config.model_type in ("bert", "roberta", "xlm-roberta") else None
        return None if layers is None else (layers[0], layers)

    def run(self, raw, mask, add):
        if self.layers_of_states() is None:
            mask = torch.ones_like(raw) if mask is None else mask.long()
        elif mask is not None:
            like = torch.empty((*raw.shape, 1), dtype=self.encoder.dtype, device=raw.device)
            mask = hiding_mask(self.encoder.config, like, mask)
        self.pass_states(raw, add, attention_mask=mask)


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
        """States (B, L+1, T, D) and mask (B, T) bool of each modality that some row has; errors as of `pending`."""
        return {m: (stacked(states), mask) for m, (states, mask) in self.pending(inputs).items()}

    def pending(
        self, inputs: Mapping[str, torch.Tensor | None]
    ) -> dict[str, tuple[torch.Tensor | PendingStates, torch.Tensor]]:
        """The states of each modality that some row has, as the batch gives them, or yet to be computed, and their mask
        (B, T) bool.

        Raises:
            ValueError: there is an input that the encoders do not read, states are of another shape than this model
                mixes, or an example has no modality.
        """
        if unread := [name for name, value in inputs.items() if value is not None and name not in self.read]:
            raise ValueError(
                f"This model does not read {', '.join(unread)}, but {', '.join(sorted(self.read))}: use the processor "
                "saved with it."
            )
        found = {m: of_batch for m, encoder in self.items() if (of_batch := encoder.find(inputs)) is not None}
        masks = {m: mask for m, (_, mask) in found.items()}
        lengths = read_lengths(masks, [m for m in masks if self[m].reads_raw(inputs)]) if masks else {}
        self._require_a_modality([of_modality.by_row for of_modality in lengths.values()])
        states = {}
        for modality, encoder in self.items():
            if modality not in found:
                continue
            of_batch = encoder.of_batch(inputs, *found[modality], lengths[modality])
            if of_batch is not None:
                if isinstance(of_batch[0], torch.Tensor):
                    self._require_shape(modality, of_batch[0])
                states[modality] = of_batch
        return states

    def _require_a_modality(self, lengths: Sequence[Sequence[int]]) -> None:
        lacking = [row for row, of_row in enumerate(zip(*lengths, strict=True)) if not any(of_row)]
        if lacking or not lengths:
            whose = f"example {lacking}" if lengths else "every example"
            what, needed = ("Neither", "at least one of them") if len(self) > 1 else ("No", "it")
            raise ValueError(f"{what} {' nor '.join(self)} for {whose} of the batch: each needs {needed}.")

    def _require_shape(self, modality: str, states: torch.Tensor) -> None:
        expected = self.config.states_shape(modality)
        if (states.shape[1], states.shape[3]) != expected:
            raise ValueError(
                f"{modality} states of shape {tuple(states.shape)} do not fit: they must be (B, L+1, T, D) with L+1, "
                f"D = {expected}."
            )


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
