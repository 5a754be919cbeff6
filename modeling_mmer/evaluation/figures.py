"""Figures of a split from its predictions: the metrics of Table 1 and retrieval (Table 3), as in `results.json`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from torch import nn
from transformers import Trainer

from ..model.configuration_mmer import COMBINATIONS
from .metrics import confusion_matrix, evaluate_predictions, flatten, per_class_recall, retrieval_accuracy, score

RETRIEVAL_GROUP = 32  # N of Table 3


def compute_figures(
    predictions: Mapping[str, Any], labels: Mapping[str, np.ndarray], dimensions: list[str]
) -> dict[str, Any]:
    """The figures of one split.

    Args:
        predictions: the predictions of `MMERTrainer`: combination (`audio`, `text`, `audio_text`) → task → array, NaN
            in rows that lack a modality; and, if the model has g, `embeds` → modality → (n, d).
        labels: task → (n,), −100 or NaN = not labelled.
        dimensions: the regression tasks.

    Returns:
        combination → figures, and `retrieval`. Figures that cannot be measured are absent.
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


def figures_of(predictions: Mapping[str, Any], labels: Mapping[str, np.ndarray], dimensions: list[str]) -> dict:
    """The figures as a Trainer logs them: `audio_ua`, `text_valence_ccc`, …, and `score`, the mean of UA and CCC."""
    results = compute_figures(predictions, labels, dimensions)
    overall = score(results)
    return flatten(results) | ({} if overall is None else {"score": overall})


def measurable(rows: Dataset, model: nn.Module) -> set[str] | None:
    """The names of the figures that an evaluation on these rows gives, found with predictions that are all zero.

    None if they cannot be determined: the rows are not a `Dataset`, or have no label column.
    """
    config, columns = model.config, getattr(rows, "column_names", None) or ()
    classes = {"emotion": config.emotion_labels, "sentiment": config.sentiment_labels}
    labels = {task: class_indices(rows[task], classes[task]) for task in classes if task in columns}
    for dimension in config.dimensions:
        if dimension in columns:
            labels[dimension] = np.array([np.nan if v is None else v for v in rows[dimension]], dtype=float)
    if not labels:
        return None
    lacks = {modality: lacks_modality(rows, modality) for modality in COMBINATIONS["audio_text"]}
    combinations = model.combinations() if hasattr(model, "combinations") else tuple(COMBINATIONS)
    predictions: dict[str, Any] = {}
    for name in combinations:
        void = np.where(np.any([lacks[modality] for modality in COMBINATIONS[name]], axis=0), np.nan, 0.0)
        predictions[name] = {
            task: np.repeat(void[:, None], len(classes[task]), axis=1) if task in classes else void for task in labels
        }
    if getattr(model, "contrastive_head", None) is not None:
        predictions["embeds"] = {m: np.where(lacking_m, np.nan, 0.0)[:, None] for m, lacking_m in lacks.items()}
    return set(figures_of(predictions, labels, config.dimensions))


def class_indices(values: list[str | int | None], classes: list[str]) -> np.ndarray:
    """Labels, as names or indices → indices (n,), −100 where not labelled or not one of the classes."""
    indices = {name: index for index, name in enumerate(classes)}
    return np.array([value if isinstance(value, int) else indices.get(value, -100) for value in values])


def lacks_modality(rows: Dataset, modality: str) -> np.ndarray:
    """(n,) bool: the rows that lack a modality. All False if there is no such column."""
    if modality not in rows.column_names:
        return np.zeros(len(rows), dtype=bool)
    column = rows.select_columns([modality]).with_format("arrow")[:].column(modality)  # raw values: nothing is decoded
    return column.is_null().to_numpy()


def evaluate_split(trainer: Trainer, rows: Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """Predict a split. Returns its figures, with per-class recall and confusion matrices, and the predictions."""
    output = trainer.predict(rows)
    config = trainer.model.config
    results = compute_figures(output.predictions, output.label_ids, config.dimensions)
    for combination in COMBINATIONS:
        if "ua" in results.get(combination, {}):
            logits = output.predictions[combination]["emotion"]
            present = ~np.isnan(logits).any(-1)
            predicted, references = logits[present].argmax(-1), output.label_ids["emotion"][present]
            recall = per_class_recall(predicted, references, config.emotion_labels)
            results[combination]["per_class_recall"] = {c: r for c, r in recall.items() if r is not None}
            results[combination]["confusion_matrix"] = {
                "labels": list(config.emotion_labels),
                "rows": confusion_matrix(predicted, references, len(config.emotion_labels)).tolist(),
            }
    return results, output.predictions
