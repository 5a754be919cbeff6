"""The three terms of Eq. 7 against NumPy and plain loops, and what each makes of what a row or a batch lacks."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.distributed as dist

from modeling_mmer.model.autoencoder import draw_mask, reconstruction_errors
from modeling_mmer.model.distributed import global_batch
from modeling_mmer.model.losses import (
    ccc_loss,
    class_loss,
    contrastive_loss,
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


@pytest.mark.parametrize("targets", [[], [3.0], [NAN, NAN], [NAN, 2.0, NAN], [4.0, 4.0, 4.0], [4.0, NAN, 4.0]])
def test_ccc_loss_is_none_without_two_labels_that_differ(targets):
    assert ccc_loss(uniform(len(targets)), torch.tensor(targets)) is None


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


@pytest.mark.parametrize("targets", [[], [-100], [-100, -100, -100]])
def test_class_loss_is_none_without_labels(targets):
    assert class_loss(normal(len(targets), 4), torch.tensor(targets, dtype=torch.long)) is None


def test_a_batch_of_weightless_classes_has_nothing_to_judge():
    """A class weight of 0 leaves that class out; a batch that holds no other must not give 0 / 0."""
    logits, weights = normal(3, 2), torch.tensor([0.0, 1.0])
    assert class_loss(logits, torch.tensor([0, 0, -100]), weights) is None
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
        assert set(of_tasks) == {"emotion"}


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
    assert total.item() == 0 and of_tasks == {}
    total.backward()
    for of_combination in predictions.values():
        for predicted in of_combination.values():
            assert (predicted.grad == 0).all()


# ── masked autoencoder: L_MAE ───────────────────────────────────────────────────────────────────────────────────────


def prefix_mask(lengths, width):
    return torch.arange(width) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("percent", [10, 25, 29, 30, 50, 57, 70, 75, 90])
def test_draw_mask_takes_the_share_rounded_down_and_one_of_two(percent):
    lengths = list(range(121))
    masked = draw_mask(prefix_mask(lengths, 120), percent / 100)
    expected = [0 if n < 2 else max(1, percent * n // 100) for n in lengths]  # exact, in integers
    assert masked.sum(-1).tolist() == expected


@pytest.mark.parametrize(("ratio", "expected"), [(0, [0, 0, 0, 0, 0]), (0.0, [0, 0, 0, 0, 0]), (1, [0, 0, 2, 3, 9])])
def test_draw_mask_at_the_boundaries(ratio, expected):
    assert draw_mask(prefix_mask([0, 1, 2, 3, 9], 9), ratio).sum(-1).tolist() == expected


def test_draw_mask_takes_real_tokens_only():
    real = uniform(200, 15, seed=8) < 0.6  # with holes, not only at the end
    masked = draw_mask(real, 0.5)
    assert masked.dtype == torch.bool and masked.shape == real.shape
    assert not (masked & ~real).any()
    assert masked.sum(-1).tolist() == [n // 2 if n >= 2 else 0 for n in real.sum(-1).tolist()]


def test_draw_mask_draws_every_set_of_tokens_equally_often():
    torch.manual_seed(0)
    rows, tokens, taken = 8000, 6, 3
    real = torch.zeros(rows, 8, dtype=torch.bool)
    real[:, :tokens] = True
    drawn = Counter(tuple(row.nonzero().flatten().tolist()) for row in draw_mask(real, 0.5))
    sets = math.comb(tokens, taken)
    assert len(drawn) == sets
    deviation = math.sqrt(rows / sets * (1 - 1 / sets))
    assert all(abs(count - rows / sets) < 5 * deviation for count in drawn.values())


def test_draw_mask_is_deterministic_by_seed():
    real = torch.ones(4, 30, dtype=torch.bool)
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(draw_mask(real, 0.5))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_fixed_mask_depends_on_nothing_but_the_row():
    """Not on the batch, its padding or what was drawn before; and what is drawn next is as if it had not been."""
    lengths = [5, 0, 1, 12, 30, 30]
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    masked = draw_mask(prefix_mask(lengths, 30), 0.5, fixed=True)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert masked.sum(-1).tolist() == [2, 0, 0, 6, 15, 15]
    torch.manual_seed(2)
    for row, length in enumerate(lengths):
        for width in (max(length, 1), length + 17, 100):
            alone = draw_mask(prefix_mask([length], width), 0.5, fixed=True)[0]
            assert torch.equal(alone[:length], masked[row, :length]) and not alone[length:].any()
    assert not torch.equal(masked[4], torch.arange(30) % 2 == 1)


def test_reconstruction_errors_are_the_inner_sums_of_eq_5():
    reconstructed, target = normal(4, 5, 3, seed=9), normal(4, 5, 3, seed=10)
    counted = prefix_mask([5, 2, 0, 3], 5)
    counted[3, 1] = False  # counted positions need not be the first ones
    expected = []
    for i in range(4):
        positions = [j for j in range(5) if counted[i, j]]
        errors = [
            sum((reconstructed[i, j, k].item() - target[i, j, k].item()) ** 2 for k in range(3)) / 3 for j in positions
        ]
        expected.append(sum(errors) / len(positions) if positions else 0.0)
    assert reconstruction_errors(reconstructed, target, counted).tolist() == pytest.approx(expected, abs=1e-6)


def test_reconstruction_errors_do_not_see_what_is_not_counted():
    target, counted = normal(2, 4, 3, seed=11), prefix_mask([4, 2], 4)
    reconstructed = normal(2, 4, 3, seed=12)
    other = torch.where(counted[..., None], reconstructed, 1e6)
    other.requires_grad_()
    errors = reconstruction_errors(other, target, counted)
    torch.testing.assert_close(errors, reconstruction_errors(reconstructed, target, counted))
    errors.sum().backward()
    assert ((other.grad != 0).any(-1) == counted).all()


def test_reconstruction_errors_of_bf16_are_computed_in_float32():
    reconstructed, target = normal(2, 50, 8, seed=13).bfloat16(), normal(2, 50, 8, seed=14).bfloat16()
    errors = reconstruction_errors(reconstructed, target, torch.ones(2, 50, dtype=torch.bool))
    exact = ((reconstructed.double() - target.double()) ** 2).mean((1, 2))
    assert errors.dtype == torch.float32
    assert errors.tolist() == pytest.approx(exact.tolist(), rel=1e-5)


# ── contrastive: L_C ────────────────────────────────────────────────────────────────────────────────────────────────


def expected_contrastive_loss(audio, text, form):
    """Eq. 6 by loops, in float64: half of the mean cross-entropy over rows plus that over columns."""
    audio, text = np.asarray(audio, dtype=np.float64), np.asarray(text, dtype=np.float64)
    n = len(audio)
    similarity = [[sum(a * t for a, t in zip(audio[i], text[j], strict=True)) for j in range(n)] for i in range(n)]
    total = 0.0
    for i in range(n):
        row, column = similarity[i], [similarity[j][i] for j in range(n)]
        for values in (row, column):
            if form == "softmax":
                total += math.log(sum(math.exp(value) for value in values)) - values[i]
            else:
                total -= math.log((values[i] + 1e-8) / (sum(values) + 1e-8))
    return total / (2 * n)


@pytest.mark.parametrize("form", ["softmax", "ratio"])
def test_contrastive_loss_is_eq_6(form):
    audio, text = normal(5, 7, seed=15).relu(), normal(5, 7, seed=16).relu()
    loss = contrastive_loss(audio, text, torch.ones(5, dtype=torch.bool), form)
    assert loss.item() == pytest.approx(expected_contrastive_loss(audio, text, form), abs=1e-5)


def test_a_scale_multiplies_the_cosines():
    audio, text = (torch.nn.functional.normalize(normal(5, 7, seed=seed), dim=-1) for seed in (15, 16))
    loss = contrastive_loss(audio, text, torch.ones(5, dtype=torch.bool), "cosine", torch.tensor([14.0]))
    assert loss.item() == pytest.approx(expected_contrastive_loss(14 * audio, text, "softmax"), abs=1e-5)


@pytest.mark.parametrize("form", ["softmax", "ratio"])
def test_contrastive_loss_of_embeddings_that_tell_nothing_apart_is_log_n(form):
    same = torch.full((6, 4), 0.7)
    assert contrastive_loss(same, same, torch.ones(6, dtype=torch.bool), form).item() == pytest.approx(math.log(6))


def test_softmax_is_the_default_form():
    audio, text, paired = normal(3, 4, seed=17), normal(3, 4, seed=18), torch.ones(3, dtype=torch.bool)
    assert contrastive_loss(audio, text, paired).item() == pytest.approx(
        expected_contrastive_loss(audio, text, "softmax"), abs=1e-5
    )


@pytest.mark.parametrize("form", ["softmax", "ratio"])
def test_unpaired_rows_are_no_row_and_no_column(form):
    audio, text = normal(6, 4, seed=19).relu(), normal(6, 4, seed=20).relu()
    paired = torch.tensor([True, False, True, True, False, True])
    expected = expected_contrastive_loss(audio[paired], text[paired], form)
    audio[~paired], text[~paired] = NAN, 1e9
    audio.requires_grad_(), text.requires_grad_()
    loss = contrastive_loss(audio, text, paired, form)
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    loss.backward()
    for grad in (audio.grad, text.grad):
        assert (grad[~paired] == 0).all()
        assert grad[paired].isfinite().all() and (grad[paired] != 0).any()


@pytest.mark.parametrize("form", ["softmax", "ratio"])
@pytest.mark.parametrize("paired", [[], [False], [True], [False, False, False], [False, True, False]])
def test_contrastive_loss_of_no_or_one_pair_is_a_zero_with_a_graph(form, paired):
    audio = uniform(len(paired), 4, seed=21).requires_grad_()
    text = uniform(len(paired), 4, seed=22).requires_grad_()
    loss = contrastive_loss(audio, text, torch.tensor(paired, dtype=torch.bool), form)
    assert loss.item() == 0
    loss.backward()
    assert (audio.grad == 0).all() and (text.grad == 0).all()


@pytest.mark.parametrize("form", ["softmax", "ratio"])
@pytest.mark.parametrize("kind", ["all zero", "own pair orthogonal", "all orthogonal"])
def test_orthogonal_embeddings_give_a_finite_loss_and_gradient(form, kind):
    audio, text = {
        "all zero": (torch.zeros(3, 4), torch.zeros(3, 4)),
        "own pair orthogonal": (torch.eye(3, 4), torch.eye(3, 4).roll(1, 0)),
        "all orthogonal": (torch.eye(3, 6), torch.eye(3, 6).roll(3, 1)),
    }[kind]
    expected = expected_contrastive_loss(audio, text, form)
    audio.requires_grad_(), text.requires_grad_()
    loss = contrastive_loss(audio, text, torch.ones(3, dtype=torch.bool), form)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert audio.grad.isfinite().all() and text.grad.isfinite().all()


def test_softmax_form_stays_finite_for_large_embeddings():
    """There is no temperature and no norm: similarities of thousands are possible, and e^1000 is not a float."""
    embeds = (40 * torch.eye(4, 8)).requires_grad_()
    loss = contrastive_loss(embeds, embeds.roll(1, 0), torch.ones(4, dtype=torch.bool))
    assert loss.item() == pytest.approx(1600)  # own similarity 0, one other 1600
    loss.backward()
    assert embeds.grad.isfinite().all()


def test_contrastive_loss_of_bf16_is_computed_in_float32():
    audio, text = normal(8, 16, seed=23).bfloat16(), normal(8, 16, seed=24).bfloat16()
    loss = contrastive_loss(audio, text, torch.ones(8, dtype=torch.bool))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected_contrastive_loss(audio.float(), text.float(), "softmax"), rel=1e-5)


@pytest.mark.parametrize("form", ["softmax", "ratio"])
def test_contrastive_loss_is_computed_in_float32_under_autocast(form):
    audio, text = 4 * normal(8, 32, seed=25).relu(), 4 * normal(8, 32, seed=26).relu()
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_loss(audio, text, torch.ones(8, dtype=torch.bool), form)
    assert loss.item() == pytest.approx(expected_contrastive_loss(audio, text, form), rel=1e-5)


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
