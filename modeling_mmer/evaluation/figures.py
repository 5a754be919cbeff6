"""Figures of a split from its predictions: the metrics of Table 1 and retrieval (Table 3), as in `results.json`."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import ArrayLike, NDArray
from torch import nn
from transformers import Trainer

from ..corpora.votes import vote_counts
from ..model.tasks import NOT_LABELLED, Task
from . import metrics

RETRIEVAL_GROUP = 32  # N of Table 3
NOT_COMBINATIONS = ("retrieval", "collapse")  # entries in the results of a split


def evaluate_predictions(
    predictions: Mapping[str, Mapping[str, ArrayLike]], references: Mapping[str, ArrayLike], tasks: Sequence[Task]
) -> dict[str, dict[str, Any]]:
    """Evaluate the predictions of a model for one split, for each combination of modalities.

    Args:
        predictions: combination (such as `audio_text`) → task → logits (n, K) of a class task, values (n,) of a
            dimension, on the scale of the references. A row with NaN lacks a modality of the combination. Tasks that
            the model does not have are left out.
        references: task → class ids (n,), −100 = not labelled; or values (n,), NaN = not labelled; and, if there are
            votes, `emotion_votes` → (n, K), all zero = none.
        tasks: of the model.

    Returns:
        Per combination that has rows: `n` (its rows, labelled or not), `labelled` (task → the number of rows with a
        label, which its figures are measured on), `ua` and `macro_f1` (emotion), `<task>_ua` and `<dimension>_ccc`;
        and `emotion_jsd`, the divergence from the votes, where rows have some (counted as `emotion_votes`).
        Figures that cannot be measured are absent. This is one split of `results.json`, without retrieval.

    Raises:
        ValueError: an unknown task, shapes that do not fit, or a row that has a prediction for one task and NaN for
            another.
    """
    results = {}
    for combination, by_task in predictions.items():
        arrays = _check_predictions(combination, by_task, references, tasks)
        if not arrays or not (present := rows_present(combination, arrays)).any():
            continue
        figures: dict[str, float | None] = {}
        labelled: dict[str, int] = {}
        for task in tasks:
            if task.name not in arrays or task.name not in references:
                continue
            reference = np.asarray(references[task.name])[present]
            is_labelled = reference != NOT_LABELLED if task.is_class else ~np.isnan(reference)
            if is_labelled.any():
                labelled[task.name] = int(is_labelled.sum())
            figures |= task_figures(task, arrays[task.name][present], reference)
            if task.votes in references:
                votes = np.asarray(references[task.votes])[present]
                figures[f"{task.name}_jsd"] = metrics.vote_divergence(
                    metrics.softmax(arrays[task.name][present]), votes
                )
                if voted := int((votes.sum(axis=1) > 0).sum()):
                    labelled[task.votes] = voted
        counts = {"n": int(present.sum())} | ({"labelled": labelled} if labelled else {})
        results[combination] = counts | {k: v for k, v in figures.items() if v is not None}
    return results


def task_figures(task: Task, predictions: NDArray, references: NDArray) -> dict[str, float | None]:
    """The figures of one task: CCC of a dimension; UA of a class task; for emotion, whose names have no prefix, also
    macro F1."""
    if not task.is_class:
        return {f"{task.name}_ccc": metrics.ccc(predictions, references)}
    if references.size and references.max() >= predictions.shape[1]:
        raise ValueError(
            f"References of {task.name!r} hold class {references.max()}, but the model predicts "
            f"{predictions.shape[1]} classes."
        )
    classes = predictions.argmax(axis=1)
    ua = metrics.unweighted_accuracy(classes, references)
    if task.name != "emotion":
        return {f"{task.name}_ua": ua}
    return {"ua": ua, "macro_f1": metrics.macro_f1(classes, references)}


def _check_predictions(
    combination: str, by_task: Mapping[str, ArrayLike], references: Mapping[str, ArrayLike], tasks: Sequence[Task]
) -> dict[str, NDArray[np.float64]]:
    """Check names and shapes of the predictions. Returns them as float64, in a fixed order of tasks."""
    known = {task.name: task for task in tasks}
    unknown = sorted(set(by_task) - set(known))
    if unknown:
        raise ValueError(f"Predictions for {combination!r} hold unknown tasks {unknown}; known are {list(known)}.")
    arrays = {task: np.asarray(by_task[task], dtype=np.float64) for task in known if task in by_task}
    lengths = {}
    for task, array in arrays.items():
        if array.ndim != (2 if known[task].is_class else 1):
            expected = "(n, classes)" if known[task].is_class else "(n,)"
            raise ValueError(f"Predictions of {task!r} for {combination!r} must be {expected}, got {array.shape}.")
        lengths[f"predicted {task}"] = len(array)
        if task in references:
            lengths[f"reference {task}"] = len(np.asarray(references[task]))
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Predictions and references for {combination!r} differ in length: {lengths}.")
    return arrays


def rows_present(combination: str, arrays: Mapping[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
    """(n,) bool: the rows that have predictions. NaN in all tasks = absent; NaN in only some is an error."""
    is_nan = np.stack([np.isnan(a.reshape(len(a), int(np.prod(a.shape[1:])))).any(axis=1) for a in arrays.values()])
    absent = is_nan.all(axis=0)
    broken = is_nan & ~absent  # (tasks, n)
    if broken.any():
        counts = {task: int(row.sum()) for task, row in zip(arrays, broken, strict=True) if row.any()}
        raise ValueError(
            f"Predictions for {combination!r} are NaN in rows that have other predictions: {counts} (task: rows). "
            "A row that lacks a modality is NaN in every task; otherwise the model has diverged."
        )
    return ~absent


def compute_figures(
    predictions: Mapping[str, Any], labels: Mapping[str, np.ndarray], tasks: Sequence[Task]
) -> dict[str, Any]:
    """The figures of one split, and `retrieval` if it can be measured.

    Args:
        predictions: the predictions of `MMERTrainer`: as for [`evaluate_predictions`] and, if the model has g, `embeds`
            → modality → (n, d), NaN in rows that lack it.
        labels: the references, as for [`evaluate_predictions`].
        tasks: those that are judged, as for [`evaluate_predictions`]. Predictions of other tasks are left out.
    """
    judged = {
        combination: {task.name: of_tasks[task.name] for task in tasks if task.name in of_tasks}
        for combination, of_tasks in of_combinations(predictions).items()
    }
    results = evaluate_predictions(judged, labels, tasks)
    embeds, retrieval = predictions.get("embeds", {}), {}
    for one, other in itertools.combinations(embeds, 2):
        paired = ~(np.isnan(embeds[one]).any(-1) | np.isnan(embeds[other]).any(-1))
        found = metrics.retrieval_accuracy(embeds[one][paired], embeds[other][paired], RETRIEVAL_GROUP, (one, other))
        retrieval |= found or {}
    if retrieval:
        results["retrieval"] = {"n": RETRIEVAL_GROUP, **retrieval}
    return results


def of_combinations(predictions: Mapping[str, Any]) -> dict[str, dict[str, NDArray]]:
    """The predictions of `MMERTrainer` by combination and task, without the embeddings."""
    return {name: of_tasks for name, of_tasks in predictions.items() if name != "embeds"}


def score(results: Mapping[str, Any]) -> float | None:
    """The figure by which the best checkpoint is selected: the mean of all UA and CCC over the combinations.

    Args:
        results: one split of `results.json`, as returned by `evaluate_predictions`.

    Returns:
        The mean of the available figures, or None if there is none.
    """
    return metrics.mean_of_present(
        value
        for combination, figures in results.items()
        if combination not in NOT_COMBINATIONS
        for name, value in figures.items()
        if name == "ua" or name.endswith("_ccc")
    )


def flatten(results: Mapping[str, Any]) -> dict[str, float]:
    """Flatten the figures of a split to the names of the training log.

    Args:
        results: one split of `results.json`.

    Returns:
        `audio_ua`, `audio_text_valence_ccc`, `retrieval_audio_to_text`, `collapse_audio_input`, …: the nested keys
        joined by `_`. Counts (`n`) and tables (per-class recall, confusion matrix) are left out.
    """
    flat: dict[str, float] = {}
    for group, figures in results.items():
        for name, value in figures.items():
            if group == "collapse":
                flat.update({f"{group}_{name}_{p}": float(distance) for p, distance in value.items() if p != "n"})
            elif name != "n" and not isinstance(value, Mapping):
                flat[f"{group}_{name}"] = float(value)
    return flat


def figures_of(predictions: Mapping[str, Any], labels: Mapping[str, np.ndarray], tasks: Sequence[Task]) -> dict:
    """The figures as a Trainer logs them: `audio_ua`, `text_valence_ccc`, …, and `score`, the mean of UA and CCC."""
    results = compute_figures(predictions, labels, tasks)
    overall = score(results)
    return flatten(results) | ({} if overall is None else {"score": overall})


def measurable(rows: Dataset, model: nn.Module) -> set[str] | None:
    """The names of the figures that an evaluation on these rows gives, found with predictions that are all zero.

    None if they cannot be determined: the rows are not a `Dataset`, or have no label column.
    """
    columns = getattr(rows, "column_names", None) or ()
    tasks = [task for task in model.config.trained_tasks if task.name in columns]
    labels = {task.name: reference_array(rows[task.name], task) for task in tasks}
    labels |= {
        task.votes: vote_counts(rows[task.votes], task.classes)
        for task in tasks
        if task.is_class and task.votes in columns
    }
    if not labels and model.config.trained_tasks:
        return None
    config = model.config
    lacks = {modality: lacks_modality(rows, modality) for modality in config.modalities}
    predictions: dict[str, Any] = {}
    for name in model.served:
        void = np.where(np.any([lacks[modality] for modality in config.combinations[name]], axis=0), np.nan, 0.0)
        of_classes = np.repeat(void[:, None], max((task.size for task in tasks), default=1), axis=1)
        predictions[name] = {task.name: of_classes[:, : task.size] if task.is_class else void for task in tasks}
    if getattr(model, "contrastive_head", None) is not None:
        predictions["embeds"] = {m: np.where(lacking_m, np.nan, 0.0)[:, None] for m, lacking_m in lacks.items()}
    return set(figures_of(predictions, labels, tasks))


def reference_array(values: list[str | int | float | None], task: Task) -> np.ndarray:
    """A column of labels → references (n,): class ids, of names or ids, −100 where not labelled or not one of the
    classes; or values, NaN where not labelled."""
    if not task.is_class:
        return np.array([np.nan if value is None else value for value in values], dtype=float)
    ids = {name: index for index, name in enumerate(task.classes)}
    return np.array([value if isinstance(value, int) else ids.get(value, NOT_LABELLED) for value in values])


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
    results = compute_figures(output.predictions, output.label_ids, config.trained_tasks)
    for combination, of_tasks in of_combinations(output.predictions).items():
        if "ua" in results.get(combination, {}):
            present = rows_present(combination, of_tasks)
            predicted, references = of_tasks["emotion"][present].argmax(-1), output.label_ids["emotion"][present]
            recall = metrics.per_class_recall(predicted, references, config.emotion_labels)
            results[combination]["per_class_recall"] = {c: r for c, r in recall.items() if r is not None}
            results[combination]["confusion_matrix"] = {
                "labels": list(config.emotion_labels),
                "rows": metrics.confusion_matrix(predicted, references, len(config.emotion_labels)).tolist(),
            }
    return results, output.predictions
