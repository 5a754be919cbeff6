"""The contrastive term, Eq. 6, against NumPy and at its boundaries."""

import math

import numpy as np
import pytest
import torch
from test_losses import NAN, normal, uniform

from modeling_mmer.model.losses import (
    contrastive_loss,
)


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
