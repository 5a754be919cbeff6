"""Named sets of choices: what the options of the commands are before a recipe and the command line say otherwise.

`docs/accuracy.md` has the figures that `recommended` rests on.
"""

from typing import Any, Literal

Preset = Literal["paper", "recommended"]

PRESETS: dict[str, dict[str, Any]] = {
    # Table 1 to the letter, with what the paper leaves open as it is settled by the defaults.
    "paper": {
        "audio_context": "full",
        "state_normalization": "none",
        "readout": "cls",
        "state_heads": False,
        "dropout": 0.5,
        "soft_labels": False,
        "lambda_supervised": 1.0,
        "lambda_mae": 10.0,
        "mae_target": "original",
        "mae_target_norm": "none",
        "mae_loss_on": "all",
        "lambda_contrastive": 1.0,
        "contrastive_form": "softmax",
        "contrastive_projection": True,
    },
    # What did best over three small corpora: standardised states, attention-pooled tokens beside CLS, linear heads on
    # the states, and the two other terms in a form that does not cost accuracy; and the cheaper context, since it costs
    # none either. Votes are trained on where there are some, as published results advise; they were not compared here.
    "recommended": {
        "audio_context": "trimmed",
        "state_normalization": "standardize",
        "readout": "attention",
        "state_heads": True,
        "dropout": 0.3,
        "soft_labels": True,
        "lambda_mae": 1.0,
        "mae_loss_on": "masked",
        "mae_target_norm": "frame",
        "lambda_contrastive": 0.3,
        "contrastive_form": "cosine",
    },
}
