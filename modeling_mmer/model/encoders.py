"""The frozen encoders E^m behind one seam: raw inputs in, all L+1 states of the real frames or tokens out.

An utterance gets what it would get alone: a Whisper encoder sees either its 30 s window or, masked, the clip's own
frames; raw-waveform encoders (HuBERT, WavLM, wav2vec2) are masked, or run in groups of equal length where a group norm
over time would see the padding. Whatever the kind, the caller gets states (B, L+1, T, D) and a mask (B, T).

Shapes: B examples, L+1 encoder states (embedding output and every layer), T frames or tokens, D encoder width.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .hub_names import hub_options, loading_explained


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
        hidden = input_features if keep is None else input_features * keep
        hidden = nn.functional.gelu(self.conv1(hidden))
        hidden = hidden if keep is None else hidden * keep
        hidden = nn.functional.gelu(self.conv2(hidden)).transpose(1, 2)  # (B, ceil(frames / 2), D)
        hidden = hidden + self.embed_positions(torch.arange(hidden.shape[1], device=hidden.device))
        mask = None
        if attention_mask is not None:
            mask = create_bidirectional_mask(
                config=self.config, inputs_embeds=hidden, attention_mask=attention_mask[:, ::2].bool()
            )
        for layer in self.layers:
            hidden = layer(hidden, mask, **kwargs)
        return BaseModelOutput(last_hidden_state=self.layer_norm(hidden))


def is_whisper(config) -> bool:
    """Whether an audio encoder reads log-mel `input_features` (Whisper-shaped) rather than raw `input_values`."""
    return config.model_type == "whisper"


# ── states ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def audio_states(encoder, audio: torch.Tensor, mask: torch.Tensor, context: str) -> tuple[torch.Tensor, torch.Tensor]:
    """All states of the real frames of a batch in which every row has audio.

    Args:
        encoder: a frozen audio encoder, as built by the functions below.
        audio: `input_features` (B, mels, frames) or `input_values` (B, samples).
        mask: (B, frames) or (B, samples), non-zero where real; real frames come first.
        context: `full` or `trimmed`; raw-waveform encoders have no window and ignore it.

    Returns:
        states (B, L+1, T_a, D) and mask (B, T_a) bool.
    """
    longest = real_length(mask)
    audio, mask = audio[..., :longest].to(encoder.dtype), mask[:, :longest].bool()
    if not is_whisper(encoder.config):
        return waveform_states(encoder, audio, mask)
    window = 2 * encoder.config.max_source_positions
    if longest > window:
        raise ValueError(f"{longest} frames of audio do not fit the encoder's window of {window}: cut the audio first.")
    if context == "trimmed":
        return all_states(encoder, audio, attention_mask=mask), mask[:, ::2]
    states = all_states(encoder, fill_window(audio, mask, window))
    return states[:, :, : mask[:, ::2].shape[1]], mask[:, ::2]


def text_states(encoder, input_ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All states (B, L+1, T_t, D) and mask (B, T_t) of input_ids (B, T_t) in which every row has text."""
    longest, positions = real_length(mask), text_positions(encoder)
    if positions is not None and longest > positions:
        raise ValueError(
            f"A text of {longest} tokens does not fit the text encoder's {positions} positions: cut it, with "
            f"max_length={positions} (or less) and truncation=True where it is tokenized."
        )
    input_ids, mask = input_ids[:, :longest], mask[:, :longest]
    return all_states(encoder, input_ids, attention_mask=mask), mask.bool()


def text_positions(encoder) -> int | None:
    """The most tokens that a text encoder has positions for; None where it does not look them up in a table.

    RoBERTa's kind counts positions from behind the padding token's number, and says so in its table.
    """
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return None
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


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


def fill_window(features: torch.Tensor, mask: torch.Tensor, frames: int) -> torch.Tensor:
    """Log-mels (B, mels, T) continued by silence to Whisper's window, as its feature extractor would have done.

    That extractor floors a log-mel at 1e-10 and at 8 decades below the clip's loudest bin, then maps x to (x + 4) / 4.
    """
    loudest = features.masked_fill(~mask[:, None], -torch.inf).amax((1, 2), keepdim=True)
    silence = (loudest - 2.0).clamp(min=-1.5)
    features = torch.where(mask[:, None], features, silence)
    return torch.cat([features, silence.expand(-1, features.shape[1], frames - features.shape[2])], dim=2)


def waveform_states(encoder, samples: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """States of HuBERT-, WavLM- or wav2vec2-shaped encoders: masked, or in equal-length groups under a group norm."""
    samples = samples * mask
    lengths = mask.sum(-1)
    frames = encoder._get_feat_extract_output_lengths(lengths).long()
    if int(frames.min()) < 1:
        raise ValueError(
            f"A clip of {int(lengths.min())} samples is shorter than one frame of {encoder.config.model_type}."
        )
    frame_mask = torch.arange(int(frames.max()), device=mask.device) < frames[:, None]
    if encoder.config.feat_extract_norm != "group":
        return all_states(encoder, samples, attention_mask=mask.long()), frame_mask

    states = None
    for length in lengths.unique().tolist():
        rows = lengths == length
        group = all_states(encoder, samples[rows, :length])  # (B of this length, L+1, T, D)
        if states is None:
            states = group.new_zeros(len(samples), group.shape[1], frame_mask.shape[1], group.shape[3])
        states[rows, :, : group.shape[2]] = group
    return states, frame_mask


def all_states(encoder, inputs: torch.Tensor, **kwargs) -> torch.Tensor:
    """The L+1 states of a frozen encoder, stacked: (B, L+1, T, D)."""
    with torch.no_grad():
        return torch.stack(encoder(inputs, output_hidden_states=True, **kwargs).hidden_states, dim=1)


# ── building and loading ────────────────────────────────────────────────────────────────────────────────────────────


def build_audio_encoder(config) -> PreTrainedModel:
    """An audio encoder with the architecture of `config` and weights still to come (self-contained checkpoints)."""
    return MMERWhisperEncoder(config) if is_whisper(config) else AutoModel.from_config(config)


def build_text_encoder(config) -> PreTrainedModel:
    """A text encoder with the architecture of `config` and weights still to come (self-contained checkpoints)."""
    return without_pooler(AutoModel.from_config(config))


def load_audio_encoder(name_or_path: str, revision: str | None = None, **how) -> PreTrainedModel:
    """Load a pretrained audio encoder from a folder, or a commit of a hub name; of a Whisper checkpoint only the
    encoder is read.

    `how` are options of `from_pretrained`; without a `dtype` among them, weights are float32.

    Raises:
        ValueError: the checkpoint lacks a weight of the encoder.
        OSError: it has no weights.
    """
    config = AutoConfig.from_pretrained(name_or_path, revision=revision, **hub_options(how))
    if not is_whisper(config):
        return load_encoder(AutoModel, name_or_path, revision, **how)
    # Whole checkpoints have keys `model.encoder.*`, encoder-only ones `encoder.*`, saved encoders none of these.
    return load_encoder(MMERWhisperEncoder, name_or_path, revision, key_mapping={r"^(model\.)?encoder\.": ""}, **how)


def load_text_encoder(name_or_path: str, revision: str | None = None, **how) -> PreTrainedModel:
    """Load a pretrained text encoder likewise, without its pooler.

    Raises:
        ValueError: the checkpoint lacks a weight of the encoder.
        OSError: it has no weights.
    """
    return without_pooler(load_encoder(AutoModel, name_or_path, revision, **how))


def load_encoder(
    model_class, name_or_path: str, revision: str | None, dtype: torch.dtype = torch.float32, **how
) -> PreTrainedModel:
    how |= {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    with loading_reports_off(), loading_explained(name_or_path, revision):
        # decoders and language-model heads are unexpected here, and meant to be
        encoder, report = model_class.from_pretrained(name_or_path, revision=revision, **how)
    missing = {key for key in report["missing_keys"] if not key.startswith(("pooler.", "masked_spec_embed"))}
    misshapen = {key[0] for key in report["mismatched_keys"]}
    if missing or misshapen:
        some = ", ".join(sorted(missing | misshapen)[:5])
        raise ValueError(
            f"{name_or_path} does not hold the weights of a {encoder.config.model_type} encoder: {len(missing)} are "
            f"missing, {len(misshapen)} have another shape (such as {some})."
        )
    return encoder


def without_pooler(encoder: PreTrainedModel) -> PreTrainedModel:
    """Drop BERT's pooler: its output is not among the L+1 states, and many checkpoints hold no weights for it."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


@contextmanager
def loading_reports_off() -> Iterator[None]:
    """Without what `from_pretrained` warns of in this thread; other threads and the log's level are left alone."""
    here, log = threading.get_ident(), logging.getLogger("transformers.modeling_utils")

    def is_other(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno >= logging.ERROR

    log.addFilter(is_other)
    try:
        yield
    finally:
        log.removeFilter(is_other)


# ── pickling ────────────────────────────────────────────────────────────────────────────────────────────────────────

PackedEncoder = tuple[type[PreTrainedModel], PreTrainedConfig, dict[str, torch.Tensor]]


def pack_encoder(encoder: PreTrainedModel) -> PackedEncoder:
    """What an encoder is made of, to be pickled in its place.

    An encoder that has run holds closures (transformers' hooks, which record its states), wav2vec2 and its kind hold
    parametrized weights, and neither can be pickled.
    """
    return type(encoder), encoder.config, encoder.state_dict()


def unpack_encoder(packed: PackedEncoder) -> PreTrainedModel:
    """The encoder that was packed, frozen, on the device on which it was.

    Raises:
        ValueError: weights had been added to it, such as those of an adapter.
    """
    encoder_class, config, weights = packed
    some = next(iter(weights.values()))
    with loading_reports_off():
        encoder, report = encoder_class.from_pretrained(
            None, config=config, state_dict=weights, dtype=some.dtype, output_loading_info=True
        )
    if report["unexpected_keys"]:
        raise ValueError(f"The {config.model_type} encoder was changed: it has no {sorted(report['unexpected_keys'])}.")
    return without_pooler(encoder).to(some.device).requires_grad_(False).eval()
