"""What was predicted for each utterance from each combination it has, with the references beside it, as Parquet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from ..files import written_beside
from ..model.configuration_mmer import COMBINATIONS, MMERConfig
from .metrics import softmax

Columns = dict[str, list]


def write_predictions(path: Path, rows: Dataset, predictions: dict[str, Any], config: MMERConfig) -> None:
    """Write what was predicted for each row in every combination it has, joined to it by `utterance_id`.

    Columns: utterance_id, combination; start and end of its span, in seconds (null where it is a whole recording);
    text_source (`reference` or `asr`; null where the utterance has no text); emotion and sentiment (the likeliest
    label) with `emotion_<label>` and `sentiment_<label>` probabilities; the dimensions on the corpus's scale;
    `reference_<task>` (null where not labelled).
    """
    parts = []
    for combination in COMBINATIONS:
        of_tasks, present = predictions[combination], rows_present(predictions[combination])
        part = named(rows, combination, present)
        part |= {name: pick(rows[name], present) for name in ("start", "end", "text_source")}
        for task in config.tasks:
            predicted = of_tasks[task.name][present]
            if not task.is_class:
                part[task.name] = predicted.astype(np.float64).tolist()
                continue
            probabilities = softmax(predicted)  # (present rows, K)
            part[task.name] = [task.labels[k] for k in probabilities.argmax(-1)]
            part |= {f"{task.name}_{label}": probabilities[:, k].tolist() for k, label in enumerate(task.labels)}
        parts.append(part | references(rows, [task.name for task in config.tasks], present))
    write_parts(path, parts)


def write_answers(path: Path, rows: Dataset, predictions: dict[str, Any], config: MMERConfig) -> None:
    """Write no more than it takes to compare models: utterance_id, combination, the likeliest emotion, the dimensions
    and their `reference_<task>`, for the combinations that there are predictions of."""
    parts = []
    for combination in filter(predictions.__contains__, COMBINATIONS):
        of_tasks, present = predictions[combination], rows_present(predictions[combination])
        part = named(rows, combination, present)
        part["emotion"] = [config.emotion_labels[k] for k in of_tasks["emotion"][present].argmax(-1)]
        part |= {d: of_tasks[d][present].astype(np.float32).tolist() for d in config.dimensions}
        parts.append(part | references(rows, ("emotion", *config.dimensions), present))
    write_parts(path, parts)


def rows_present(of_tasks: dict[str, NDArray]) -> NDArray[np.int_]:
    """The rows that have predictions of a combination; those of the others are NaN."""
    return np.flatnonzero(~np.isnan(of_tasks["emotion"]).any(-1))


def named(rows: Dataset, combination: str, present: Sequence[int]) -> Columns:
    return {"utterance_id": pick(rows["utterance_id"], present), "combination": [combination] * len(present)}


def references(rows: Dataset, tasks: Sequence[str], present: Sequence[int]) -> Columns:
    return {f"reference_{task}": pick(rows[task], present) for task in tasks}


def pick(column: Sequence[Any], present: Sequence[int]) -> list[Any]:
    values = column[:]  # at once: a column of `datasets` fetches single values one by one
    return [values[i] for i in present]


def write_parts(path: Path, parts: Sequence[Columns]) -> None:
    """Write the combinations, one after the other, into one file."""
    columns = {name: [value for part in parts for value in part[name]] for name in parts[0]}
    with written_beside(path) as beside:
        Dataset.from_dict(columns).to_parquet(beside)
