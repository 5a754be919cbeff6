"""All that the figures of a run depend on, as JSON: what is recorded of a run, and compared before it goes on.

Every option is a setting, but for those that say where something lies, what is shown, and how the work is shared out.
Data, encoders and a model to start from count by their content, so that they may lie elsewhere another time.
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

_PLACES = {
    *("corpus_dir", "feature_cache", "output_dir", "resume_from_checkpoint", "run_name", "project"),
    *("push_to_hub", "hub_model_id", "hub_token", "hub_strategy", "hub_private_repo", "hub_always_push"),
    *("hub_revision", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
}
_SHOWN = {
    *("logging_strategy", "logging_steps", "logging_first_step", "log_on_each_node", "logging_nan_inf_filter"),
    *("log_level", "log_level_replica", "disable_tqdm", "report_to", "include_num_input_tokens_seen", "debug"),
    "skip_memory_metrics",
}
_HOW = {  # the work is done; the last bits of a figure may depend on it
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_in_order"),
    *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "per_device_eval_batch_size"),
    *("eval_accumulation_steps", "torch_empty_cache_steps", "ddp_backend", "ddp_timeout", "ddp_bucket_cap_mb"),
    *("ddp_find_unused_parameters", "ddp_static_graph", "ddp_broadcast_buffers", "local_rank", "save_total_limit"),
    *("save_on_each_node", "enable_jit_checkpoint", "do_train", "do_eval", "do_predict"),
}
NO_SETTINGS = _PLACES | _SHOWN | _HOW


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
        content: of the corpus, with its text filled in (`content_digests`).
        fields_of_config: of the model that is trained.
        others: what else the run depends on.
    """
    told = {
        "mmer": __version__,
        "rows": {split: len(rows) for split, rows in corpus.splits.items()},
        "content": content,
        **others,
        **of_options(corpus_arguments),
        **of_options(run),
        **fields_of_config,  # which has the scale of the corpus, where the option may be blank
        "world_size": run.world_size,
    }
    if corpus_arguments.feature_cache is None:
        told["cache_dtype"] = None  # states are not kept, and so not rounded
    if corpus_arguments.transcribe is not None:
        told["transcribe"] = folder_name(corpus_arguments.transcribe)
    return json.loads(json.dumps(told, default=_plain))


def of_options(arguments: CorpusArguments | TrainingArguments) -> dict[str, Any]:
    return {f.name: getattr(arguments, f.name) for f in fields(arguments) if f.name not in NO_SETTINGS}


def identity(name: str, commit: str | None) -> str:
    """An encoder or a model by its content: the commit of a hub name, or the digest of a folder, which has none."""
    found = named_identity(name, commit)
    return f"sha256:{found[:16]}" if commit is None else found


def folder_name(name: str) -> str:
    """A hub name as it is, and of a folder its last part."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):  # accelerator_config
        return value.to_dict()
    return getattr(value, "value", str(value))  # of an enumeration
