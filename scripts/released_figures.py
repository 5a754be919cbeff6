"""What the card of the released model says in figures: model and floor on the test splits of each corpus.

Neither has seen a speaker or a sentence of these rows, but for the sentences of acted corpora, which all their speakers
say. Both are given all that a row has, so that a corpus of recordings and texts is judged from audio, text and both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedModel

from modeling_mmer import MMERProcessor
from modeling_mmer.corpora.loading import load_corpora
from modeling_mmer.evaluation.statistics import (
    CONCORDANCE,
    UNWEIGHTED_ACCURACY,
    bootstrap_interval,
    paired_bootstrap,
)
from modeling_mmer.features.cache import FeatureCache
from modeling_mmer.features.extraction import extract
from modeling_mmer.model.configuration_mmer import COMBINATIONS
from modeling_mmer.model.tasks import NOT_LABELLED, Task
from modeling_mmer.training.arguments import RunArguments
from modeling_mmer.training.collator import MMERCollator
from modeling_mmer.training.trainer import MMERTrainer

Predictions = dict[str, dict[str, NDArray]]  # combination → task → logits (n, K) or values (n,), NaN where void


@dataclass(frozen=True)
class Judged:
    """A corpus that the model is judged on.

    Args:
        combinations: the modalities that it is judged from.
        label_map: emotion of the corpus → emotion of the model.
        groups: columns of its metadata whose values divide its rows, such as the sex of the speaker.
    """

    combinations: tuple[str, ...] = tuple(COMBINATIONS)
    label_map: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()


CORPORA = {
    "ravdess": Judged(label_map={"calm": "neutral"}, groups=("gender", "intensity")),
    "emodb": Judged(groups=("sex",)),
    "spoken": Judged(),
    "meld-text": Judged(("text",)),
}


def judge(
    model: PreTrainedModel, floor: PreTrainedModel, processor: MMERProcessor, data: Path, cache: Path
) -> dict[str, Any]:
    """The figures of a model and of the floor, neither of which needs its encoders loaded.

    Returns:
        corpus → `combinations` → task → `n`, `value` with its `interval`, the `floor`'s, and their `difference` with
        its interval; and `groups` → column → value → combination → `n` and `ua` of emotion.
    """
    figures = {}
    for name, judged in CORPORA.items():
        scale = {"label_scale": model.config.label_scale}
        labels = {"emotion_labels": model.config.emotion_labels, "label_map": dict(judged.label_map)}
        rows = load_corpora("folder", data / name, **labels, **scale).splits["test"]
        rows = with_states(rows, model, processor, cache)
        predictions, references = predict(model, processor, rows, cache)
        of_floor, _ = predict(floor, processor, rows, cache)
        figures[name] = {
            "combinations": {
                combination: compare(model.config.tasks, predictions[combination], of_floor[combination], references)
                for combination in judged.combinations
            },
            "groups": of_groups(judged, rows, data / name / "metadata.csv", predictions, references),
        }
        print(name, {c: {t: f["value"] for t, f in of.items()} for c, of in figures[name]["combinations"].items()})
    return figures


def with_states(rows: Dataset, model: PreTrainedModel, processor: MMERProcessor, cache: Path) -> Dataset:
    """The rows with the names of their states, which are encoded where the cache lacks them."""
    features = FeatureCache(cache, model.base_model, processor)
    rows = features.locate(rows, processor)
    extract(features, model, processor, [rows], group_size=32)
    return rows


def predict(
    model: PreTrainedModel, processor: MMERProcessor, rows: Dataset, cache: Path
) -> tuple[Predictions, dict[str, NDArray]]:
    """Predictions and references (task → (n,)) of rows with located states."""
    features = FeatureCache(cache, model.base_model, processor)
    collator = MMERCollator(processor, model.config.tasks, features)
    with TemporaryDirectory() as folder:
        how = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "report_to": "none"}
        run = RunArguments(folder, **how, use_cpu=True)
        output = MMERTrainer(model, run, data_collator=collator).predict(rows)
    return output.predictions, output.label_ids


def compare(
    tasks: list[Task], own: dict[str, NDArray], of_floor: dict[str, NDArray], references: dict[str, NDArray]
) -> dict[str, dict[str, Any]]:
    """One combination's figures: task → UA of a class task or CCC of a dimension, beside the floor's."""
    found = {}
    for task in tasks:
        labelled = is_labelled(task, references[task.name]) & ~np.isnan(first_column(own[task.name]))
        if not labelled.any():
            continue
        measure = UNWEIGHTED_ACCURACY if task.is_class else CONCORDANCE
        one, other = (answers(task, of[task.name][labelled]) for of in (own, of_floor))
        reference = references[task.name][labelled]
        difference, low, high = paired_bootstrap(measure, [one], [other], reference)
        found[task.name] = {
            "n": int(labelled.sum()),
            "value": measure(one, reference),
            "interval": bootstrap_interval(measure, one, reference),
            "floor": measure(other, reference),
            "difference": [difference, low, high],
        }
    return found


def of_groups(
    judged: Judged, rows: Dataset, metadata: Path, predictions: Predictions, references: dict[str, NDArray]
) -> dict[str, dict[str, dict[str, Any]]]:
    """UA of emotion: column → value → combination → `n` and `ua`."""
    table = pd.read_csv(metadata)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for column in judged.groups:
        of_file = dict(zip(table["file_name"].str.rsplit(".", n=1).str[0], table[column], strict=True))
        values = np.array([of_file[name] for name in rows["utterance_id"][:]])
        for value in sorted(set(values)):
            of_value = {}
            for combination in judged.combinations:
                logits, labels = predictions[combination]["emotion"], references["emotion"]
                chosen = (values == value) & (labels != NOT_LABELLED) & ~np.isnan(logits[:, 0])
                if chosen.any():
                    ua = UNWEIGHTED_ACCURACY(logits[chosen].argmax(-1), labels[chosen])
                    of_value[combination] = {"n": int(chosen.sum()), "ua": ua}
            if of_value:
                found.setdefault(column, {})[str(value)] = of_value
    return found


def is_labelled(task: Task, references: NDArray) -> NDArray[np.bool_]:
    return references != NOT_LABELLED if task.is_class else ~np.isnan(references)


def first_column(predictions: NDArray) -> NDArray:
    return predictions.reshape(len(predictions), -1)[:, 0]


def answers(task: Task, predictions: NDArray) -> NDArray:
    """The likeliest classes (n,), or the values (n,)."""
    return predictions.argmax(-1) if task.is_class else predictions.astype(np.float64)
