"""What a run is given: its corpora, what is made of them, and how it is trained. The commands take them as options."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import TrainingArguments

from ..corpora import FROM_DIRECTORY, PUBLISHED
from .trainer_options import OF_COMMANDS, OF_OWN_METRICS, OPTIONS, refuse_data_parallel, refuse_options


@dataclass
class SourceArguments:
    """Which corpora are read, and how their columns and labels are understood."""

    _argument_group_name = "the corpus"

    corpus: list[str] = field(
        metadata={
            "help": "Corpora by name: demo; "
            + ", ".join(sorted(PUBLISHED | FROM_DIRECTORY))
            + ", which are read from a directory; or hf:NAME, a data set that `datasets` can load."
        }
    )
    corpus_dir: list[str] | None = field(
        default=None, metadata={"help": "A folder (or metadata file) for each corpus that is read from one, in order."}
    )
    label_map: list[str] | None = field(
        default=None,
        metadata={
            "help": "Emotions to rename, as old=new (calm=neutral); calm= leaves rows unlabelled; of one corpus among "
            "several, ravdess:calm=neutral."
        },
    )
    column_map: list[str] | None = field(
        default=None,
        metadata={
            "help": "Columns with unusual names, as field=column (text=to_translate); text= leaves a field unread. For "
            "one corpus among several, its folder's name first: spoken:audio="
        },
    )
    label_scale: list[float] | None = field(
        default=None,
        metadata={
            "help": "Lowest and highest value of the dimensions of a folder or data set of your own, by default 1 7; "
            "one pair, or one for each of them in order."
        },
    )
    fold: str | None = field(
        default=None,
        metadata={
            "help": "For a corpus whose protocol is a cross-validation (iemocap): one fold, counted from 1, or all "
            "(the default of training), which trains a model for each and gives the mean of their figures."
        },
    )


@dataclass
class CorpusArguments(SourceArguments):
    """What is read, and what is made of it and kept."""

    on_bad_rows: Literal["stop", "skip"] = field(
        default="stop",
        metadata={
            "help": "What becomes of rows that cannot be used (broken recordings, labels off the scale, unknown "
            "splits …): stop lists them all and ends; skip leaves them out, counted and named. A row is bad as a "
            "whole. bad_rows.csv in the output folder has all of them."
        },
    )
    transcribe: str | None = field(
        default=None,
        metadata={
            "help": "Hear the text of rows that have none with this speech recogniser, a hub name or a folder; "
            "transcripts are kept in the corpus's folder."
        },
    )
    transcribe_rows: Literal["missing", "all"] | None = field(
        default=None,
        metadata={
            "help": "Rows to transcribe: those without text (missing, which is what happens), or every row with "
            "audio, so that reference text is replaced (all)."
        },
    )
    feature_cache: str | None = field(
        default=None, metadata={"help": "A folder that keeps encoder states: each utterance is then encoded once."}
    )
    cache_dtype: Literal["float16", "bfloat16"] = field(
        default="float16", metadata={"help": "Precision of the kept states."}
    )
    cache_layers: list[int] | None = field(
        default=None,
        metadata={
            "help": "Keep and mix these encoder states only, 0 (embedding output) to L, for both modalities; "
            "audio_layers and text_layers choose for one."
        },
    )


@dataclass
class RunArguments(TrainingArguments):
    """`TrainingArguments` with the defaults of this task; the paper gives no learning rate, schedule or batch size."""

    _argument_group_name = "the run"

    output_dir: str = field(default="runs/mmer", metadata={"help": "Where checkpoints, results and the report go."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of AdamW."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning-rate schedule."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps of warm-up; below 1, their share of all."})
    num_train_epochs: float = field(default=8, metadata={"help": "Passes over the training split."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Rows of a batch on each device."})
    max_frames_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Cap each training batch of a device by its padded size, rows times the longest row, in place of "
            "per_device_train_batch_size: as many rows as fit. In encoder frames (50 a second, whatever "
            "audio_context says) and text tokens."
        },
    )
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "Rows of a batch on each device."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When the validation split is judged."})
    save_strategy: str = field(default="epoch", metadata={"help": "When a checkpoint is written."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints kept, beside the best."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "End with the best checkpoint."})
    metric_for_best_model: str | None = field(
        default="score", metadata={"help": "What best means, on the validation split; score: mean of UA and CCCs."}
    )
    greater_is_better: bool | None = field(default=True, metadata={"help": "Whether more of it is better."})
    logging_steps: float = field(default=20, metadata={"help": "Steps between two lines of the log."})
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Page-locked batches, for a GPU."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay false: the collator reads rows."})
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without a better one."}
    )
    class_weights: Literal["none", "balanced"] = field(
        default="none",
        metadata={"help": "Weigh the cross-entropies by inverse class frequency in the training split."},
    )

    def __post_init__(self):
        if self.do_eval and self.eval_strategy == "no":
            raise ValueError("--do_eval changes nothing: --eval_strategy says when the validation split is judged.")
        super().__post_init__()
        refuse_options(self, OPTIONS | OF_OWN_METRICS | OF_COMMANDS)
        refuse_data_parallel(self)
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 <= self.learning_rate < math.inf:
            raise ValueError(f"--learning_rate must be a number of at least 0, not {self.learning_rate}.")
        if self.max_frames_per_batch is None:
            return
        if self.max_frames_per_batch < 1:
            raise ValueError(f"--max_frames_per_batch takes a number of frames, not {self.max_frames_per_batch}.")
        if self.train_sampling_strategy not in ("random", "group_by_length"):
            raise ValueError(
                "--max_frames_per_batch goes with --train_sampling_strategy random or group_by_length, not "
                f"{self.train_sampling_strategy}."
            )
