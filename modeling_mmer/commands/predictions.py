"""`predictions.parquet`: one row per utterance and combination, with probabilities and the references beside them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ..configuration_mmer import MMERConfig
from ..passes import COMBINATIONS


def write_predictions(path: Path, rows: Dataset, predictions: dict[str, Any], config: MMERConfig) -> None:
    """Write what was predicted for each row in every combination it has, joined to it by `utterance_id`.

    Columns: utterance_id, combination; text_source (`reference` or `asr`; null where the utterance has no text);
    emotion and sentiment (the likeliest label) with `emotion_<label>` and `sentiment_<label>` probabilities; the
    dimensions on the corpus's scale; `reference_<task>` (null where not labelled).
    """
    columns: dict[str, list] = {}
    for combination in COMBINATIONS:
        of_tasks = predictions[combination]
        present = np.flatnonzero(~np.isnan(of_tasks["emotion"]).any(-1))
        part = {
            "utterance_id": [rows["utterance_id"][i] for i in present],
            "combination": [combination] * len(present),
            "text_source": [rows["text_source"][i] for i in present],
        }
        for task, labels in (("emotion", config.emotion_labels), ("sentiment", config.sentiment_labels)):
            probabilities = softmax(of_tasks[task][present])  # (present rows, K)
            part[task] = [labels[k] for k in probabilities.argmax(-1)]
            part |= {f"{task}_{label}": probabilities[:, k].tolist() for k, label in enumerate(labels)}
        part |= {d: of_tasks[d][present].astype(np.float64).tolist() for d in config.dimensions}
        for task in ("emotion", "sentiment", *config.dimensions):
            references = rows[task]
            part[f"reference_{task}"] = [references[i] for i in present]
        for name, values in part.items():
            columns.setdefault(name, []).extend(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    Dataset.from_dict(columns).to_parquet(beside)
    os.replace(beside, path)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)
