"""The output of `mmer train` and `mmer eval`: `results.json`, and its tables on the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..corpora import Corpus
from ..report.tables import caveats_list, results_table, retrieval_line
from ..training.trainer import MMERTrainer


def build_results(trainer: MMERTrainer, corpus: Corpus, model: str, splits: dict[str, Any]) -> dict[str, Any]:
    """The content of `results.json`: the model, the corpus with its caveats, and the figures of each split."""
    commit = getattr(trainer.model.config, "_commit_hash", None)
    return {
        "model": model,
        **({} if commit is None else {"model_revision": commit}),  # if the model is from the hub
        "corpus": corpus.name,
        "seed": trainer.args.seed,
        "trainable_parameters": trainer.trainable_parameters(),
        "caveats": corpus.caveats,
        "splits": splits,
    }


def print_sizes(corpus: Corpus, sentences: Sequence[str]) -> None:
    """Print the number of rows of each split, and what is to be said of the corpus."""
    sizes = ", ".join(f"{len(rows)} {name}" for name, rows in corpus.splits.items())
    print(f"{corpus.name}: {sizes}", *sentences, sep="\n  ")


def print_results(results: dict[str, Any], folder: Path) -> None:
    """Print the table of each split, the caveats, and the output folder."""
    for split, figures in results["splits"].items():
        print(f"\n{results['corpus']}, {split}\n\n{results_table(figures)}")
        if "retrieval" in figures:
            print(f"\n{retrieval_line(figures)}")
    if caveats := caveats_list(results):
        print(f"\n{caveats}")
    print(f"\nWritten to {folder}")
