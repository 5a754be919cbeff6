"""Options of the commands: command line over recipe over preset over defaults (= the paper), and an unknown name is an
error.

A recipe is a YAML mapping from option names to values. It is read as if its options stood before those of the command
line, so that the later one wins and both are checked by the same parser.
"""

import argparse
import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, make_dataclass
from functools import partial
from pathlib import Path

import yaml
from huggingface_hub.errors import StrictDataclassError

from .. import registration  # noqa: F401 - every command may load MMER by transformers' Auto classes
from ..model.configuration_mmer import MMERConfig
from ..redaction import redacted
from ..training.presets import PRESETS, Preset
from .help import MODEL_HELP, OptionParser


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
    preset: Preset = field(
        default="recommended",
        metadata={
            "help": "Choices that stand where the recipe and the command line say nothing: what wins on small corpora "
            "(recommended), or Table 1 of the paper."
        },
    )


# What the commands settle themselves, from the encoders and the corpus.
_NOT_OPTIONS = {
    *("auto_map", "custom_pipelines", "modalities", "audio_config", "text_config"),
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
    parser.set_defaults(**preset_of(argv, argument_classes))
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


def preset_of(argv: list[str], argument_classes: tuple[type, ...]) -> dict[str, object]:
    """The options of the preset that `argv` names, or of the command's own; of a command without presets, none. What
    is no preset is left for the parser to refuse."""
    declared = [f.default for of_class in argument_classes for f in fields(of_class) if f.name == "preset"]
    if not declared:
        return {}
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--preset", nargs="?", default=declared[0])
    return PRESETS.get(finder.parse_known_args(argv)[0].preset, {})


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


@contextmanager
def bad_input_ends(prog: str, errors: tuple[type[Exception], ...] = (ValueError, OSError, StrictDataclassError)):
    """Turn the errors that bad input raises, or those given, into a message and exit status 1, without a traceback."""
    try:
        yield
    except errors as error:
        print(f"{prog}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
