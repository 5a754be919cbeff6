"""The Trainer's options that would change nothing here, or break: they are refused before any work.

What `transformers` adds with a later version is not known here: the tests go through every field of `TrainingArguments`
and fail for one that nobody has looked at.
"""

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import TrainingArguments

Refused = Callable[[Any], bool]


def is_set(value: Any) -> bool:
    return value is not None and value is not False


def splits_batches(config: Any) -> bool:
    """Whether accelerate would deal out batches in another way than one of equally many rows for each process."""
    return bool(config and (config.split_batches or config.dispatch_batches or not config.even_batches))


# option → whether a value of it is refused, and why.
OPTIONS: dict[str, tuple[Refused, str]] = {
    "average_tokens_across_devices": (lambda value: not value, "the loss is always that of the global batch"),
    "use_liger_kernel": (is_set, "there are no Liger kernels for these layers"),
    "liger_kernel_config": (is_set, "there are no Liger kernels for these layers"),
    "use_cache": (is_set, "nothing is generated, so there are no keys and values to keep"),
    "neftune_noise_alpha": (is_set, "it adds noise to token embeddings, and these belong to a frozen encoder"),
    "include_num_input_tokens_seen": (
        lambda value: value not in ("no", False),
        "an utterance has audio frames beside tokens, or states from a cache; train_samples_per_second is logged",
    ),
    "label_names": (
        lambda value: value is not None and list(value) != ["labels"],
        "a batch holds its labels as `labels`, by task",
    ),
    "eval_do_concat_batches": (lambda value: not value, "the figures are those of all rows, and not of batches"),
    "eval_use_gather_object": (is_set, "predictions are tensors, and gathered as such"),
    "include_for_metrics": (
        lambda value: "inputs" in (value or ()),
        "a batch has no main input: each modality may be missing",
    ),
    "accelerator_config": (
        splits_batches,
        "leave out split_batches and dispatch_batches, and leave even_batches on: every process reads batches of its "
        "own, of equally many rows",
    ),
    "parallelism_config": (is_set, "use DDP, FSDP or DeepSpeed by a recipe of `accelerate launch`"),
}

# Options that a compute_metrics of the caller's own may need, and ours does not read.
OF_OWN_METRICS: dict[str, tuple[Refused, str]] = {
    "batch_eval_metrics": (is_set, "the figures need all rows at once"),
    "include_for_metrics": (bool, "the figures need nothing but predictions and labels"),
}

# Options of a script around the Trainer, which the commands are.
OF_COMMANDS: dict[str, tuple[Refused, str]] = {
    "do_train": (is_set, "`mmer train` trains, and `mmer eval` does not"),
    "do_predict": (is_set, "`mmer train` judges every labelled split at its end, and `mmer eval` writes predictions"),
    "prediction_loss_only": (is_set, "the figures need predictions"),
    "remove_unused_columns": (is_set, "the collator reads rows whole"),
    "enable_jit_checkpoint": (is_set, "a run that is told to end writes a checkpoint anyway"),
}


def refuse_options(args: TrainingArguments, table: dict[str, tuple[Refused, str]]) -> None:
    """Raise a ValueError for the first option of a table that has a refused value."""
    for name, (refused, why) in table.items():
        if hasattr(args, name) and refused(value := getattr(args, name)):
            raise ValueError(f"{name}={value} is not supported: {why}.")


def refuse_data_parallel(args: TrainingArguments) -> None:
    """Raise a ValueError where torch's DataParallel would be used."""
    if args.n_gpu > 1:
        raise ValueError(
            f"This process sees {args.n_gpu} GPUs, and a batch cannot be split among them by one process: start one "
            "process for each with `accelerate launch` (recipes/accelerate/ddp.yaml), or show it a single GPU with "
            "CUDA_VISIBLE_DEVICES=0."
        )


def refuse_model(model: nn.Module) -> None:
    """Raise a ValueError for a model of another kind, or one that PEFT has wrapped or put adapters into."""
    parts = [part for part in model.modules() if type(part).__module__.partition(".")[0] == "peft"]
    if parts or getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            "Adapters of PEFT (LoRA …) cannot be trained yet: the encoders run without gradient, so adapters in them "
            "would never learn. Give MMERTrainer the model without adapters (`model.unload()`)."
        )
    if not hasattr(model, "freeze_untrained"):
        raise ValueError(
            f"MMERTrainer trains MMERForEmotionRecognition or a model of `modeling_mmer.baselines`, not {type(model)}."
        )
