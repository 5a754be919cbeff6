"""The masked autoencoder: which tokens are masked, and the errors of Eq. 5."""

import math
from collections import Counter

import pytest
import torch
from test_losses import normal, uniform

from modeling_mmer.model.autoencoder import TransposedWindowConvolution, draw_mask, reconstruction_errors


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


def test_frames_and_gradients_are_those_of_a_transposed_convolution():
    torch.manual_seed(0)
    ours = TransposedWindowConvolution(hidden_size=6, output_width=5, stride=4)
    stock = torch.nn.ConvTranspose1d(6, 5, kernel_size=4, stride=4)
    stock.load_state_dict(ours.state_dict())
    z, target = torch.randn(3, 7, 6), torch.randn(3, 28, 5)
    found, expected = ours(z), stock(z.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(found, expected)
    for frames in (found, expected):
        (frames - target).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, stock.weight.grad)
    torch.testing.assert_close(ours.bias.grad, stock.bias.grad)
