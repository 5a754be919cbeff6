"""The settings of a run, everything that its figures depend on, as JSON. They are recorded, and compared on resuming.

All options are settings, except for paths, display, and the distribution of work. Data, encoders and the initial model
are identified by their content, so that they can be moved.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from .. import __version__
from ..corpora import Corpus
from ..features.cache import named_identity
from .arguments import CorpusArguments, RunArguments

_PATHS = {
    *("corpus_dir", "feature_cache", "output_dir", "resume_from_checkpoint", "run_name", "project"),
    *("push_to_hub", "hub_model_id", "hub_token", "hub_strategy", "hub_private_repo", "hub_always_push"),
    *("hub_revision", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
}
_DISPLAY = {
    *("logging_strategy", "logging_steps", "logging_first_step", "log_on_each_node", "logging_nan_inf_filter"),
    *("log_level", "log_level_replica", "disable_tqdm", "report_to", "include_num_input_tokens_seen", "debug"),
    *("skip_memory_metrics", "log_gradients"),
}
_EXECUTION = {  # may only change the last bits of a figure
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_in_order"),
    *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "per_device_eval_batch_size"),
    *("eval_accumulation_steps", "torch_empty_cache_steps", "ddp_backend", "ddp_timeout", "ddp_bucket_cap_mb"),
    *("ddp_find_unused_parameters", "ddp_static_graph", "ddp_broadcast_buffers", "local_rank", "save_total_limit"),
    *("save_on_each_node", "enable_jit_checkpoint", "do_train", "do_eval", "do_predict"),
}
NO_SETTINGS = _PATHS | _DISPLAY | _EXECUTION


def run_settings(
    corpus: Corpus,
    corpus_arguments: CorpusArguments,
    run: RunArguments,
    fields_of_config: Mapping[str, Any],
    content: Mapping[str, str],
    **others: Any,
) -> dict[str, Any]:
    """The settings of one run.

    Args:
        corpus: the corpus, with transcripts filled in.
        corpus_arguments, run: the options.
        fields_of_config: config fields of the model.
        content: digests of the corpus (`content_digests`).
        others: other settings.
    """
    settings = {
        "mmer": __version__,
        "rows": {split: len(rows) for split, rows in corpus.splits.items()},
        "content": content,
        **others,
        **option_values(corpus_arguments),
        **option_values(run),
        **fields_of_config,  # with the scale of the corpus, which may not be set as an option
        "world_size": run.world_size,
    }
    if corpus_arguments.feature_cache is None:
        settings["cache_dtype"] = None  # without a cache, states are not rounded
    if corpus_arguments.transcribe is not None:
        settings["transcribe"] = folder_name(corpus_arguments.transcribe)
    return json.loads(json.dumps(settings, default=_plain))


def option_values(arguments: CorpusArguments | TrainingArguments) -> dict[str, Any]:
    return {f.name: getattr(arguments, f.name) for f in fields(arguments) if f.name not in NO_SETTINGS}


def identity(name: str, commit: str | None) -> str:
    """The content identifier of an encoder or model: the commit of a hub name, or a digest of a folder."""
    found = named_identity(name, commit)
    return f"sha256:{found[:16]}" if commit is None else found


def folder_name(name: str) -> str:
    """A hub name, or the last part of a folder's path."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):  # accelerator_config
        return value.to_dict()
    return getattr(value, "value", str(value))  # enumerations
