"""Cross-validation: one model per fold of a corpus, and the mean of their figures."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from ..corpora import number_of_folds
from ..files import write_json
from ..report.tables import write_report
from ..training.arguments import CorpusArguments, RunArguments
from .results import print_results


def folds_to_train(arguments: CorpusArguments) -> int | None:
    """The number of folds to train: all folds of the corpus. None if it has no folds or one was chosen."""
    return number_of_folds(arguments.corpus, arguments.speaker_folds) if arguments.fold in (None, "all") else None


def train_folds(train: Callable[..., None], argv: list[str], n_folds: int, run: RunArguments) -> None:
    """Train and evaluate one model per fold in `output_dir/fold_K`, and write the mean figures to `output_dir`.

    A resumed run skips finished folds and continues with the interrupted one.

    Raises:
        SystemExit: `--push_to_hub` is set, which requires a single model; or training a fold has failed.
    """
    if run.push_to_hub:
        raise SystemExit("mmer train: --push_to_hub pushes the model of one fold: choose it with --fold.")
    folder = Path(run.output_dir)
    resumes = (run.resume_from_checkpoint or "false").lower() != "false"
    results = []
    for fold in range(1, n_folds + 1):
        fold_dir = folder / f"fold_{fold}"
        resume = ["--resume_from_checkpoint", str(resumes)]
        try:
            train([*argv, "--fold", str(fold), "--output_dir", str(fold_dir), *resume], skip_finished=resumes)
        except SystemExit:
            print(f"Stopped in fold {fold} of {n_folds}, {fold_dir}. The mean needs all folds.", file=sys.stderr)
            raise
        PartialState().wait_for_everyone()  # only the main process writes results
        results.append(json.loads((fold_dir / "results.json").read_text(encoding="utf-8")))
    if PartialState().is_main_process:
        splits = mean_figures([result["splits"] for result in results])
        caveats = list(dict.fromkeys(caveat for result in results for caveat in result.get("caveats", [])))
        overall = results[0] | {"model": str(folder), "folds": n_folds, "caveats": caveats, "splits": splits}
        write_json(folder / "results.json", overall)
        write_report(folder / "report.md", overall)
        print_results(overall, folder)


def mean_figures(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each figure over the folds that have it. Counts and confusion matrices are summed."""
    mean: dict[str, Any] = {}
    for name in all_keys(folds):
        values = [fold[name] for fold in folds if name in fold]
        if name == "retrieval":
            mean[name] = mean_figures(values) | {"n": values[0]["n"]}  # the group size, not a count
        elif name == "labelled":
            tasks = dict.fromkeys(task for value in values for task in value)
            mean[name] = {task: sum(value.get(task, 0) for value in values) for task in tasks}
        elif name == "confusion_matrix":
            mean[name] = values[0] | {"rows": np.sum([value["rows"] for value in values], axis=0).tolist()}
        elif name == "per_class_recall":  # keys are class names, which may be anything, such as "n"
            mean[name] = {c: float(np.mean([v[c] for v in values if c in v])) for c in all_keys(values)}
        elif isinstance(values[0], dict):
            mean[name] = mean_figures(values)
        else:
            mean[name] = sum(values) if name == "n" else float(np.mean(values))
    return mean


def all_keys(mappings: list[dict[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(name for mapping in mappings for name in mapping)
