"""Cross-validation: one model for each fold of a corpus, and the mean of their figures."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from ..corpora import FOLDS
from ..files import write_json
from ..report import write_report
from ..training.arguments import CorpusArguments, RunArguments
from .results import show


def folds_to_train(arguments: CorpusArguments) -> int | None:
    """How many folds a training run goes through: all of the corpus's unless it names one; None without folds."""
    folds = [FOLDS[name] for name in arguments.corpus if name in FOLDS]
    return folds[0] if folds and arguments.fold in (None, "all") else None


def train_folds(train: Callable[..., None], argv: list[str], n_folds: int, run: RunArguments) -> None:
    """Train and judge a model per fold in `output_dir/fold_K`, and leave the mean figures in `output_dir`.

    A resumed run goes on with the fold that was open; finished folds stay as they are.

    Raises:
        SystemExit: the folds' models are to be pushed, which takes one.
    """
    if run.push_to_hub:
        raise SystemExit("mmer train: --push_to_hub takes the model of one fold: name it with --fold.")
    folder = Path(run.output_dir)
    resumes = (run.resume_from_checkpoint or "false").lower() != "false"
    results = []
    for fold in range(1, n_folds + 1):
        of_fold = folder / f"fold_{fold}"
        resume = ["--resume_from_checkpoint", str(resumes)]
        try:
            train([*argv, "--fold", str(fold), "--output_dir", str(of_fold), *resume], skip_finished=resumes)
        except SystemExit:
            print(f"Ended in fold {fold} of {n_folds}, {of_fold}: without it there is no mean.", file=sys.stderr)
            raise
        PartialState().wait_for_everyone()  # only the main process writes results
        results.append(json.loads((of_fold / "results.json").read_text(encoding="utf-8")))
    if PartialState().is_main_process:
        splits = mean_figures([of_fold["splits"] for of_fold in results])
        caveats = list(dict.fromkeys(caveat for of_fold in results for caveat in of_fold.get("caveats", [])))
        overall = results[0] | {"model": str(folder), "folds": n_folds, "caveats": caveats, "splits": splits}
        write_json(folder / "results.json", overall)
        write_report(folder / "report.md", overall)
        show(overall, folder)


def mean_figures(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of every figure over the folds that measured it; counts and confusion matrices are added up."""
    mean: dict[str, Any] = {}
    for name in merged_names(folds):
        values = [fold[name] for fold in folds if name in fold]
        if name == "retrieval":
            mean[name] = mean_figures(values) | {"n": values[0]["n"]}  # the size of a group, not a count
        elif name == "labelled":
            tasks = dict.fromkeys(task for value in values for task in value)
            mean[name] = {task: sum(value.get(task, 0) for value in values) for task in tasks}
        elif name == "confusion_matrix":
            mean[name] = values[0] | {"rows": np.sum([value["rows"] for value in values], axis=0).tolist()}
        elif name == "per_class_recall":  # whose names are those of classes, which may be called anything
            mean[name] = {c: float(np.mean([v[c] for v in values if c in v])) for c in merged_names(values)}
        elif isinstance(values[0], dict):
            mean[name] = mean_figures(values)
        else:
            mean[name] = sum(values) if name == "n" else float(np.mean(values))
    return mean


def merged_names(mappings: list[dict[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(name for mapping in mappings for name in mapping)
