"""Options of the Trainer that have no effect here or do not work. They are refused before any work.

A test checks all fields of `TrainingArguments` and fails for new ones in later versions of transformers.
"""

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import TrainingArguments

Refused = Callable[[Any], bool]


def is_set(value: Any) -> bool:
    return value is not None and value is not False


def splits_batches(config: Any) -> bool:
    """Whether accelerate would not give each process its own batch of equally many rows."""
    return bool(config and (config.split_batches or config.dispatch_batches or not config.even_batches))


# option → (whether a value is refused, the reason)
OPTIONS: dict[str, tuple[Refused, str]] = {
    "average_tokens_across_devices": (lambda value: not value, "the loss is always that of the global batch"),
    "use_liger_kernel": (is_set, "there are no Liger kernels for these layers"),
    "liger_kernel_config": (is_set, "there are no Liger kernels for these layers"),
    "use_cache": (is_set, "nothing is generated, so there are no keys and values to keep"),
    "neftune_noise_alpha": (is_set, "it adds noise to token embeddings, and these belong to a frozen encoder"),
    "include_num_input_tokens_seen": (
        lambda value: value not in ("no", False),
        "utterances have audio frames besides tokens, or cached states; see train_samples_per_second instead",
    ),
    "label_names": (
        lambda value: value is not None and list(value) != ["labels"],
        "the labels of a batch are in `labels`, by task",
    ),
    "eval_do_concat_batches": (lambda value: not value, "figures are computed over all rows, not by batch"),
    "eval_use_gather_object": (is_set, "predictions are gathered as tensors"),
    "include_for_metrics": (
        lambda value: "inputs" in (value or ()),
        "a batch has no main input: each modality may be missing",
    ),
    "accelerator_config": (
        splits_batches,
        "leave out split_batches and dispatch_batches, and leave even_batches on: each process reads its own batches "
        "of equally many rows",
    ),
    "parallelism_config": (is_set, "use DDP, FSDP or DeepSpeed with a config file of `accelerate launch`"),
}

# Options that only a custom compute_metrics may need.
OF_OWN_METRICS: dict[str, tuple[Refused, str]] = {
    "batch_eval_metrics": (is_set, "the figures need all rows at once"),
    "include_for_metrics": (bool, "the figures need only predictions and labels"),
}

# Options for scripts that use the Trainer, which the commands replace.
OF_COMMANDS: dict[str, tuple[Refused, str]] = {
    "do_train": (is_set, "use `mmer train` to train and `mmer eval` to evaluate"),
    "do_predict": (is_set, "`mmer train` evaluates all labelled splits at the end, and `mmer eval` writes predictions"),
    "prediction_loss_only": (is_set, "the figures need predictions"),
    "remove_unused_columns": (is_set, "the collator needs all columns"),
    "enable_jit_checkpoint": (is_set, "a run that receives SIGTERM always writes a checkpoint"),
}


def refuse_options(args: TrainingArguments, table: dict[str, tuple[Refused, str]]) -> None:
    """Raise a ValueError for the first option with a refused value."""
    for name, (refused, why) in table.items():
        if hasattr(args, name) and refused(value := getattr(args, name)):
            raise ValueError(f"{name}={value} is not supported: {why}.")


def refuse_data_parallel(args: TrainingArguments) -> None:
    """Raise a ValueError if the Trainer would use torch's DataParallel."""
    if args.n_gpu > 1:
        raise ValueError(
            f"This process sees {args.n_gpu} GPUs, but DataParallel is not supported: start one process per GPU with "
            "`accelerate launch` (recipes/accelerate/ddp.yaml), or select a single GPU with CUDA_VISIBLE_DEVICES=0."
        )


def refuse_model(model: nn.Module) -> None:
    """Raise a ValueError for models of other classes and for models with PEFT adapters."""
    parts = [part for part in model.modules() if type(part).__module__.partition(".")[0] == "peft"]
    if parts or getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            "PEFT adapters (LoRA …) are not supported: the encoders run without gradient, so adapters in them would "
            "not be trained. Pass the model without adapters to MMERTrainer (`model.unload()`)."
        )
    if not hasattr(model, "freeze_untrained"):
        raise ValueError(
            f"MMERTrainer trains MMERForEmotionRecognition or a model of `modeling_mmer.baselines`, not {type(model)}."
        )
