"""`--help`: options by subject. Of transformers' own, those that most runs touch are explained, the others named."""

import argparse
from dataclasses import fields

from transformers import HfArgumentParser, TrainingArguments

from . import COMMANDS

DOCUMENTATION = "https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments"

# Of `TrainingArguments`, what is explained beside the options that a command declares itself.
COMMON = {
    *("max_steps", "gradient_accumulation_steps", "weight_decay", "max_grad_norm", "seed", "train_sampling_strategy"),
    *("bf16", "use_cpu", "dataloader_num_workers", "eval_steps", "save_steps", "resume_from_checkpoint"),
    *("report_to", "disable_tqdm", "push_to_hub", "hub_model_id"),
}

MODEL_HELP = {  # fields of `MMERConfig`
    "audio_encoder_revision": "Branch, tag or commit of the audio encoder on the hub; by default the newest commit.",
    "text_encoder_revision": "Branch, tag or commit of the text encoder on the hub; by default the newest commit.",
    "audio_context": "What Whisper-shaped encoders hear: the full window of 30 s, or a clip trimmed to its own length.",
    "audio_layers": "States of the audio encoder that are mixed, 0 (embedding output) to L; by default all.",
    "text_layers": "States of the text encoder that are mixed; by default all.",
    "state_normalization": "standardize: by statistics of the training utterances, an extension to the paper.",
    "audio_stride": "Frames of the audio encoder that become one token (k of Eq. 2).",
    "hidden_size": "Width of the shared transformer.",
    "num_hidden_layers": "Layers of the shared transformer.",
    "num_attention_heads": "Attention heads of a layer.",
    "intermediate_size": "Width of a layer's feed-forward part.",
    "dropout": "Dropout of the shared transformer and the heads.",
    "position_type": "How tokens know their place.",
    "max_position_embeddings": "Tokens of the longest sequence.",
    "layer_norm_eps": "Epsilon of the layer norms.",
    "initializer_range": "Standard deviation of new weights.",
    "readout": "What the task heads read: z at CLS; beside it the mean, or attention-pooled, tokens of each modality.",
    "emotion_labels": "Emotion classes; other emotions count as unlabelled.",
    "sentiment_labels": "Sentiment classes.",
    "dimensions": "Dimensions that are predicted as numbers.",
    "mae_target": "What the masked autoencoder predicts: the encoders' states, or their projection (Table 2).",
    "mae_target_norm": "frame: bring each frame or token of the target to mean 0 and deviation 1, an extension.",
    "mae_upsampling": "From audio tokens back to frames (Eq. 4).",
    "mae_loss_on": "Tokens that the masked autoencoder is judged on.",
    "mae_detach_target": "Send no gradient into the target of the masked autoencoder.",
    "mask_ratio": "Share of a modality's tokens that are masked.",
    "lambda_mae": "Weight of the masked autoencoder's loss; 0 leaves it out.",
    "contrastive_form": "Form of the contrastive loss (Eq. 6); cosine, with a learnt temperature, is an extension.",
    "contrastive_projection": "Compare through the projection g.",
    "lambda_contrastive": "Weight of the contrastive loss; 0 leaves it out.",
}


class OptionParser(HfArgumentParser):
    """A parser of dataclasses, each of which is a group of options.

    Args:
        argument_classes: with `_argument_group_name`.
        prog: `mmer COMMAND …`.
        usage: what follows it.
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
        others = {name for of_class in argument_classes for name in not_explained(of_class)}
        for action in self._actions:
            if action.dest in others or action.nargs == 0 and action.dest != "help":  # --no_x, which is --x false
                action.help = argparse.SUPPRESS
        if others:
            names = ", ".join(f"--{name}" for name in sorted(others))
            self.epilog = f"Also all other options of transformers' TrainingArguments ({DOCUMENTATION}): {names}."


def not_explained(arguments: type) -> set[str]:
    """The options that a command has from `TrainingArguments` and hardly ever needs."""
    if not issubclass(arguments, TrainingArguments):
        return set()
    return {f.name for f in fields(TrainingArguments)} - COMMON - arguments.__annotations__.keys()


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """One spelling of an option, what it takes in short, and no default where it is nothing."""

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
