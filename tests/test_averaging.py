"""Properties of the average of weights: what it is, where it stands in for them, and that training never sees it."""

import numpy as np
import pytest
import torch
from conftest import assert_equal_weights
from safetensors.torch import load_file
from test_resuming import BEST, resumed, terminated
from test_trainer import toy_trainer, weights
from transformers import TrainerCallback

from modeling_mmer import MMERForEmotionRecognition
from modeling_mmer.training.arguments import RunArguments
from modeling_mmer.training.averaging import WEIGHTS
from modeling_mmer.training.resuming import last_checkpoint

WITHOUT_CHOICE = {"save_strategy": "no", "load_best_model_at_end": False}


class Recorder(TrainerCallback):
    """The weights at the start and after every step."""

    def __init__(self):
        self.taken = []

    def on_train_begin(self, args, state, control, model, **kwargs):
        self.taken.append({name: values.numpy().copy() for name, values in weights(model).items()})

    def on_step_end(self, args, state, control, model, **kwargs):
        self.on_train_begin(args, state, control, model)


def recorded(folder, **options):
    trainer = toy_trainer(folder, **(WITHOUT_CHOICE | options))
    recorder = Recorder()
    trainer.add_callback(recorder)
    trainer.train()
    return trainer, recorder.taken


def test_the_model_is_the_weighted_mean_of_all_weights_there_were(tmp_path):
    """In closed form: w̄ = Σ_s c_s w_s, where c_s = (1 − β_s) Π_{r>s} β_r, and c_0 is the product of all β."""
    trainer, taken = recorded(tmp_path, ema_decay=0.7)
    steps = np.arange(1, len(taken))
    beta = np.minimum(0.7, (1 + steps) / (10 + steps))
    later = np.append(np.cumprod(beta[::-1])[::-1], 1.0)  # later[s]: the product of β after step s
    share = np.append(later[0], (1 - beta) * later[1:])
    assert share.sum() == pytest.approx(1)
    for name, found in weights(trainer.model).items():
        expected = sum(c * of_step[name] for c, of_step in zip(share, taken, strict=True))
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5, err_msg=name)


def test_training_never_sees_it(tmp_path):
    plain, averaged = (recorded(tmp_path / str(decay), ema_decay=decay)[1] for decay in (0, 0.9))
    for expected, found in zip(plain, averaged, strict=True):
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_it_is_what_a_checkpoint_holds_and_what_was_judged(tmp_path):
    trainer = toy_trainer(tmp_path, ema_decay=0.9, **BEST)
    trainer.train()
    best = trainer.state.best_model_checkpoint
    stored = MMERForEmotionRecognition.from_pretrained(best)
    assert_equal_weights(weights(trainer.model), weights(stored))
    assert trainer.evaluate()["eval_score"] == pytest.approx(trainer.state.best_metric, abs=1e-6)
    of_training = load_file(f"{best}/{WEIGHTS}")
    assert of_training.keys() == {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    assert any(not torch.equal(of_training[name], stored.state_dict()[name]) for name in of_training)


@pytest.mark.parametrize("step", [7, 10])  # within an epoch, and at its end
def test_a_terminated_run_goes_on_as_the_uninterrupted_one(tmp_path, step):
    options = BEST | {"ema_decay": 0.9}
    whole = toy_trainer(tmp_path / "whole", **options)
    whole.train()
    terminated(tmp_path / "parts", step, **options)
    second = resumed(tmp_path / "parts", **options)
    assert second.state.best_metric == whole.state.best_metric
    last = [load_file(f"{last_checkpoint(tmp_path / name)}/{WEIGHTS}") for name in ("parts", "whole")]
    assert_equal_weights(*last)
    assert_equal_weights(weights(second.model), weights(whole.model))


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_another_decay_is_refused(tmp_path, decay):
    with pytest.raises(ValueError, match="ema_decay must be at least 0 and below 1"):
        RunArguments(output_dir=str(tmp_path), ema_decay=decay, use_cpu=True)
