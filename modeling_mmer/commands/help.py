"""`--help`: options by subject. The most common options of transformers are explained, the others only listed."""

import argparse
import inspect
import re
from dataclasses import fields

from transformers import HfArgumentParser, TrainingArguments

from . import COMMANDS

DOCUMENTATION = "https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments"

# The fields of `TrainingArguments` that are explained, besides those that a command redefines.
COMMON = {
    *("max_steps", "gradient_accumulation_steps", "weight_decay", "max_grad_norm", "seed", "train_sampling_strategy"),
    *("bf16", "use_cpu", "dataloader_num_workers", "eval_steps", "save_steps", "resume_from_checkpoint"),
    *("report_to", "disable_tqdm", "push_to_hub", "hub_model_id"),
}


def field_help(documented: type) -> dict[str, str]:
    """Field → its text under `Args:` in the docstring of a class."""
    entries = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", inspect.getdoc(documented) or "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


class OptionParser(HfArgumentParser):
    """A parser that shows each dataclass as a group of options.

    Args:
        argument_classes: dataclasses with an `_argument_group_name`.
        prog: `mmer COMMAND`.
        usage: the rest of the usage line.
    """

    def __init__(self, argument_classes: tuple[type, ...], prog: str, usage: str):
        super().__init__(
            argument_classes,
            prog=prog,
            usage=f"{prog} {usage}",
            description=COMMANDS.get(prog.split()[1], "").capitalize() if " " in prog else None,
            allow_abbrev=False,
            formatter_class=Help,
        )
        others = {name for arguments in argument_classes for name in unexplained_options(arguments)}
        for action in self._actions:
            if action.dest in others or action.nargs == 0 and action.dest != "help":  # --no_x, the same as --x false
                action.help = argparse.SUPPRESS
        if others:
            names = ", ".join(f"--{name}" for name in sorted(others))
            self.epilog = f"Also all other options of transformers' TrainingArguments ({DOCUMENTATION}): {names}."


def unexplained_options(arguments: type) -> set[str]:
    """The inherited options of `TrainingArguments` that are rarely needed."""
    if not issubclass(arguments, TrainingArguments):
        return set()
    return {f.name for f in fields(TrainingArguments)} - COMMON - arguments.__annotations__.keys()


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows one spelling of each option with a short placeholder, and no default if it is None or empty."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=32)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, []) else super()._get_help_string(action)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.dest == "help":
            return super()._format_action_invocation(action)
        value = "N" if action.type in (int, float) else "VALUE"
        value = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else value
        value = {"?": "", "+": f"{value} …"}.get(action.nargs, value)
        return f"{action.option_strings[0]} {value}".strip()
