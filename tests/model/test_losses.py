"""The supervised term and the total of Eq. 7 against NumPy and plain loops, and what they make of missing labels."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist

from modeling_mmer.model.distributed import global_batch
from modeling_mmer.model.losses import (
    ccc_loss,
    class_loss,
    supervised_loss,
    total_loss,
)
from modeling_mmer.model.tasks import NOT_LABELLED, Task

NAN = float("nan")


def uniform(*shape, seed=0, low=0.0, high=1.0):
    return low + (high - low) * torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def expected_ccc_loss(predictions, targets):
    """1 − CCC by population moments, in float64, over the rows whose target is a number."""
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    x, y = x[~np.isnan(y)], y[~np.isnan(y)]
    n = len(y)
    mean_x, mean_y = sum(x) / n, sum(y) / n
    var_x, var_y = sum((x - mean_x) ** 2) / n, sum((y - mean_y) ** 2) / n
    covariance = sum((x - mean_x) * (y - mean_y)) / n
    return 1 - 2 * covariance / (var_x + var_y + (mean_x - mean_y) ** 2)


def expected_class_loss(logits, targets, weights=None):
    """Cross-entropy in float64: the weighted mean of −log softmax over the labelled rows."""
    total, weight_sum = 0.0, 0.0
    for row, target in zip(np.asarray(logits, dtype=np.float64), np.asarray(targets), strict=True):
        if target != -100:
            weight = 1.0 if weights is None else float(weights[target])
            total += weight * (math.log(sum(math.exp(value) for value in row)) - row[target])
            weight_sum += weight
    return total / weight_sum


# ── supervised: L_S ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_ccc_loss_is_the_formula():
    predictions, targets = uniform(20, seed=1, low=2, high=6), uniform(20, seed=2, low=1, high=7)
    assert ccc_loss(predictions, targets).item() == pytest.approx(expected_ccc_loss(predictions, targets), abs=1e-6)


def test_ccc_loss_at_its_fixed_points():
    targets = torch.tensor([1.0, 2.0, 4.0, 7.0])
    variance = (2.5**2 + 1.5**2 + 0.5**2 + 3.5**2) / 4  # about the mean, 3.5
    assert ccc_loss(targets, targets).item() == pytest.approx(0, abs=1e-6)
    assert ccc_loss(7 - targets, targets).item() == pytest.approx(2, abs=1e-6)  # mirrored about the mean
    assert ccc_loss(targets + 3, targets).item() == pytest.approx(9 / (2 * variance + 9), abs=1e-6)


def test_ccc_loss_leaves_unlabelled_rows_out():
    predictions = uniform(6, seed=3).requires_grad_()
    targets = torch.tensor([0.1, NAN, 0.9, 0.4, NAN, 0.7])
    loss = ccc_loss(predictions, targets)
    assert loss.item() == pytest.approx(expected_ccc_loss(predictions.detach(), targets), abs=1e-6)
    loss.backward()
    assert (predictions.grad[targets.isnan()] == 0).all()
    assert (predictions.grad[~targets.isnan()] != 0).all()


@pytest.mark.parametrize("targets", [[3.0], [NAN, NAN], [NAN, 2.0, NAN], [4.0, 4.0, 4.0], [4.0, NAN, 4.0]])
def test_ccc_loss_is_zero_without_two_labels_that_differ(targets):
    predictions = uniform(len(targets)).requires_grad_()
    loss = ccc_loss(predictions, torch.tensor(targets))
    loss.backward()
    assert loss == 0 and (predictions.grad == 0).all()


def test_ccc_loss_of_constant_predictions_is_one_and_finite():
    predictions = torch.full((5,), 4.0, requires_grad=True)
    loss = ccc_loss(predictions, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    loss.backward()
    assert loss.item() == pytest.approx(1, abs=1e-6)
    assert predictions.grad.isfinite().all()


def test_ccc_loss_of_bf16_predictions_is_computed_in_float32():
    predictions = uniform(64, seed=4, low=3.9, high=4.1).bfloat16()
    targets = uniform(64, seed=5, low=3, high=5)
    loss = ccc_loss(predictions, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected_ccc_loss(predictions.float(), targets), abs=1e-5)
    assert ccc_loss(predictions, targets.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_class_loss_is_the_cross_entropy_of_the_labelled_rows(weights):
    logits, targets = 3 * normal(6, 3, seed=6), torch.tensor([0, 2, -100, 1, 1, -100])
    loss = class_loss(logits, targets, None if weights is None else torch.tensor(weights))
    assert loss.item() == pytest.approx(expected_class_loss(logits, targets, weights), abs=1e-6)


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_smoothed_labels_give_a_share_of_each_target_to_all_classes(weights):
    logits, targets, share = 3 * normal(6, 3, seed=6), [0, 2, -100, 1, 1, -100], 0.3
    loss = class_loss(logits, torch.tensor(targets), None if weights is None else torch.tensor(weights), share)
    of_class = np.asarray(weights or [1.0, 1.0, 1.0])
    total = weight = 0.0
    for row, target in zip(logits.double().numpy(), targets, strict=True):
        if target >= 0:
            log_probabilities = row - np.log(np.exp(row).sum())
            smoothed = np.full(3, share / 3) + (1 - share) * np.eye(3)[target]
            total -= (smoothed * of_class * log_probabilities).sum()
            weight += of_class[target]
    assert loss.item() == pytest.approx(total / weight, rel=1e-5)


def test_class_loss_of_bf16_logits_is_computed_in_float32():
    logits, targets = (5 * normal(32, 4, seed=7)).bfloat16(), torch.arange(32) % 4
    loss = class_loss(logits, targets)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected_class_loss(logits.float(), targets), abs=1e-5)


@pytest.mark.parametrize("targets", [[-100], [-100, -100, -100]])
def test_class_loss_is_zero_without_labels(targets):
    logits = normal(len(targets), 4).requires_grad_()
    loss = class_loss(logits, torch.tensor(targets))
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()


def test_a_batch_of_weightless_classes_has_nothing_to_judge():
    """A class weight of 0 leaves that class out; a batch that holds no other must not give 0 / 0."""
    logits, weights = normal(3, 2), torch.tensor([0.0, 1.0])
    assert class_loss(logits, torch.tensor([0, 0, -100]), weights) == 0
    loss = class_loss(logits, torch.tensor([0, 1, -100]), weights)
    assert loss.item() == pytest.approx(expected_class_loss(logits, [0, 1, -100], [0, 1]), abs=1e-6)


def supervised_batch():
    """Six rows: 0 and 1 have both modalities, 2 to 4 audio alone, 5 text alone."""
    has_audio = torch.tensor([True, True, True, True, True, False])
    has_text = torch.tensor([True, True, False, False, False, True])
    present = {"audio": has_audio, "text": has_text, "audio_text": has_audio & has_text}
    predictions = {
        name: {
            "emotion": 2 * normal(6, 4, seed=10 * index),
            "sentiment": 2 * normal(6, 3, seed=10 * index + 1),
            "valence": uniform(6, seed=10 * index + 2, low=1, high=7),
            "arousal": uniform(6, seed=10 * index + 3, low=1, high=7),
        }
        for index, name in enumerate(present)
    }
    labels = {
        "emotion": torch.tensor([0, 3, 1, -100, 2, 2]),
        "sentiment": torch.tensor([-100, -100, 0, 2, 2, -100]),  # only rows that have audio alone
        "valence": torch.tensor([2.0, 2.0, 5.0, NAN, 3.0, 6.0]),  # rows 0 and 1 agree: no CCC of audio_text
        "arousal": torch.tensor([NAN, 1.0, 6.0, 3.0, 2.0, NAN]),  # one labelled row has text: no CCC of text
    }
    return predictions, labels, present


JUDGED = {  # task → combinations that have something to judge in supervised_batch
    "emotion": ["audio", "text", "audio_text"],
    "sentiment": ["audio"],
    "valence": ["audio", "text"],
    "arousal": ["audio"],
}


def of_tasks_and_total(predictions, labels, present, emotion_weights=None):
    """The total of `supervised_loss`, and its tasks' parts."""
    tasks = [
        Task("emotion", tuple("abcd"), class_weights=emotion_weights),
        Task("sentiment", tuple("abc")),
        *(Task(name, scale=(1, 7)) for name in ("valence", "arousal")),
    ]
    terms = supervised_loss(predictions, labels, present, tasks)
    return terms.pop("supervised"), terms


def expected_terms(predictions, labels, present, weights):
    terms = {}
    for task, combinations in JUDGED.items():
        for name in combinations:
            rows = present[name].numpy()
            predicted, target = predictions[name][task].detach().numpy()[rows], labels[task].numpy()[rows]
            terms[task, name] = (
                expected_class_loss(predicted, target, weights.get(task))
                if predicted.ndim == 2
                else expected_ccc_loss(predicted, target)
            )
    return terms


@pytest.mark.parametrize("emotion_weights", [None, [1.0, 0.5, 2.0, 3.0]])
def test_supervised_loss_is_the_flat_mean_of_the_terms_that_judge_something(emotion_weights):
    predictions, labels, present = supervised_batch()
    for of_combination in predictions.values():
        for predicted in of_combination.values():
            predicted.requires_grad_()
    total, of_tasks = of_tasks_and_total(predictions, labels, present, emotion_weights)
    terms = expected_terms(predictions, labels, present, {"emotion": emotion_weights})
    assert len(terms) == 7
    assert total.item() == pytest.approx(sum(terms.values()) / 7, abs=1e-5)
    assert total.requires_grad and set(of_tasks) == set(JUDGED)
    for task, combinations in JUDGED.items():
        mean = sum(terms[task, name] for name in combinations) / len(combinations)
        assert of_tasks[task].item() == pytest.approx(mean, abs=1e-5)
        assert not of_tasks[task].requires_grad  # for the log only


def test_supervised_loss_ignores_rows_outside_a_combination():
    predictions, labels, present = supervised_batch()
    clean, _ = of_tasks_and_total(predictions, labels, present)
    for name, of_tasks in predictions.items():
        for predicted in of_tasks.values():
            predicted[~present[name]] = NAN
            predicted.requires_grad_()
    total, _ = of_tasks_and_total(predictions, labels, present)
    assert total.item() == pytest.approx(clean.item(), rel=1e-6)
    total.backward()
    for name, of_tasks in predictions.items():
        for task, predicted in of_tasks.items():
            if name in JUDGED[task]:
                assert (predicted.grad[~present[name]] == 0).all()
                assert (predicted.grad[present[name]] != 0).any()


def test_tasks_without_labels_are_no_terms():
    predictions, labels, present = supervised_batch()
    terms = expected_terms(predictions, labels, present, {})
    emotion = [value for (task, _), value in terms.items() if task == "emotion"]
    only = {"emotion": labels["emotion"]}
    voided = {
        "emotion": labels["emotion"],
        "sentiment": torch.full((6,), NOT_LABELLED),
        "valence": torch.full((6,), NAN),
        "arousal": torch.full((6,), NAN),
    }
    for some_labels in (only, voided):
        total, of_tasks = of_tasks_and_total(predictions, some_labels, present)
        assert total.item() == pytest.approx(sum(emotion) / 3, abs=1e-5)
        assert {task for task, mean in of_tasks.items() if not mean.isnan()} == {"emotion"}


@pytest.mark.parametrize("labelled_rows", ["none", "no tasks", "absent"])
def test_supervised_loss_with_nothing_to_judge_is_a_zero_with_a_graph(labelled_rows):
    predictions, labels, present = supervised_batch()
    for of_tasks in predictions.values():
        for predicted in of_tasks.values():
            predicted.requires_grad_()
    if labelled_rows == "none":
        labels = {t: torch.full_like(v, NOT_LABELLED if v.dtype == torch.long else NAN) for t, v in labels.items()}
    elif labelled_rows == "no tasks":
        labels = {}
    else:
        present = {name: torch.zeros(6, dtype=torch.bool) for name in present}
    total, of_tasks = of_tasks_and_total(predictions, labels, present)
    assert total.item() == 0 and all(mean.isnan() for mean in of_tasks.values())
    total.backward()
    for of_combination in predictions.values():
        for predicted in of_combination.values():
            assert (predicted.grad == 0).all()


# ── total: L ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_total_loss_is_eq_7():
    terms = {"supervised": 0.5, "mae": 0.03, "contrastive": 2.0, "emotion": 9.0, "valence": 7.0}
    losses = {name: torch.tensor(value, requires_grad=True) for name, value in terms.items()}
    total = total_loss(losses, {"supervised": 1, "mae": 10, "contrastive": 0.25})
    assert total.item() == pytest.approx(0.5 + 10 * 0.03 + 0.25 * 2.0)
    total.backward()
    gradients = {name: None if loss.grad is None else loss.grad.item() for name, loss in losses.items()}
    assert gradients == {"supervised": 1, "mae": 10, "contrastive": 0.25, "emotion": None, "valence": None}


@pytest.mark.parametrize(
    ("names", "expected"), [([], 0.5), (["mae"], 0.8), (["contrastive"], 2.5), (["mae", "contrastive"], 2.8)]
)
def test_a_term_that_was_not_computed_adds_nothing(names, expected):
    values = {"mae": torch.tensor(0.03), "contrastive": torch.tensor(2.0)}
    losses = {"supervised": torch.tensor(0.5)} | {name: values[name] for name in names}
    assert total_loss(losses, {"supervised": 1, "mae": 10, "contrastive": 1}).item() == pytest.approx(expected)


# ── gather ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rows", [torch.arange(6.0).view(3, 2), torch.tensor([1, 2]), torch.tensor([True, False])])
def test_the_global_batch_of_one_process_is_its_own(rows):
    assert global_batch(rows, training=True) is rows
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # a launcher with one process
    try:
        assert global_batch(rows, training=True) is rows
    finally:
        dist.destroy_process_group()
