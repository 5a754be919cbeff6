"""The weights of a pretrained encoder: loaded from a folder or the hub, and packed to be pickled."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from .hub_names import loading_explained


def load_encoder(
    model_class, name_or_path: str, revision: str | None, dtype: torch.dtype = torch.float32, **options
) -> PreTrainedModel:
    options |= {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    with loading_reports_off(), loading_explained(name_or_path, revision):
        # decoders and language-model heads are unexpected here, and meant to be
        encoder, report = model_class.from_pretrained(name_or_path, revision=revision, **options)
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
