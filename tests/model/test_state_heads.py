"""`state_heads`: linear heads on the means of all encoder states, against NumPy."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from conftest import labels, raw_batch, tiny_config, tiny_model
from trainers import toy_trainer
from transformers.initialization import guard_torch_init_functions

from modeling_mmer import MMERForEmotionRecognition
from modeling_mmer.model.state_heads import REFERENCE_WIDTH
from modeling_mmer.training.balance import best_balance, fit_balance

CLASS_TASKS = ("emotion", "sentiment")


def states_of(model, batch) -> dict[str, torch.Tensor]:
    """A batch's encoder states as transformers gives them, as inputs, with noise behind each row's own."""
    given = {}
    with torch.no_grad():
        for modality, (states, mask) in model.model.encoders(batch).items():
            noise = torch.randn(states.shape, generator=torch.Generator().manual_seed(5))
            states = torch.where(mask[:, None, :, None], states, noise)
            given |= {f"{modality}_hidden_states": states, f"{modality}_mask": mask.long()}
    return given


def without_state_heads(model, **config):
    """The same weights without these heads: what f alone says."""
    alone = tiny_model(**config)
    alone.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("state_heads")})
    return alone


def in_numpy(model, given, task: str, row: int, modalities: tuple[str, ...]) -> np.ndarray:
    """The sum of the modalities' linear maps of a row's mean states."""
    total = np.zeros(getattr(model.config, f"num_{task}_labels", len(getattr(model.config, f"{task}_labels"))))
    for modality in modalities:
        mask = given[f"{modality}_mask"][row].numpy().astype(bool)
        if mask.any():
            mean = given[f"{modality}_hidden_states"][row].double().numpy()[:, mask].mean(1).flatten()
            standardizer = model.model.embedders[modality].standardizer
            if standardizer is not None:
                mean = (mean - standardizer.mean.flatten().numpy()) / standardizer.std.flatten().numpy()
            head = model.state_heads[modality][task]
            weight, bias = head.weight.detach().double().numpy(), head.bias.detach().double().numpy()
            total = total + weight @ mean * (REFERENCE_WIDTH / mean.size) + bias
    return total


@pytest.mark.parametrize("normalization", ["none", "standardize"])
def test_logits_are_the_mean_of_f_and_of_linear_maps_of_the_mean_states(normalization):
    config = {"state_normalization": normalization}
    model, batch = tiny_model(state_heads=True, **config), raw_batch()
    if normalization == "standardize":
        model.model.calibrate([batch])
    given, alone = states_of(model, batch), without_state_heads(model, **config)
    for inputs in (batch, given):
        found = model(**inputs, return_combinations=True).combinations
        of_f = alone(**inputs, return_combinations=True).combinations
        for name, modalities in model.config.combinations.items():
            for task in CLASS_TASKS:
                rows = ~of_f[name][task].isnan().any(-1)
                for row in rows.nonzero().flatten().tolist():
                    expected = (
                        of_f[name][task][row].detach().numpy() + in_numpy(model, given, task, row, modalities)
                    ) / 2
                    np.testing.assert_allclose(found[name][task][row].detach().numpy(), expected, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(found[name]["arousal"], of_f[name]["arousal"], equal_nan=True)


def test_the_fullest_pass_says_what_its_combination_says():
    model, batch = tiny_model(state_heads=True), raw_batch()
    combinations = model(**batch, return_combinations=True).combinations
    logits = model(**batch).logits
    for row, name in enumerate(["audio_text", "audio", "text", "audio_text"]):
        torch.testing.assert_close(logits[row], combinations[name]["emotion"][row], rtol=1e-4, atol=1e-4)


def test_they_start_at_zero_and_learn_by_a_term_of_their_own():
    model, batch = MMERForEmotionRecognition(tiny_config(state_heads=True)), raw_batch()
    output = model.train()(**batch, labels=labels())
    uniform = np.mean([np.log(4), np.log(3)])  # of two tasks with as many judged combinations
    assert output.losses["state_heads"].item() == pytest.approx(uniform, rel=1e-5)
    output.losses["state_heads"].backward()
    touched = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"state_heads"}
    weights = model.loss_weights
    total = sum(weights[name] * output.losses[name] for name in weights)
    torch.testing.assert_close(output.loss, total)


def test_they_are_saved_with_the_model(tmp_path):
    model, batch = tiny_model(state_heads=True), raw_batch()
    model.save_pretrained(tmp_path)
    loaded = MMERForEmotionRecognition.from_pretrained(tmp_path).eval()
    assert loaded.config.state_heads
    torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits)


def test_the_balance_minimises_the_cross_entropy():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 200)
    of_f, of_states = random.normal(size=(2, 200, 3))
    of_f[np.arange(200), labels] += 1
    of_states[np.arange(200), labels] += 2
    of_f[:5], labels[5:10] = np.nan, -100  # rows without the modality, and without a label

    def cross_entropy(alpha, beta):
        logits = (alpha * of_f + beta * of_states)[10:]
        return np.mean(np.log(np.exp(logits).sum(-1)) - logits[np.arange(190), labels[10:]])

    grid = np.linspace(0, 3, 61)
    best = min((cross_entropy(alpha, beta), alpha, beta) for alpha in grid for beta in grid)
    assert best_balance(of_f, of_states, labels) == pytest.approx(best[1:], abs=0.05)
    assert best_balance(of_f, -of_states, labels)[1] == pytest.approx(0, abs=1e-3)  # never turned round
    assert best_balance(of_f[:20], of_states[:20], labels[:20]) == (0.5, 0.5)  # ten rows say nothing


def test_each_row_counts_by_the_balance_of_what_it_has():
    model, batch = tiny_model(state_heads=True), raw_batch()
    for number, weights in enumerate([(1.0, 0.0), (0.0, 1.0), (0.25, 2.0)]):
        for task in CLASS_TASKS:
            model.state_heads.balance(task)[number] = torch.tensor(weights)
    given, alone = states_of(model, batch), without_state_heads(model)
    of_f = alone(**batch, return_combinations=True).combinations
    logits, combinations = model(**batch).logits, model(**batch, return_combinations=True).combinations
    for row, name in enumerate(["audio_text", "audio", "text", "audio_text"]):
        alpha, beta = {"audio": (1, 0), "text": (0, 1), "audio_text": (0.25, 2)}[name]
        of_states = in_numpy(model, given, "emotion", row, model.config.combinations[name])
        expected = alpha * of_f[name]["emotion"][row].detach().numpy() + beta * of_states
        for found in (logits[row], combinations[name]["emotion"][row]):
            np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-3, atol=1e-3)


def test_a_run_ends_with_the_balance_of_its_validation_rows(tmp_path):
    model = tiny_model(state_heads=True, audio_context="trimmed")
    trainer = toy_trainer(tmp_path, model, rows=60)
    rows = trainer.train_dataset
    before = {name: value.clone() for name, value in model.state_dict().items() if "balance" not in name}
    assert fit_balance(trainer, rows)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    predicted = trainer.predict(rows)
    labels = np.asarray(predicted.label_ids["emotion"])
    for number, name in enumerate(model.config.combinations):
        logits = predicted.predictions[name]["emotion"]
        judged = (labels >= 0) & np.isfinite(logits).all(-1)

        def cross_entropy(logits, judged=judged):
            return np.mean(np.logaddexp.reduce(logits[judged], axis=-1) - logits[judged, labels[judged]])

        found = cross_entropy(logits)
        for change in ([0.1, 0], [0, 0.1], [-0.1, 0], [0, -0.1]):
            balance = model.state_heads.balance("emotion")
            kept = balance[number].clone()
            balance[number] = (kept + torch.tensor(change)).clamp(min=0)
            assert found <= cross_entropy(trainer.predict(rows).predictions[name]["emotion"]) + 1e-6
            balance[number] = kept


def test_nothing_is_fitted_to_few_rows_or_without_such_heads(tmp_path):
    trainer = toy_trainer(tmp_path / "few", tiny_model(state_heads=True, audio_context="trimmed"))
    assert not fit_balance(trainer, trainer.train_dataset.select(range(19)))
    assert all((trainer.model.state_heads.balance(task) == 0.5).all() for task in ("emotion", "sentiment"))
    without = toy_trainer(tmp_path / "without")
    assert not fit_balance(without, without.train_dataset)


@pytest.mark.parametrize("meanwhile", [nullcontext, guard_torch_init_functions])  # another thread loads a model, too
@pytest.mark.parametrize("emotions", [("calm", "angry", "sad", "glad"), ("calm", "angry")])
def test_they_start_anew_for_other_labels(tmp_path, emotions, meanwhile):
    model = tiny_model(state_heads=True)
    model.state_heads.balance("emotion")[:] = 0.9
    model.state_heads.balance("sentiment")[:] = 0.8
    model.save_pretrained(tmp_path)
    how = {"emotion_labels": emotions, "ignore_mismatched_sizes": True}
    with meanwhile():
        renewed = MMERForEmotionRecognition.from_pretrained(tmp_path, **how).state_heads
    for modality, of_tasks in renewed.items():
        assert len(of_tasks["emotion"].weight) == len(emotions)
        assert not of_tasks["emotion"].weight.any() and not of_tasks["emotion"].bias.any()
        assert torch.equal(of_tasks["sentiment"].weight, model.state_heads[modality]["sentiment"].weight)
    assert (renewed.balance("emotion") == 0.5).all()
    assert torch.equal(renewed.balance("sentiment"), model.state_heads.balance("sentiment"))
