"""One run: a model is trained and evaluated. It writes a JSON record, the predictions on the test split and the model.

    runs/NAME-seed-0.json            the record: figures, settings, machine, time
    predictions/NAME-seed-0.parquet  predictions by utterance and combination, for the paired bootstrap
    models/NAME-seed-0/              the model, which other runs may start from
    unfinished/NAME-seed-0/          checkpoints, during training

The record is written last: a run that has one is finished. A killed run continues from its last checkpoint.
"""

import copy
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset
from transformers import set_seed

from .. import __version__
from ..baselines.cif_mmin_training import CIFMMINTrainer, stage_arguments
from ..evaluation.collapse import collapse_distances
from ..evaluation.figures import RETRIEVAL_GROUP, evaluate_split
from ..evaluation.predictions import write_answers
from ..redaction import command_line
from ..report.records import RunRecord, predictions_path, record_path, run_key
from ..training.arguments import RunArguments
from ..training.balance import fit_balance
from ..training.fingerprint import Fingerprint, read_fingerprint
from ..training.preparation import build_trainer
from ..training.resumable_trainer import DivergedError
from ..training.resuming import last_checkpoint
from ..training.settings import folder_name, run_settings
from ..training.trainer import MMERTrainer
from .material import Material, rows_with
from .models import STAGES, build_model
from .systems import Run


@dataclass(frozen=True)
class Task:
    """A run with a seed and, if the corpus has folds, a fold."""

    run: Run
    seed: int
    fold: int | None = None

    @property
    def key(self) -> str:
        return run_key(self.run.name, self.seed, self.fold)

    def needs(self) -> list[str]:
        return [run_key(name, self.seed, self.fold) for name in self.run.needs]


def read_record(folder: Path, key: str) -> RunRecord | None:
    """The record of a run; None if it is not finished."""
    path = folder / record_path(key)
    return RunRecord.read(path) if path.is_file() else None


def model_path(folder: Path, key: str) -> Path:
    return folder / "models" / key


def settings(task: Task, material: Material) -> dict[str, Any]:
    """Everything that the figures of a run depend on, as JSON values."""
    return run_settings(
        material.corpus(task.fold),
        replace(material.arguments, fold=None if task.fold is None else str(task.fold)),
        training_arguments(task, material),
        material.fields(task.fold, task.run.overrides),
        material.content(task.fold),
        system=task.run.system,
        combination=task.run.combination,
        **material.identities,
    )


def checkpoint_settings(task: Task, material: Material) -> dict[str, Any] | None:
    """The settings in the last checkpoint of a run; None if it has no checkpoint, empty if they are not recorded."""
    checkpoint = last_checkpoint(training_arguments(task, material).output_dir)
    try:
        return None if checkpoint is None else read_fingerprint(checkpoint).get("settings", {})
    except FileNotFoundError:  # another process has just finished it
        return None


def training_arguments(task: Task, material: Material) -> RunArguments:
    arguments = copy.copy(material.run)
    arguments.output_dir = str(material.folder / "unfinished" / task.key)
    arguments.seed = task.seed
    if task.run.epochs is not None:
        arguments.num_train_epochs = task.run.epochs
    arguments.num_train_epochs *= task.run.longer
    if arguments.early_stopping_patience is not None:
        arguments.early_stopping_patience *= task.run.longer
    if task.run.system in STAGES:
        arguments = stage_arguments(arguments, STAGES[task.run.system])
    return arguments


def run_task(task: Task, material: Material) -> RunRecord:
    """Train and evaluate one run and write its record. Divergence is recorded too, because it would happen again.

    If there is a checkpoint, it has the same settings: `run_grid` has checked that.
    """
    checkpoint = last_checkpoint(training_arguments(task, material).output_dir)
    before = 0.0 if checkpoint is None else read_fingerprint(checkpoint)["seconds"]
    fingerprint = Fingerprint(settings(task, material), before)
    trainer, splits = prepare(task, material, fingerprint)
    try:
        if task.run.epochs != 0:
            trainer.train(resume_from_checkpoint=checkpoint)
            fit_balance(trainer, splits["validation"])
        trained, start = fingerprint.seconds, time.monotonic()
        outcome = evaluate(task, trainer, splits["test"], material.folder)
    except DivergedError as error:
        trained, start = fingerprint.seconds, time.monotonic()
        outcome = {"failed": str(error)}
    record = RunRecord(
        run=task.run.name,
        seed=task.seed,
        fold=task.fold,
        trainable_parameters=trainer.trainable_parameters() if task.run.epochs != 0 else 0,
        epochs=trainer.state.epoch,
        seconds={"training": round(trained, 1), "evaluation": round(time.monotonic() - start, 1)},
        corpus=material.corpus(task.fold).name,
        encoders=[folder_name(name) for name in material.encoders],
        preset=material.preset,
        caveats=material.corpus(task.fold).caveats,
        settings=fingerprint.settings,
        machine=machine(),
        command=command_line(sys.argv),
        log=curves(trainer.state.log_history),
        **outcome,
    )
    record.write(material.folder)
    shutil.rmtree(trainer.args.output_dir, ignore_errors=True)
    return record


def evaluate(task: Task, trainer: MMERTrainer, rows: Dataset, folder: Path) -> dict[str, Any]:
    """Evaluate the test split, and save the predictions and the model. Returns the fields of the record."""
    figures, predictions = evaluate_split(trainer, rows)
    weights = {m: e.layer_weights.tolist() for m, e in trainer.model.base_model.embedders.items()}
    outcome = {"layer_weights": weights, "splits": {"test": figures}}
    if task.run.system == "mmer":
        figures["collapse"] = collapse_distances(trainer, rows, task.seed)
        outcome["similarities"] = similarities(predictions["embeds"])
    trainer.model.save_pretrained(model_path(folder, task.key))
    write_answers(folder / predictions_path(task.key), rows, predictions, trainer.model.config)
    return outcome


def prepare(task: Task, material: Material, fingerprint: Fingerprint) -> tuple[MMERTrainer, dict[str, Dataset]]:
    """The trainer of a run, and the rows of each split that its model can process."""
    run = task.run
    fields = material.fields(task.fold, run.overrides)
    features, processor, corpus = material.with_states(task.fold, fields["audio_context"])
    set_seed(task.seed)  # here, so that encoding the corpus does not change the initialisation
    keys = {name: run_key(name, task.seed, task.fold) for name in run.needs}
    model = build_model(run, material.encoders, fields, lambda name: model_path(material.folder, keys[name]))
    combination = "audio_text" if run.system == "cif_mmin_teacher" else run.combination
    splits = {s: rows if combination is None else rows_with(rows, combination) for s, rows in corpus.splits.items()}
    stage = {"trainer_class": CIFMMINTrainer, "stage": STAGES[run.system]} if run.system in STAGES else {}
    how = {"callbacks": [fingerprint], **stage}
    trainer = build_trainer(model, training_arguments(task, material), splits, processor, features, **how)
    return trainer, splits


def curves(log_history: list[dict[str, float]]) -> list[dict[str, float]]:
    """The entries of a training log that are plotted."""
    kept = ("epoch", "step", "loss", "loss_supervised", "loss_mae", "loss_contrastive", "eval_score")
    return [{name: entry[name] for name in kept if name in entry} for entry in log_history if {*kept[2:]} & {*entry}]


def similarities(embeds: dict[str, np.ndarray]) -> list[list[float]] | None:
    """Inner products of one retrieval group, audio by text: the first utterances that have both. None if too few."""
    audio, text = embeds["audio"], embeds["text"]
    paired = ~(np.isnan(audio).any(-1) | np.isnan(text).any(-1))
    if paired.sum() < RETRIEVAL_GROUP:
        return None
    audio, text = (side[paired][:RETRIEVAL_GROUP].astype(np.float64) for side in (audio, text))
    return [[float(f"{value:.4g}") for value in row] for row in audio @ text.T]


def machine() -> dict[str, Any]:
    """Hardware and software versions."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "devices": devices or [platform.machine()],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "mmer": __version__,
    }
