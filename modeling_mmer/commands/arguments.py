"""Options of the commands: command line over recipe over defaults (= the paper), and an unknown name is an error.

A recipe is a YAML mapping from option names to values. It is read as if its options stood before those of the command
line, so that the later one wins and both are checked by the same parser.
"""

import json
import math
import os
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, make_dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers import TrainingArguments

from .. import registration  # noqa: F401 - every command may load MMER by transformers' Auto classes
from ..configuration_mmer import MMERConfig
from ..corpora import FROM_DIRECTORY, PUBLISHED, BadRows, Corpus, Reading, load_corpora
from ..trainer_options import OF_COMMANDS, OF_OWN_METRICS, OPTIONS, refuse_data_parallel, refuse_options
from .help import MODEL_HELP, OptionParser
from .redaction import redacted


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
class StartArguments:
    """What a run starts from: two encoders and a new model over them, or a checkpoint."""

    _argument_group_name = "what training starts from"

    model: str | None = field(
        default=None,
        metadata={
            "help": "Fine-tune this checkpoint, a folder or a hub name: its encoders and its config, but for the "
            "options that are given."
        },
    )
    audio_encoder: str = field(
        default="openai/whisper-medium", metadata={"help": "Frozen audio encoder: a hub name or a folder."}
    )
    text_encoder: str = field(
        default="FacebookAI/roberta-large", metadata={"help": "Frozen text encoder: a hub name or a folder."}
    )
    self_contained: bool = field(
        default=False, metadata={"help": "Save the encoders' weights in the checkpoint instead of their names."}
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


# What the commands settle themselves, from the encoders and the corpus.
_NOT_OPTIONS = {
    *("auto_map", "custom_pipelines", "audio_config", "text_config"),
    *("audio_encoder_name_or_path", "text_encoder_name_or_path"),
    *("label_scale", "rope_parameters", "emotion_class_weights", "sentiment_class_weights"),
}
_PLAIN_TYPES = {
    float | int: float,
    list[str] | tuple[str, ...]: list[str],
    list[int] | tuple[int, ...] | None: list[int] | None,
}


def _default(value: object) -> dict[str, object]:
    return {"default_factory": partial(list, value)} if isinstance(value, tuple) else {"default": value}


ModelArguments = make_dataclass(
    "ModelArguments",
    [
        (f.name, _PLAIN_TYPES.get(f.type, f.type), field(**_default(f.default), metadata={"help": MODEL_HELP[f.name]}))
        for f in fields(MMERConfig)
        if f.name in MMERConfig.__annotations__ and f.name not in _NOT_OPTIONS
    ],
)
ModelArguments._argument_group_name = "the model"
ModelArguments.__doc__ = "The fields of [`MMERConfig`] that a run may choose, with its defaults."


def parse(
    argument_classes: tuple[type, ...], argv: list[str], prog: str, usage: str = "[recipe.yaml] [--option value …]"
) -> tuple:
    """Parse `[recipe.yaml] [--option value …]` into one instance of each class.

    `usage` stands above every error: argparse's own would list well over a hundred options there.

    Raises:
        SystemExit: an option is unknown or malformed, or the recipe cannot be read.
    """
    argv = [expanded(word) for word in with_recipe(argv, prog)]
    parser = OptionParser(argument_classes, prog, usage)
    try:
        *arguments, unknown = parser.parse_args_into_dataclasses(
            argv, return_remaining_strings=True, look_for_args_file=False
        )
    except (ValueError, ImportError) as error:  # TrainingArguments checks its values, and what they need
        parser.error(str(error))
    if unknown:
        parser.error(f"unknown options: {' '.join(redacted(unknown))} (--help lists all)")
    for group in arguments:
        for name, value in given(argv, group).items():
            if "" in (value if isinstance(value, list) else [value]):  # such as of a shell's variable that is not set
                parser.error(f"--{name} is empty: give a value, or leave the option out")
        keep_token_out(group)
    return tuple(arguments)


def keep_token_out(arguments: object) -> None:
    """Hand the hub's token on as the hub's library finds it, since the Trainer writes its arguments into each folder
    (`training_args.bin`), which may be pushed."""
    if (token := getattr(arguments, "hub_token", None)) is not None:
        os.environ["HF_TOKEN"] = token
        arguments.hub_token = None


def with_recipe(argv: list[str], prog: str) -> list[str]:
    """`[recipe.yaml] [--option value …]` with the recipe's options spelt out before those of the command line.

    Raises:
        SystemExit: the recipe cannot be read.
    """
    if argv and argv[0].endswith((".yaml", ".yml")):
        return recipe_options(Path(argv[0]).expanduser(), prog) + argv[1:]
    return argv


def given(argv: list[str], arguments: object) -> dict[str, object]:
    """The fields of parsed `arguments` that `argv` names, as against those that hold a default."""
    named = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    return {name: value for name, value in vars(arguments).items() if name in named or f"no_{name}" in named}


def recipe_options(recipe: Path, prog: str) -> list[str]:
    """A recipe as command-line options. `${NAME}` in a value is the environment variable of that name.

    `MMER_TEST_DATA`, where encoders and corpora outside the repository lie, defaults to a folder `shared` beside it.
    """
    try:
        options = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SystemExit(f"{prog}: cannot read the recipe {recipe}: {error}") from None
    if not isinstance(options, dict):
        raise SystemExit(f"{prog}: the recipe {recipe} must be a mapping from option names to values.")
    os.environ.setdefault("MMER_TEST_DATA", str(recipe.resolve().parent.parent.parent / "shared"))
    argv = []
    for name, value in options.items():
        if value is None:  # as if it were not there
            continue
        values = value if isinstance(value, list) else [value]
        if any(v is None for v in values):
            raise SystemExit(f"{prog}: the recipe {recipe} has an empty entry in the list of {name}.")
        argv += [f"--{name}", *map(_recipe_word, values)]
    return argv


def _recipe_word(value: object) -> str:
    """A recipe's value as on the command line; mappings in JSON, as options take them."""
    return expanded(os.path.expandvars(json.dumps(value) if isinstance(value, dict) else str(value)))


def expanded(word: str) -> str:
    """A word of the command line with the home folder for `~`, which shells leave in `--option=~/folder`."""
    name, equals, value = word.partition("=")
    if name.startswith("--") and equals:
        return f"{name}={os.path.expanduser(value)}"
    return os.path.expanduser(word)


def load(
    arguments: SourceArguments,
    emotion_labels: list[str],
    on_bad_rows: BadRows | Literal["keep"] = "stop",
    readings: Sequence[Reading] = (),
) -> Corpus:
    """The corpora that the options name, without bad rows unless these are to be kept; see `load_corpora`.

    Raises:
        ValueError: an option is malformed, or a corpus has faults; the message lists them.
    """
    scale, fold = arguments.label_scale, arguments.fold
    limits = [(scale or [])[i : i + 2] for i in range(0, len(scale or []), 2)]
    if scale is not None and not all(len(pair) == 2 and pair[0] < pair[1] for pair in limits or [[]]):
        raise ValueError(f"--label_scale takes the lowest and the highest value, not {' '.join(map(str, scale))}.")
    if fold is not None and not fold.isdecimal():
        raise ValueError(f"--fold takes a number from 1, or (in training) all, not {fold}.")
    return load_corpora(
        arguments.corpus,
        arguments.corpus_dir,
        emotion_labels=emotion_labels,
        label_map=pairs(arguments.label_map, "--label_map", blank=True),
        column_map=pairs(arguments.column_map, "--column_map", blank=True),
        label_scale=None if scale is None else tuple(scale),
        fold=None if fold is None else int(fold),
        on_bad_rows=on_bad_rows,
        readings=readings,
    )


def pairs(values: list[str] | None, option: str, blank: bool = False) -> dict[str, str]:
    """`["old=new", …]` → `{"old": "new", …}`; with `blank`, `old=` is a pair too."""
    split = [value.partition("=") for value in values or []]
    if wrong := ["".join(parts) for parts in split if not all(parts[: 2 if blank else 3])]:
        raise ValueError(f"{option} takes name=name, not {', '.join(wrong)}.")
    return {old.strip(): new.strip() for old, _, new in split}


@contextmanager
def bad_input_ends(prog: str, errors: tuple[type[Exception], ...] = (ValueError, OSError, StrictDataclassError)):
    """Turn the errors that bad input raises, or those given, into a message and exit status 1, without a traceback."""
    try:
        yield
    except errors as error:
        print(f"{prog}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
