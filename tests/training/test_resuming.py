"""Resuming: which folders are complete checkpoints, which state is restored, and which utterances errors name."""

import os
import re
import signal
from pathlib import Path

import pytest
import torch
from conftest import assert_equal_weights, tiny_model
from processes import spawn
from trainers import collate, toy_trainer, weights
from transformers import TrainerCallback

from modeling_mmer import MMERTrainer
from modeling_mmer.training.preemption import CheckpointOnTermination, Preempted
from modeling_mmer.training.resumable_trainer import DivergedError
from modeling_mmer.training.resuming import MARKER, EarlyStopping, WriteError, last_checkpoint, write_errors_named


class AtStep(TrainerCallback):
    """Does something at the end of a step, before what other callbacks do there."""

    def __init__(self, step: int, action):
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()


def terminated(folder: Path, step: int, **options) -> MMERTrainer:
    """A run that gets SIGTERM in the midst of a step."""
    trainer = toy_trainer(folder, **options)
    handler = signal.getsignal(signal.SIGTERM)
    trainer.add_callback(AtStep(step, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    trainer.add_callback(CheckpointOnTermination())
    with pytest.raises(Preempted) as ended:
        trainer.train()
    signal.signal(signal.SIGTERM, handler)
    assert ended.value.code == 143
    return trainer


def resumed(folder: Path, **options) -> MMERTrainer:
    trainer = toy_trainer(folder, **options)
    trainer.train(resume_from_checkpoint=True)
    return trainer


# ── what a run that goes on remembers ───────────────────────────────────────────────────────────────────────────────

BEST = {"num_train_epochs": 3, "learning_rate": 0.02}  # of five steps; each is judged, and the best is kept


@pytest.mark.parametrize(
    ("step", "options"),
    [
        (7, {}),
        (10, {}),  # ends an epoch: its evaluation is part of the checkpoint
        (7, {"dataloader_num_workers": 2}),
        (3, {"gradient_accumulation_steps": 2}),
        (10, {"eval_strategy": "epoch", "save_strategy": "steps", "save_steps": 5, "load_best_model_at_end": False}),
        (8, {"max_steps": 8}),  # within an epoch, and the last
    ],
)
def test_a_terminated_run_goes_on_as_the_uninterrupted_one(tmp_path, step, options):
    options = BEST | options
    whole = toy_trainer(tmp_path / "whole", **options)
    whole.train()
    stopped = terminated(tmp_path / "parts", step, **options)
    assert stopped.state.global_step == step
    assert last_checkpoint(tmp_path / "parts").endswith(f"checkpoint-{step}")
    second = resumed(tmp_path / "parts", **options)
    assert second.state.global_step == whole.state.global_step
    assert second.state.best_metric == whole.state.best_metric
    assert_equal_weights(weights(second.model), weights(whole.model))


def test_an_evaluation_draws_nothing_from_training(tmp_path):
    ends = []
    for evaluations in ("no", "steps"):
        options = {"eval_strategy": evaluations, "save_strategy": "no", "load_best_model_at_end": False}
        trainer = toy_trainer(tmp_path / evaluations, eval_steps=2, **options)
        trainer.train()
        ends.append(weights(trainer.model))
    assert_equal_weights(*ends)


def stopping_early(folder: Path) -> MMERTrainer:
    """A run whose first epoch is its best, and that ends after two that are not: at step 15."""
    trainer = toy_trainer(folder, num_train_epochs=6, save_total_limit=None)
    trainer.compute_metrics = lambda prediction: {"score": {5: 0.5, 10: 0.4, 15: 0.3}.get(trainer.state.global_step, 1)}
    trainer.add_callback(EarlyStopping(2))
    return trainer


@pytest.mark.parametrize("step", [10, 15])  # before it ends, and where it had decided to
def test_early_stopping_counts_on(tmp_path, step):
    whole = stopping_early(tmp_path)
    whole.train()
    second = stopping_early(tmp_path)
    second.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert whole.state.global_step == second.state.global_step == 15
    assert_equal_weights(weights(second.model), weights(whole.model))


# ── what counts as a checkpoint ─────────────────────────────────────────────────────────────────────────────────────


def test_the_last_whole_checkpoint_is_the_one_to_go_on_from(tmp_path):
    assert last_checkpoint(tmp_path / "nowhere") is None and last_checkpoint(tmp_path) is None
    for step, state in ((9, "{}"), (10, '{"global_step": 10}'), (11, '{"global_st'), (12, "")):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-13").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


def test_what_was_broken_off_is_deleted_and_nothing_else(tmp_path):
    for name in ("checkpoint-2", "checkpoint-3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    (tmp_path / "checkpoint-3" / MARKER).touch()
    toy_trainer(tmp_path, num_train_epochs=1, save_strategy="no", load_best_model_at_end=False).train()
    assert (tmp_path / "checkpoint-2").is_dir() and not (tmp_path / "checkpoint-3").exists()


def test_only_writes_that_fail_are_named_so(tmp_path):
    with pytest.raises(WriteError, match="cannot be written .*GB are free.*--resume_from_checkpoint true"):
        with write_errors_named(tmp_path / "run"), open("/dev/full", "w") as full:
            full.write("a" * 100_000)
    with pytest.raises(WriteError), write_errors_named(tmp_path / "run"):
        torch.save({"a": torch.zeros(100_000)}, "/dev/full")
    for other in (FileNotFoundError(2, "no such recording"), RuntimeError("CUDA out of memory")):
        with pytest.raises(type(other), match=re.escape(str(other))) as raised, write_errors_named(tmp_path):
            raise other
        assert raised.value is other


# ── divergence ──────────────────────────────────────────────────────────────────────────────────────────────────────


def named_trainer(folder: Path, **options) -> MMERTrainer:
    trainer = toy_trainer(folder, eval_strategy="no", save_strategy="no", load_best_model_at_end=False, **options)
    for split in ("train_dataset", "eval_dataset"):
        rows = getattr(trainer, split)
        setattr(trainer, split, rows.add_column("utterance_id", [f"u{i:02}" for i in range(len(rows))]))
    return trainer


def spoilt(batch: dict, at: float) -> dict:
    """Makes the audio infinite in the row of an arousal."""
    batch["input_features"][batch["labels"]["arousal"] == at] = float("inf")
    return batch


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loss_that_is_not_finite_stops_training_with_the_batch_named(tmp_path, workers):
    trainer = named_trainer(tmp_path, dataloader_num_workers=workers)
    bad = 17
    arousal = torch.tensor(trainer.train_dataset["arousal"][bad])
    trainer.data_collator = lambda rows: spoilt(collate(rows), arousal)
    seen = []

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            seen.append(state.global_step)

    trainer.add_callback(Watch())
    with pytest.raises(DivergedError) as stopped:
        trainer.train()
    ids = re.findall(r"u\d\d", str(stopped.value))
    assert f"u{bad}" in ids and len(ids) == len(set(ids)) == 8
    assert f"at step {len(seen) + 1}:" in str(stopped.value)  # no step was taken on it
    assert all(tensor.isfinite().all() for tensor in weights(trainer.model).values())


def test_a_gradient_that_is_not_finite_stops_training_before_the_step(tmp_path):
    trainer = named_trainer(tmp_path, gradient_accumulation_steps=2)
    trained = next(p for p in trainer.model.parameters() if p.requires_grad)
    trained.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(DivergedError, match="gradient is nan at step 1") as stopped:
        trainer.train()
    assert len(set(re.findall(r"u\d\d", str(stopped.value)))) == 16  # of both micro-batches
    assert all(tensor.isfinite().all() for tensor in weights(trainer.model).values())


def test_a_prediction_that_is_not_finite_names_its_batch(tmp_path):
    trainer = named_trainer(tmp_path)
    with torch.no_grad():
        trainer.model.heads["emotion"][-1].bias.fill_(float("nan"))
    with pytest.raises(DivergedError, match="u00, u01, u02, u03, u04, u05, u06, u07"):
        trainer.evaluate()


# ── two processes ───────────────────────────────────────────────────────────────────────────────────────────────────


def one_of_two(rank, folder):
    """Each of two processes; only the second is told to end."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    options = {"rows": 36, "num_train_epochs": 3}
    whole = toy_trainer(Path(folder, "whole"), tiny_model(audio_context="trimmed", dropout=0.3), **options)
    whole.train()
    first = toy_trainer(Path(folder, "parts"), tiny_model(audio_context="trimmed", dropout=0.3), **options)
    if rank == 1:
        first.add_callback(AtStep(4, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    first.add_callback(CheckpointOnTermination())
    with pytest.raises(Preempted):
        first.train()
    assert first.state.global_step == 4
    torch.distributed.barrier()
    second = toy_trainer(Path(folder, "parts"), tiny_model(audio_context="trimmed", dropout=0.3), **options)
    second.train(resume_from_checkpoint=True)
    assert_equal_weights(weights(second.model), weights(whole.model))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_end_at_one_step_whichever_was_told(tmp_path):
    spawn(one_of_two, (str(tmp_path),))
    assert last_checkpoint(tmp_path / "parts") is not None
