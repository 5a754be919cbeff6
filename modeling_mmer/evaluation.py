"""From a split's predictions to one split of `results.json`: the figures of Table 1, and retrieval (Table 3)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .metrics import evaluate_predictions, retrieval_accuracy

RETRIEVAL_GROUP = 32  # N of Table 3


def judge(predictions: Mapping[str, Any], labels: Mapping[str, np.ndarray], dimensions: list[str]) -> dict[str, Any]:
    """One split's figures.

    Args:
        predictions: what `MMERTrainer` predicts: `audio`, `text`, `audio_text` → task → array, NaN in the rows that
            lack a modality; and, where the model has g, `embeds` → modality → (n, d).
        labels: task → (n,), −100 or NaN where not labelled.
        dimensions: the regression tasks.

    Returns:
        combination → figures, and `retrieval`; what was not measured is absent.
    """
    combinations = {name: of_tasks for name, of_tasks in predictions.items() if name != "embeds"}
    results = evaluate_predictions(combinations, labels, dimensions)
    if "embeds" in predictions:
        audio, text = predictions["embeds"]["audio"], predictions["embeds"]["text"]
        paired = ~(np.isnan(audio).any(-1) | np.isnan(text).any(-1))
        retrieval = retrieval_accuracy(audio[paired], text[paired], RETRIEVAL_GROUP)
        if retrieval is not None:
            results["retrieval"] = {"n": RETRIEVAL_GROUP, **retrieval}
    return results
