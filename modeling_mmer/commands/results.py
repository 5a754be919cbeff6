"""What `mmer train` and `mmer eval` give: `results.json`, and its table on the terminal."""

from pathlib import Path
from typing import Any

from ..corpora import Corpus
from ..report import caveats_list, results_table, retrieval_line
from ..training.trainer import MMERTrainer


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


def show(results: dict[str, Any], folder: Path) -> None:
    """Print each split's table, what changes the meaning of the figures, and where everything is."""
    for split, figures in results["splits"].items():
        print(f"\n{results['corpus']}, {split}\n\n{results_table(figures)}")
        if "retrieval" in figures:
            print(f"\n{retrieval_line(figures)}")
    if caveats := caveats_list(results):
        print(f"\n{caveats}")
    print(f"\nResults, report and model: {folder}")
