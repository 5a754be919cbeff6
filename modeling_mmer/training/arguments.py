"""The options of a run: its corpora, their preprocessing, and training."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import TrainingArguments
from transformers.hf_argparser import HfArg

from ..corpora import FROM_DIRECTORY, PUBLISHED
from .trainer_options import OF_COMMANDS, OF_OWN_METRICS, OPTIONS, refuse_data_parallel, refuse_options


@dataclass
class SourceArguments:
    """Which corpora to load, and how to read their columns and labels."""

    _argument_group_name = "the corpus"

    corpus: list[str] = HfArg(
        help="Names of corpora: demo; "
        + ", ".join(sorted(PUBLISHED | FROM_DIRECTORY))
        + " (these need --corpus_dir); or hf:NAME, a data set that `datasets` can load."
    )
    corpus_dir: list[str] | None = HfArg(
        default=None, help="Folder (or metadata file) of each corpus that needs one, in order."
    )
    label_map: list[str] | None = HfArg(
        default=None,
        help="Emotions to rename, as old=new (calm=neutral). calm= makes rows unlabelled. Prefix the corpus to "
        "apply it to one of several: ravdess:calm=neutral.",
    )
    column_map: list[str] | None = HfArg(
        default=None,
        help="Columns with other names, as field=column (text=to_translate). text= ignores a field. Prefix the "
        "folder name to apply it to one of several corpora: spoken:audio=",
    )
    label_scale: list[float] | None = HfArg(
        default=None,
        help="Lowest and highest value of the dimensions in a folder or data set, by default 1 7. Give one "
        "pair, or one per folder in order.",
    )
    fold: str | None = HfArg(
        default=None,
        help="Fold of a corpus with cross-validation, counted from 1; or all (the default for training): one model "
        "per fold, and the mean of their figures.",
    )
    speaker_folds: int | None = HfArg(
        default=None,
        help="Folds by speaker of a folder or data set, in place of its splits.",
    )

    def __post_init__(self):
        if self.speaker_folds is not None and self.speaker_folds < 2:
            raise ValueError(f"--speaker_folds must be at least 2, not {self.speaker_folds}.")


@dataclass
class CorpusArguments(SourceArguments):
    """Which corpora to load, and how to preprocess them."""

    on_bad_rows: Literal["stop", "skip"] = HfArg(
        default="stop",
        help="Rows that cannot be used (broken recordings, labels off the scale, unknown splits …). stop: list "
        "them and end with an error. skip: leave out the whole rows and count them. All are listed in bad_rows.csv "
        "in the output folder.",
    )
    transcribe: str | None = HfArg(
        default=None,
        help="Speech recogniser that transcribes rows without text, a hub name or a folder. Transcripts are "
        "stored in the corpus's folder.",
    )
    transcribe_rows: Literal["missing", "all"] | None = HfArg(
        default=None,
        help="Rows to transcribe. missing (the default): rows without text. all: all rows with audio, replacing "
        "their reference text.",
    )
    feature_cache: str | None = HfArg(
        default=None, help="Folder to cache encoder states in, so that each utterance is encoded only once."
    )
    cache_dtype: Literal["float16", "bfloat16"] = HfArg(default="float16", help="Precision of the cached states.")
    cache_layers: list[int] | None = HfArg(
        default=None,
        help="Hidden states to cache and mix, from 0 (embedding output) to L, for both encoders. To choose them "
        "per encoder, use audio_layers and text_layers.",
    )


@dataclass
class RunArguments(TrainingArguments):
    """`TrainingArguments` with other defaults. The paper gives no learning rate, schedule or batch size."""

    _argument_group_name = "the run"

    output_dir: str = HfArg(default="runs/mmer", help="Folder for checkpoints, results and the report.")
    learning_rate: float = HfArg(default=1e-3, help="Peak learning rate of AdamW.")
    lr_scheduler_type: str = HfArg(default="cosine", help="Learning-rate schedule.")
    warmup_steps: float = HfArg(default=0.1, help="Warm-up steps; a value below 1 is a fraction of all steps.")
    num_train_epochs: float = HfArg(default=8, help="Number of epochs.")
    per_device_train_batch_size: int = HfArg(default=32, help="Training batch size per device.")
    max_frames_per_batch: int | None = HfArg(
        default=None,
        help="Maximum padded size of a training batch per device (rows times the longest row), in encoder "
        "frames (50 per second, with any audio_context) plus text tokens. Replaces per_device_train_batch_size.",
    )
    per_device_eval_batch_size: int = HfArg(default=32, help="Evaluation batch size per device.")
    eval_strategy: str = HfArg(default="epoch", help="When to evaluate on the validation split.")
    save_strategy: str = HfArg(default="epoch", help="When to save a checkpoint.")
    save_total_limit: int | None = HfArg(default=1, help="Number of checkpoints to keep, besides the best.")
    load_best_model_at_end: bool = HfArg(default=True, help="Load the best checkpoint at the end of training.")
    metric_for_best_model: str | None = HfArg(
        default="score", help="Validation metric that selects the best checkpoint. score: mean of all UA and CCC."
    )
    greater_is_better: bool | None = HfArg(default=True, help="Whether a higher value of this metric is better.")
    logging_steps: float = HfArg(default=20, help="Number of steps between two log lines.")
    dataloader_pin_memory: bool = HfArg(
        default_factory=torch.cuda.is_available, help="Pin batches in memory, for a GPU."
    )
    remove_unused_columns: bool = HfArg(default=False, help="Must be false: the collator needs all columns.")
    early_stopping_patience: int | None = HfArg(
        default=None, help="Stop after this many evaluations without improvement."
    )
    class_weights: Literal["none", "balanced"] = HfArg(
        default="none", help="balanced: weight the cross-entropies by inverse class frequency in the training split."
    )
    log_gradients: int = HfArg(
        default=0,
        help="Every so many steps, measure the gradient of each loss term on the shared transformer, and its cosine "
        "with that of the supervised term (logged as grad_norm_… and grad_cosine_…). 0: never.",
    )
    repeat_corpora: list[str] | None = HfArg(
        default=None,
        help="Corpora whose training rows come several times per epoch, as corpus=n (ravdess=3): small ones that a "
        "large one would outweigh.",
    )

    def __post_init__(self):
        if self.do_eval and self.eval_strategy == "no":
            raise ValueError("--do_eval has no effect: set --eval_strategy to choose when to evaluate.")
        super().__post_init__()
        refuse_options(self, OPTIONS | OF_OWN_METRICS | OF_COMMANDS)
        refuse_data_parallel(self)
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 <= self.learning_rate < math.inf:
            raise ValueError(f"--learning_rate must be a number of at least 0, not {self.learning_rate}.")
        if self.log_gradients < 0:
            raise ValueError(f"--log_gradients must be at least 0, not {self.log_gradients}.")
        if self.max_frames_per_batch is None:
            return
        if self.max_frames_per_batch < 1:
            raise ValueError(f"--max_frames_per_batch must be at least 1, not {self.max_frames_per_batch}.")
        if self.train_sampling_strategy not in ("random", "group_by_length"):
            raise ValueError(
                "--max_frames_per_batch requires --train_sampling_strategy random or group_by_length, not "
                f"{self.train_sampling_strategy}."
            )
