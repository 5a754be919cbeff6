"""What was predicted for each utterance from each combination it has, with the references beside it, as Parquet."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ..files import written_beside
from ..model.configuration_mmer import MMERConfig
from .figures import of_combinations, rows_present
from .metrics import softmax

Columns = dict[str, list]


def write_predictions(path: Path, rows: Dataset, predictions: dict[str, Any], config: MMERConfig) -> None:
    """Write what was predicted for each row in every combination it has, joined to it by `utterance_id`.

    Columns: utterance_id, combination; start and end of its span, in seconds (null where it is a whole recording);
    text_source (`reference` or `asr`; null where the utterance has no text); for each class task the likeliest label,
    and `<task>_<label>` probabilities; the dimensions on the corpus's scale; `reference_<task>` (null where not
    labelled).
    """

    def columns(of_tasks: dict[str, np.ndarray], present: np.ndarray) -> Columns:
        part = {name: pick(rows[name], present) for name in ("start", "end", "text_source")}
        for task in config.tasks:
            predicted = of_tasks[task.name][present]
            if not task.is_class:
                part[task.name] = predicted.astype(np.float64).tolist()
                continue
            probabilities = softmax(predicted)  # (present rows, K)
            part[task.name] = [task.classes[k] for k in probabilities.argmax(-1)]
            part |= {f"{task.name}_{label}": probabilities[:, k].tolist() for k, label in enumerate(task.classes)}
        return part

    write_columns(path, rows, predictions, columns, [task.name for task in config.tasks])


def write_answers(path: Path, rows: Dataset, predictions: dict[str, Any], config: MMERConfig) -> None:
    """Write no more than it takes to compare models: utterance_id, combination, the likeliest emotion, the dimensions
    and their `reference_<task>`, for the combinations that there are predictions of."""

    def columns(of_tasks: dict[str, np.ndarray], present: np.ndarray) -> Columns:
        emotions = [config.emotion_labels[k] for k in of_tasks["emotion"][present].argmax(-1)]
        return {"emotion": emotions} | {d: of_tasks[d][present].astype(np.float32).tolist() for d in config.dimensions}

    write_columns(path, rows, predictions, columns, ["emotion", *config.dimensions])


def write_columns(
    path: Path, rows: Dataset, predictions: dict[str, Any], columns: Callable[..., Columns], tasks: Sequence[str]
) -> None:
    """Write the combinations, one after the other, into one file: of the rows that have each, what `columns` makes of
    their predictions, and the references of `tasks`."""
    parts = []
    for combination, of_tasks in of_combinations(predictions).items():
        present = np.flatnonzero(rows_present(combination, of_tasks))
        part = {"utterance_id": pick(rows["utterance_id"], present), "combination": [combination] * len(present)}
        part |= columns(of_tasks, present)
        parts.append(part | {f"reference_{task}": pick(rows[task], present) for task in tasks})
    table = {name: [value for part in parts for value in part[name]] for name in parts[0]}
    with written_beside(path) as beside:
        Dataset.from_dict(table).to_parquet(beside)


def pick(column: Sequence[Any], present: Sequence[int]) -> list[Any]:
    values = column[:]  # at once: a column of `datasets` fetches single values one by one
    return [values[i] for i in present]
