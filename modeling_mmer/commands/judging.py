"""What `mmer train` and `mmer eval` share: predictions of a split → the figures of `results.json`, and the table."""

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ..corpora import Corpus
from ..evaluation import judge
from ..metrics import confusion_matrix, per_class_recall
from ..passes import COMBINATIONS
from ..report import results_table, retrieval_line
from ..trainer import MMERTrainer


def judge_splits(trainer: MMERTrainer, corpus: Corpus, splits: list[str], model: str) -> dict[str, Any]:
    """`results.json` of a model on splits of a corpus."""
    return {
        "model": model,
        "corpus": corpus.name,
        "seed": trainer.args.seed,
        "trainable_parameters": trainer.trainable_parameters(),
        "splits": {split: judge_split(trainer, corpus.splits[split])[0] for split in splits},
    }


def judge_split(trainer: MMERTrainer, rows: Dataset) -> tuple[dict[str, Any], dict, dict]:
    """One split's figures, with recall and confusion per class; and the predictions and labels they were made of."""
    output = trainer.predict(rows)
    config = trainer.model.config
    results = judge(output.predictions, output.label_ids, config.dimensions)
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
    return results, output.predictions, output.label_ids


def show(results: dict[str, Any], folder: Path) -> None:
    """Print each split's table, and where everything is."""
    for split, figures in results["splits"].items():
        print(f"\n{results['corpus']}, {split}\n\n{results_table(figures)}")
        if "retrieval" in figures:
            print(f"\n{retrieval_line(figures)}")
    print(f"\nResults, report and model: {folder}")
