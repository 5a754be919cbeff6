"""`--help`: options by subject. The most common options of transformers are explained, the others only listed."""

import argparse
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

MODEL_HELP = {  # fields of `MMERConfig`
    "audio_encoder_revision": "Branch, tag or commit of the audio encoder on the hub; the latest commit by default.",
    "text_encoder_revision": "Branch, tag or commit of the text encoder on the hub; the latest commit by default.",
    "audio_context": "Input of Whisper encoders: full pads each clip to 30 s; trimmed encodes only its own frames.",
    "audio_layers": "Hidden states of the audio encoder to mix, from 0 (embedding output) to L; all by default.",
    "text_layers": "Hidden states of the text encoder to mix; all by default.",
    "state_normalization": "standardize: standardise encoder states by training-split statistics (not in the paper).",
    "audio_stride": "Number of audio encoder frames per token (k in Eq. 2).",
    "hidden_size": "Width of the shared transformer.",
    "num_hidden_layers": "Number of layers of the shared transformer.",
    "num_attention_heads": "Number of attention heads per layer.",
    "intermediate_size": "Width of the feed-forward layers.",
    "dropout": "Dropout of the shared transformer and the heads.",
    "position_type": "Position encoding.",
    "max_position_embeddings": "Maximum sequence length, in tokens.",
    "layer_norm_eps": "Epsilon of the layer norms.",
    "initializer_range": "Standard deviation of the weight initialisation.",
    "readout": "Input of the task heads: z at CLS, alone (cls) or with pooled tokens of each modality.",
    "emotion_labels": "Emotion classes; other emotions count as unlabelled.",
    "sentiment_labels": "Sentiment classes.",
    "dimensions": "Dimensions to predict by regression.",
    "soft_labels": "Train on the distribution of raters' votes where rows have them (column emotion_votes).",
    "lambda_supervised": "Weight of the supervised loss. 0: train on the other two without labels, for --model later.",
    "mae_target": "Target of the masked autoencoder: the encoder states, or their projection (Table 2).",
    "mae_target_norm": "Normalise each frame or token of the target to mean 0 and deviation 1 (frame; an extension).",
    "mae_upsampling": "Upsampling from audio tokens to frames (Eq. 4).",
    "mae_loss_on": "Tokens that count in the loss of the masked autoencoder.",
    "mae_detach_target": "Stop the gradient at the target of the masked autoencoder.",
    "mask_ratio": "Fraction of the tokens of a modality that are masked.",
    "lambda_mae": "Weight of the masked autoencoder loss; 0 disables it.",
    "contrastive_form": "Form of the contrastive loss (Eq. 6); cosine, with a learned temperature, is an extension.",
    "contrastive_projection": "Apply the projection g before the contrastive loss.",
    "lambda_contrastive": "Weight of the contrastive loss; 0 disables it.",
}


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
