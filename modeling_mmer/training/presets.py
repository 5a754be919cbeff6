"""Named sets of choices: what the options of the commands are before a recipe and the command line say otherwise.

`docs/accuracy.md` has the figures that `recommended` rests on.
"""

from typing import Any, Literal

Preset = Literal["paper", "recommended"]

PRESETS: dict[str, dict[str, Any]] = {
    # Table 1 to the letter, with what the paper leaves open as it is settled by the defaults.
    "paper": {
        "state_normalization": "none",
        "readout": "cls",
        "dropout": 0.5,
        "lambda_mae": 10.0,
        "mae_target": "original",
        "mae_loss_on": "all",
        "lambda_contrastive": 1.0,
        "contrastive_form": "softmax",
        "contrastive_projection": True,
        "ema_decay": 0.0,
    },
    # What wins on corpora of 500 to 5,000 utterances: conditioned states, pooled tokens beside CLS, averaged weights.
    "recommended": {
        "state_normalization": "standardize",
        "readout": "mean",
        "dropout": 0.3,
        "lambda_mae": 0.0,
        "lambda_contrastive": 0.0,
        "ema_decay": 0.99,
    },
}
