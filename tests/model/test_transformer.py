"""The shared transformer against NumPy, its dropout against the binomial law, and what positions may show or not."""

import math

import numpy as np
import pytest
import torch
from conftest import labels, raw_batch, tiny_model

from modeling_mmer.model.transformer import Dropout, sinusoids

POSITION_TYPES = ["rope", "sinusoidal", "none"]
WIDTH, HEADS = 16, 2


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def transformer(position_type="rope", attention="sdpa", **kwargs):
    model = tiny_model(position_type=position_type, **kwargs)
    model.set_attn_implementation(attention)
    return model.model.transformer


def run(module, hidden_states, mask=None, **kwargs):
    mask = torch.ones(hidden_states.shape[:2], dtype=torch.bool) if mask is None else mask
    with torch.no_grad():
        return module.run_layers(hidden_states, mask, **kwargs)


def assert_close(actual, expected, atol=1e-5):
    torch.testing.assert_close(actual, expected, atol=atol, rtol=1e-5)


# ── dropout ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def within(count, trials, probability):
    """Whether a count lies within five standard deviations of what a binomial law expects."""
    return abs(count - trials * probability) < 5 * math.sqrt(trials * probability * (1 - probability))


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_dropout_keeps_its_share_and_the_mean(p):
    torch.manual_seed(0)
    values = Dropout(p).train()(torch.ones(500, 401))
    trials, kept = values.numel(), int((values != 0).sum())
    assert within(kept, trials, 1 - p)
    assert values[values != 0].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-4)
    deviation = math.sqrt(p / (1 - p) / trials)  # of the mean of ones that are dropped and rescaled
    assert abs(values.mean().item() - 1) < 5 * deviation + 1e-4


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_dropout_decides_for_each_value_by_itself(p):
    """Four values share a 64-bit draw: each of the four has the same chance, and none knows of another."""
    torch.manual_seed(1)
    kept = (Dropout(p).train()(torch.ones(50_000, 4)) != 0).numpy()
    for lane in range(4):
        assert within(kept[:, lane].sum(), 50_000, 1 - p)
        for other in range(lane):
            assert within((kept[:, lane] & kept[:, other]).sum(), 50_000, (1 - p) ** 2)
        assert within((kept[1:, lane] & kept[:-1, lane]).sum(), 49_999, (1 - p) ** 2)


def test_dropout_is_off_in_evaluation_and_at_zero():
    values = normal(7, 5)
    assert torch.equal(Dropout(0.5).eval()(values), values)
    assert torch.equal(Dropout(0).train()(values), values)
    assert torch.equal(Dropout(0.0).train()(values), values)


@pytest.mark.parametrize("p", [1, 1.0])
def test_dropout_of_everything_is_zero_with_a_graph(p):
    values = normal(7, 5).requires_grad_()
    dropped = Dropout(p).train()(values)
    assert (dropped == 0).all()
    dropped.sum().backward()
    assert (values.grad == 0).all()


@pytest.mark.parametrize(("p", "expected"), [(1e-9, 1.0), (1 - 1e-9, 0.0)])
def test_dropout_stays_finite_next_to_its_boundaries(p, expected):
    torch.manual_seed(10)
    assert (Dropout(p).train()(torch.ones(100)) == expected).all()


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_gradient_of_dropout_is_its_mask(p):
    torch.manual_seed(2)
    values = 1 + normal(33, 7).square()  # no zero among them
    values.requires_grad_()
    dropped = Dropout(p).train()(values)
    upstream = normal(33, 7, seed=3)
    dropped.backward(upstream)
    factor = (dropped != 0) / (1 - p)
    assert_close(dropped.detach(), values.detach() * factor, atol=1e-3)
    torch.testing.assert_close(values.grad, upstream * factor, rtol=1e-4, atol=0)
    assert torch.equal(values.grad == 0, dropped == 0)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2,), (3,), (5,), (1, 1, 7), (3, 5, 7), (2, 0, 4)])
def test_dropout_takes_any_shape(shape):
    torch.manual_seed(3)
    values = torch.ones(shape)
    dropped = Dropout(0.5).train()(values)
    assert dropped.shape == values.shape
    assert set(dropped.flatten().tolist()) <= {0.0, 2.0}


def test_dropout_of_a_view_takes_its_values_from_their_places():
    torch.manual_seed(4)
    values = torch.arange(1.0, 16).view(3, 5)
    dropped = Dropout(0.3).train()(values.T)
    kept = dropped != 0
    assert kept.any() and not kept.all()
    torch.testing.assert_close(dropped[kept], values.T[kept] / 0.7, rtol=1e-4, atol=0)


def test_dropout_is_deterministic_by_seed():
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append(Dropout(0.5).train()(torch.ones(10, 10)))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_dropout_draws_anew_at_each_call():
    torch.manual_seed(7)
    dropout = Dropout(0.5).train()
    assert not torch.equal(dropout(torch.ones(10, 10)), dropout(torch.ones(10, 10)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dropout_keeps_the_type(dtype):
    torch.manual_seed(8)
    dropped = Dropout(0.5).train()(torch.ones(9, dtype=dtype))
    assert dropped.dtype == dtype
    assert set(dropped.tolist()) == {0.0, 2.0}


# ── the computation ─────────────────────────────────────────────────────────────────────────────────────────────────


def normalized(x, weights, name):
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weights[f"{name}.weight"]
        + weights[f"{name}.bias"]
    )


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def rotated(vector, position):
    """RoPE (Su et al., 2024) by complex numbers: dimensions i and i + d/2 turn by position · 10000^(−2i/d)."""
    half = len(vector) // 2
    angles = position * 10_000.0 ** (-np.arange(half) / half)
    turned = (vector[:half] + 1j * vector[half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag])


def expected_sinusoid(position, width):
    """Vaswani et al. (2017), Section 3.5: PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i + 1) = cos of the same."""
    values = np.empty(width)
    for i in range(width // 2):
        angle = position / 10_000 ** (2 * i / width)
        values[2 * i], values[2 * i + 1] = math.sin(angle), math.cos(angle)
    return values


def expected_output(module, hidden, position_type):
    """The pre-norm transformer over hidden (S, d), all of it real, in NumPy and float64, position by position."""
    weights = {name: value.detach().double().numpy() for name, value in module.state_dict().items()}
    x = hidden.double().numpy()
    if position_type == "sinusoidal":
        x = x + np.stack([expected_sinusoid(j, WIDTH) for j in range(len(x))])
    size = WIDTH // HEADS
    erf = np.vectorize(math.erf)
    for layer in range(len(module.layers)):
        at = f"layers.{layer}"
        inputs = normalized(x, weights, f"{at}.attention_norm")
        query, key, value = (linear(inputs, weights, f"{at}.attention.{name}_proj") for name in "qkv")
        attended = np.zeros_like(x)
        for head in range(HEADS):
            own = slice(head * size, (head + 1) * size)
            for i in range(len(x)):
                scores = np.empty(len(x))
                for j in range(len(x)):
                    q, k = query[i, own], key[j, own]
                    if position_type == "rope":
                        q, k = rotated(q, i), rotated(k, j)
                    scores[j] = q @ k / math.sqrt(size)
                shares = np.exp(scores) / np.exp(scores).sum()
                attended[i, own] = shares @ value[:, own]
        x = x + linear(attended, weights, f"{at}.attention.o_proj")
        inner = linear(normalized(x, weights, f"{at}.feed_forward_norm"), weights, f"{at}.feed_forward.0")
        inner = inner * (1 + erf(inner / math.sqrt(2))) / 2  # GELU
        x = x + linear(inner, weights, f"{at}.feed_forward.3")
    return torch.from_numpy(normalized(x, weights, "norm")).float()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("position_type", POSITION_TYPES)
def test_transformer_is_the_one_specified(position_type, attention):
    module, hidden = transformer(position_type, attention), normal(1, 9, WIDTH, seed=9)
    assert_close(run(module, hidden)[0], expected_output(module, hidden[0], position_type), atol=2e-5)


@pytest.mark.parametrize("position_type", ["rope", "none"])
def test_dropout_reaches_both_branches_and_never_the_residual_stream(position_type):
    module, hidden = transformer(position_type, dropout=1.0).train(), normal(2, 6, WIDTH, seed=17)
    weights = {name: value.detach().double().numpy() for name, value in module.state_dict().items()}
    expected = torch.from_numpy(normalized(hidden.double().numpy(), weights, "norm")).float()
    assert_close(run(module, hidden), expected)


def test_sinusoids_are_those_of_vaswani():
    positions = torch.tensor([[0, 1, 2, 3], [7, 100, 1999, 4]])
    expected = [[expected_sinusoid(position, 12) for position in row] for row in positions.tolist()]
    ours = sinusoids(positions, 12)
    assert ours.dtype == torch.float32 and ours.shape == (2, 4, 12)
    np.testing.assert_allclose(ours.numpy(), expected, atol=3e-4)  # float32 angles of up to 1999


@pytest.mark.parametrize("position_type", POSITION_TYPES)
def test_sdpa_equals_eager(position_type):
    hidden, mask = masked_batch()
    outputs, gradients = [], []
    for attention in ("sdpa", "eager"):
        module = transformer(position_type, attention)
        inputs = hidden.clone().requires_grad_()
        output = module.run_layers(inputs, mask)[mask]
        output.square().sum().backward()
        outputs.append(output.detach())
        gradients.append(inputs.grad)
    assert_close(outputs[0], outputs[1])
    assert_close(gradients[0], gradients[1], atol=1e-4)


def test_attention_shares_go_to_real_positions_only():
    model = tiny_model()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        outputs = model.model(**raw_batch(), output_attentions=True)
    mask = outputs.sequence_mask.bool()
    assert len(outputs.attentions) == 2
    for shares in outputs.attentions:  # (B, heads, S, S)
        assert shares.shape == (4, HEADS, mask.shape[1], mask.shape[1])
        shares = shares.transpose(1, 2)[mask]  # (real positions, heads, S)
        hidden = ~mask.repeat_interleave(mask.sum(-1), dim=0)  # (real positions, S)
        assert (shares.transpose(1, 2)[hidden] == 0).all()
        assert_close(shares.sum(-1), torch.ones(shares.shape[:2]))


# ── positions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def masked_batch():
    """Sequences of 11 with spans hidden in the middle, at the end, both, and nowhere; hidden positions hold noise."""
    mask = torch.ones(4, 11, dtype=torch.bool)
    mask[0, 3:7] = False
    mask[1, 8:] = False
    mask[2, 1:4] = False
    mask[2, 9:] = False
    return normal(4, 11, WIDTH, seed=10), mask


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("position_type", POSITION_TYPES)
def test_a_hidden_span_equals_one_left_out(position_type, attention):
    module = transformer(position_type, attention)
    hidden, mask = masked_batch()
    outputs = run(module, hidden, mask)
    for row in range(len(hidden)):
        assert_close(outputs[row, mask[row]], run(module, hidden[row, mask[row]][None])[0])


@pytest.mark.parametrize("position_type", POSITION_TYPES)
def test_what_is_hidden_does_nothing(position_type):
    module = transformer(position_type)
    hidden, mask = masked_batch()
    outputs = run(module, hidden, mask)
    other = torch.where(mask[..., None], hidden, 50 * normal(4, 11, WIDTH, seed=11))
    assert_close(run(module, other, mask)[mask], outputs[mask])


@pytest.mark.parametrize("position_type", POSITION_TYPES)
def test_padding_behind_a_batch_does_nothing(position_type):
    module = transformer(position_type)
    hidden, mask = masked_batch()
    wider = torch.cat([hidden, normal(4, 6, WIDTH, seed=12)], dim=1)
    wider_mask = torch.cat([mask, torch.zeros(4, 6, dtype=torch.bool)], dim=1)
    assert_close(run(module, wider, wider_mask)[wider_mask], run(module, hidden, mask)[mask])


@pytest.mark.parametrize(("position_type", "shows"), [("rope", True), ("sinusoidal", True), ("none", False)])
def test_order_shows_at_cls_where_positions_are_told(position_type, shows):
    module, hidden = transformer(position_type), normal(1, 8, WIDTH, seed=13)
    order = [0, 1, 5, 3, 4, 2, 6, 7]  # two tokens swapped, CLS in its place
    before, after = run(module, hidden), run(module, hidden[:, order])
    if shows:
        assert (before[:, 0] - after[:, 0]).abs().max() > 1e-2
    else:
        assert_close(after, before[:, order])


@pytest.mark.parametrize("position_type", POSITION_TYPES)
@pytest.mark.parametrize("modality", ["audio", "text"])
def test_order_within_a_modality_shows_in_the_model(position_type, modality):
    """The same of the whole model: encoder states in another order are another utterance, but for `none`."""
    model = tiny_model(position_type=position_type, audio_stride=1)
    states = {"audio_hidden_states": normal(1, 3, 9, 16, seed=14), "text_hidden_states": normal(1, 4, 6, 12, seed=15)}
    other = states | {f"{modality}_hidden_states": states[f"{modality}_hidden_states"].flip(2)}
    with torch.no_grad():
        before, after = model(**states).logits, model(**other).logits
    if position_type == "none":
        assert_close(after, before)
    else:
        assert (before - after).abs().max() > 1e-3


def test_rope_tells_distances_and_not_places():
    module, hidden = transformer("rope"), normal(2, 7, WIDTH, seed=16)
    attention = module.layers[0].attention
    places = torch.arange(7).expand(2, -1)

    def attend(positions):
        with torch.no_grad():
            return attention(hidden, None, module.rotary(hidden, positions))[0]

    here = attend(places)
    for shift in (1, 12, 500):
        assert_close(attend(places + shift), here, atol=1e-4)
    assert (attend(2 * places) - here).abs().max() > 1e-2
    assert (attend(places.flip(1)) - here).abs().max() > 1e-2


@pytest.mark.parametrize("position_type", POSITION_TYPES)
def test_only_rope_turns_queries_and_keys(position_type):
    assert (transformer(position_type).rotary is not None) == (position_type == "rope")


# ── gradient checkpointing ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradient_checkpointing_gives_equal_gradients(dropout):
    """Dropout's own generator included: the second forward must drop what the first one dropped."""
    losses, gradients, calls = [], [], []
    for checkpointing in (False, True):
        model = tiny_model(dropout=dropout).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        count = []
        model.model.transformer.layers[0].attention.register_forward_hook(lambda *_, count=count: count.append(1))
        torch.manual_seed(9)
        loss = model(**raw_batch(), labels=labels()).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
        calls.append(len(count))
    assert calls[1] == 2 * calls[0] > 0  # it did run twice
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        torch.testing.assert_close(
            gradients[1][name], gradient, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
