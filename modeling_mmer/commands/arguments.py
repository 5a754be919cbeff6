"""Options of the commands. The command line overrides the recipe, the recipe overrides the preset, and the preset the
defaults (the paper's).

A recipe is a YAML mapping from option names to values. Its options are parsed as if they came first on the command
line: the same parser checks both, and an unknown option is an error.
"""

import argparse
import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, fields, make_dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import yaml
from huggingface_hub.errors import StrictDataclassError
from transformers.hf_argparser import HfArg

from .. import registration  # noqa: F401 - commands load MMER through transformers' Auto classes
from ..model.configuration_mmer import MMERConfig
from ..model.tasks import CLASS_TASKS
from ..redaction import redacted
from ..training.presets import PRESETS, Preset
from .help import OptionParser, field_help


@dataclass
class EncoderArguments:
    """The two pretrained encoders of a new model."""

    audio_encoder: str = HfArg(default="openai/whisper-medium", help="Frozen audio encoder: a hub name or a folder.")
    text_encoder: str = HfArg(default="FacebookAI/roberta-large", help="Frozen text encoder: a hub name or a folder.")


@dataclass
class StartArguments(EncoderArguments):
    """What training starts from: a new model on two pretrained encoders, or a checkpoint."""

    _argument_group_name = "the initial model"

    model: str | None = HfArg(
        default=None,
        help="Checkpoint to fine-tune, a folder or a hub name. Its encoders and config are kept, except for "
        "options that you set.",
    )
    self_contained: bool = HfArg(
        default=False, help="Save the encoders' weights in the checkpoint instead of their names."
    )
    dtype: Literal["float32", "auto", "bfloat16"] = HfArg(
        default="float32",
        help="Precision of the frozen encoders; all that is trained stays in float32. auto: bfloat16 where the device "
        "has it in hardware, otherwise float32.",
    )
    preset: Preset = HfArg(
        default="recommended",
        help="Options to start from, which the recipe and the command line override: the recommended ones, or "
        "those of Table 1 of the paper. It has no effect with --model, which keeps the options of its checkpoint.",
    )


# Set by the commands, from the encoders and the corpus.
_NOT_OPTIONS = {
    *("auto_map", "custom_pipelines", "modalities", "audio_config", "text_config"),
    *("audio_encoder_name_or_path", "text_encoder_name_or_path"),
    *("label_scale", "rope_parameters", *(f"{task}_class_weights" for task in CLASS_TASKS)),
}
_PLAIN_TYPES = {
    float | int: float,
    list[str] | tuple[str, ...]: list[str],
    list[int] | tuple[int, ...] | None: list[int] | None,
}


def _default(value: object) -> dict[str, object]:
    return {"default_factory": partial(list, value)} if isinstance(value, tuple) else {"default": value}


_HELP = field_help(MMERConfig)
ModelArguments = make_dataclass(
    "ModelArguments",
    [
        (f.name, _PLAIN_TYPES.get(f.type, f.type), HfArg(**_default(f.default), help=_HELP.get(f.name)))
        for f in fields(MMERConfig)
        if f.name in MMERConfig.__annotations__ and f.name not in _NOT_OPTIONS
    ],
)
ModelArguments._argument_group_name = "the model"
ModelArguments.__doc__ = "The fields of [`MMERConfig`] that can be set as options, with its defaults."


def parse(
    argument_classes: tuple[type, ...], argv: list[str], prog: str, usage: str = "[recipe.yaml] [--option value …]"
) -> tuple:
    """Parse `[recipe.yaml] [--option value …]` into one instance of each class.

    Args:
        usage: printed above errors. The usage that argparse generates would list more than a hundred options.

    Raises:
        SystemExit: an option is unknown or invalid, or the recipe cannot be read.
    """
    argv = [expand_home(word) for word in expand_recipe(argv, prog)]
    parser = OptionParser(argument_classes, prog, usage)
    parser.set_defaults(**preset_options(argv, argument_classes))
    try:
        *arguments, unknown = parser.parse_args_into_dataclasses(
            argv, return_remaining_strings=True, look_for_args_file=False
        )
    except (ValueError, ImportError) as error:  # from TrainingArguments: invalid values or missing packages
        parser.error(str(error))
    if unknown:
        parser.error(f"unknown options: {' '.join(redacted(unknown))} (--help lists all)")
    for group in arguments:
        for name, value in explicit_options(argv, group).items():
            if "" in (value if isinstance(value, list) else [value]):  # for example from an unset shell variable
                parser.error(f"--{name} is empty: give a value, or leave the option out")
        move_token_to_environment(group)
    return tuple(arguments)


def preset_options(argv: list[str], argument_classes: tuple[type, ...]) -> dict[str, object]:
    """The options of the preset in `argv`, or of the command's default preset; empty for commands without presets. The
    parser refuses names that are not presets."""
    options = {f.name: f.default for argument_class in argument_classes for f in fields(argument_class)}
    if "preset" not in options:
        return {}
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--preset", nargs="?", default=options["preset"])
    preset = PRESETS.get(finder.parse_known_args(argv)[0].preset, {})
    return {name: value for name, value in preset.items() if name in options}


def move_token_to_environment(arguments: object) -> None:
    """Move `hub_token` into `HF_TOKEN`, where huggingface_hub finds it. The Trainer saves its arguments in every output
    folder (`training_args.bin`), which may be pushed."""
    if (token := getattr(arguments, "hub_token", None)) is not None:
        os.environ["HF_TOKEN"] = token
        arguments.hub_token = None


def expand_recipe(argv: list[str], prog: str) -> list[str]:
    """Replace the recipe in `[recipe.yaml] [--option value …]` by its options.

    Raises:
        SystemExit: the recipe cannot be read.
    """
    if argv and argv[0].endswith((".yaml", ".yml")):
        return recipe_options(Path(argv[0]).expanduser(), prog) + argv[1:]
    return argv


def explicit_options(argv: list[str], arguments: object) -> dict[str, object]:
    """The fields of parsed `arguments` that `argv` sets explicitly."""
    named = {word[2:].partition("=")[0].replace("-", "_") for word in argv if word.startswith("--")}
    return {name: value for name, value in vars(arguments).items() if name in named or f"no_{name}" in named}


def recipe_options(recipe: Path, prog: str) -> list[str]:
    """The options of a recipe as command-line words. `${NAME}` in a value is replaced by that environment variable.

    `MMER_TEST_DATA`, the folder of encoders and corpora that are not part of the repository, defaults to `shared` next
    to the repository.
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
        if value is None:  # the same as leaving the option out
            continue
        values = value if isinstance(value, list) else [value]
        if any(v is None for v in values):
            raise SystemExit(f"{prog}: the recipe {recipe} has an empty entry in the list of {name}.")
        argv += [f"--{name}", *map(_recipe_value, values)]
    return argv


def _recipe_value(value: object) -> str:
    """A value of a recipe as it is written on the command line. Mappings are written as JSON."""
    return expand_home(os.path.expandvars(json.dumps(value) if isinstance(value, dict) else str(value)))


def expand_home(word: str) -> str:
    """Expand `~` to the home folder, also in `--option=~/folder`, where shells do not."""
    name, equals, value = word.partition("=")
    if name.startswith("--") and equals:
        return f"{name}={os.path.expanduser(value)}"
    return os.path.expanduser(word)


@contextmanager
def exit_on_bad_input(prog: str, errors: tuple[type[Exception], ...] = (ValueError, OSError, StrictDataclassError)):
    """Turn `errors`, those of invalid input, into a message and exit status 1, without a traceback."""
    try:
        yield
    except errors as error:
        print(f"{prog}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
