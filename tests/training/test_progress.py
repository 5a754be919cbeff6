"""The log of a run: in trackers, on the terminal, and in `training_curves.png`."""

from types import SimpleNamespace

import pytest
from conftest import tiny_model
from trainers import toy_trainer
from transformers import TrainerCallback

from modeling_mmer.model.configuration_mmer import COMBINATIONS
from modeling_mmer.report.plots import CurvesCallback
from modeling_mmer.training.progress import lines


class Tracker(TrainerCallback):
    """What TensorBoard, trackio and wandb are given: each entry of the log."""

    def __init__(self):
        self.entries = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.entries.append(dict(logs))


def test_trackers_get_terms_tasks_combinations_rate_norm_and_layer_weights(tmp_path):
    trainer, tracker = toy_trainer(tmp_path, load_best_model_at_end=False), Tracker()
    trainer.add_callback(tracker)
    trainer.train()
    names = {name for entry in tracker.entries for name in entry}
    assert {"loss", "loss_supervised", "loss_mae", "loss_contrastive", "loss_emotion", "loss_valence"} <= names
    assert {"learning_rate", "grad_norm", "eval_loss_mae", "eval_score"} <= names
    assert {"eval_audio_ua", "eval_text_ua", "eval_audio_text_ua", "eval_audio_text_valence_ccc"} <= names
    mixes = [entry for entry in tracker.entries if "audio_layer_0" in entry]
    assert len(mixes) == 2  # one for each evaluation
    for modality, states in (("audio", 3), ("text", 4)):
        last = [mixes[-1][f"{modality}_layer_{layer}"] for layer in range(states)]
        assert f"{modality}_layer_{states}" not in names
        assert last == pytest.approx(trainer.model.model.embedders[modality].layer_weights.tolist())


def test_layer_weights_have_the_numbers_of_the_encoders_layers(tmp_path):
    trainer, tracker = toy_trainer(tmp_path, tiny_model(audio_context="trimmed", audio_layers=[0, 2])), Tracker()
    trainer.add_callback(tracker)
    trainer.train()
    assert {"audio_layer_0", "audio_layer_2"} == {n for e in tracker.entries for n in e if n.startswith("audio_layer")}


def test_tensorboard_gets_them_too(tmp_path, monkeypatch):
    board = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    toy_trainer(tmp_path, report_to="tensorboard").train()
    events = board.EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert {"train/loss_mae", "eval/audio_ua", "train/audio_layer_0", "train/grad_norm"} <= set(
        events.Tags()["scalars"]
    )


def test_the_log_is_lines_that_one_can_read(tmp_path, capsys):
    toy_trainer(tmp_path, num_train_epochs=1).train()
    printed = capsys.readouterr().out.splitlines()
    steps = [line for line in printed if " loss " in line and "validation" not in line]
    assert len(steps) == 5 and all("{" not in line for line in printed)
    for number, line in enumerate(steps, 1):
        assert line.startswith(f"step {number}/5  epoch {number / 5:.2f}  loss ")
        assert " mae " in line and " lr " in line and " grad " in line
    table = printed[next(i for i, line in enumerate(printed) if "validation" in line) :]
    assert [line.split("  ")[2].strip() for line in table[1:4]] == ["audio", "text", "audio + text"]


def test_an_evaluations_figures_stand_with_their_combination():
    logs = {"eval_loss": 2.5, "eval_loss_mae": 0.25, "eval_score": 0.5, "eval_audio_ua": 0.25, "eval_text_ua": 0.5}
    logs |= {"eval_audio_text_ua": 0.75, "eval_audio_text_valence_ccc": -0.125, "eval_retrieval_audio_to_text": 0.0625}
    state = SimpleNamespace(global_step=7, max_steps=100, epoch=1.0)
    assert list(lines(logs, state, COMBINATIONS)) == [
        "step   7/100  epoch 1.00  validation  score 0.5000  loss 2.5  mae 0.25",
        "    audio         ua  25.0 %",
        "    text          ua  50.0 %",
        "    audio + text  ua  75.0 %  valence ccc -0.125",
        "    retrieval     audio to text   6.2 %",
    ]
    assert not list(lines({"audio_layer_0": 0.5}, state, COMBINATIONS))


def test_the_curves_are_there_while_it_runs(tmp_path):
    trainer, sizes = toy_trainer(tmp_path), []

    class Look(TrainerCallback):
        def on_evaluate(self, args, state, control, **kwargs):
            sizes.append((tmp_path / "training_curves.png").read_bytes())

    trainer.add_callback(CurvesCallback())
    trainer.add_callback(Look())
    trainer.train()
    assert len(set(sizes)) == 2 and all(picture.startswith(b"\x89PNG") for picture in sizes)
