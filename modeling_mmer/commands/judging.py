"""What `mmer train` and `mmer eval` share: text that is heard, encoder states from a cache, and a split's rows → its
figures and the table."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import TrainingArguments

from ..corpora import Corpus
from ..corpora.sharing import note_shared
from ..evaluation import judge
from ..extraction import extract
from ..features import FeatureCache
from ..metrics import confusion_matrix, per_class_recall
from ..modeling_mmer import MMERForEmotionRecognition
from ..passes import COMBINATIONS
from ..processing_mmer import MMERProcessor
from ..report import caveats_list, results_table, retrieval_line
from ..trainer import MMERTrainer
from ..transcription import transcribe
from .arguments import CorpusArguments


def fill_text(arguments: CorpusArguments, corpus: Corpus, run: TrainingArguments) -> Corpus:
    """The corpus with the text that `--transcribe` hears, and with caveats of what its splits then share."""
    if arguments.transcribe is None:
        if arguments.transcribe_rows is not None:
            raise ValueError("--transcribe_rows chooses rows for a speech recogniser: name one with --transcribe.")
        return note_shared(corpus)
    corpus = transcribe(
        corpus,
        arguments.transcribe,
        arguments.transcribe_rows or "missing",
        batch_size=run.per_device_eval_batch_size,
        show_progress=not run.disable_tqdm,
    )
    return note_shared(corpus)


def fill_features(
    arguments: CorpusArguments,
    model: MMERForEmotionRecognition,
    processor: MMERProcessor,
    corpus: Corpus,
    run: TrainingArguments,
) -> tuple[FeatureCache | None, Corpus]:
    """The cache with the encoder states of a corpus in it, and the corpus with its rows located there; without
    `--feature_cache` None, and the corpus as it is."""
    if arguments.feature_cache is None:
        return None, corpus
    features = FeatureCache(arguments.feature_cache, model.base_model, processor, arguments.cache_dtype)
    located = {split: features.locate(rows, processor) for split, rows in corpus.splits.items()}
    how = {"num_workers": run.dataloader_num_workers, "show_progress": not run.disable_tqdm}
    extract(features, model, processor, located.values(), run.per_device_eval_batch_size, **how)
    return features, replace(corpus, splits=located)


def results_of(trainer: MMERTrainer, corpus: Corpus, model: str, splits: dict[str, Any]) -> dict[str, Any]:
    """`results.json`: what was judged, what changes the meaning of its figures, and each split's figures."""
    commit = getattr(trainer.model.config, "_commit_hash", None)
    return {
        "model": model,
        **({} if commit is None else {"model_revision": commit}),  # of a model from the hub
        "corpus": corpus.name,
        "seed": trainer.args.seed,
        "trainable_parameters": trainer.trainable_parameters(),
        "caveats": corpus.caveats,
        "splits": splits,
    }


def judge_split(trainer: MMERTrainer, rows: Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """One split's figures, with recall and confusion per class; and the predictions they were made of."""
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
    return results, output.predictions


def show(results: dict[str, Any], folder: Path) -> None:
    """Print each split's table, what changes the meaning of the figures, and where everything is."""
    for split, figures in results["splits"].items():
        print(f"\n{results['corpus']}, {split}\n\n{results_table(figures)}")
        if "retrieval" in figures:
            print(f"\n{retrieval_line(figures)}")
    if caveats := caveats_list(results):
        print(f"\n{caveats}")
    print(f"\nResults, report and model: {folder}")
