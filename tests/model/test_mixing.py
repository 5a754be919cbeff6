"""The layer mix of Eq. 1 while an encoder runs: its numbers, its gradients, and what it keeps in memory."""

import threading
import weakref

import pytest
import torch
from conftest import raw_batch, tiny_model
from torch import nn

from modeling_mmer.model.mixing import Mix, Stack

KINDS = ["whisper trimmed", "whisper full", "hubert-group", "hubert-layer", "wavlm-layer", "wav2vec2-layer"]
AUDIO = {"whisper": (40, 23, 0, 61)}
WAVEFORMS = (400, 231, 0, 613)


def model_and_batch(kind: str, **options):
    kind, _, context = kind.partition(" ")
    model = tiny_model(audio=kind, audio_context=context or "full", **options)
    return model, raw_batch(AUDIO.get(kind, WAVEFORMS), (5, 0, 9, 2), kind=kind)


def calibrated(model):
    """Statistics that are far from those of no standardising."""
    generator = torch.Generator().manual_seed(5)
    for embedder in model.model.embedders.values():
        standardizer = embedder.standardizer
        standardizer.mean.copy_(torch.randn(standardizer.mean.shape, generator=generator))
        standardizer.std.copy_(0.5 + torch.rand(standardizer.std.shape, generator=generator))
        standardizer.calibrated.fill_(True)
    return model


def states_alone(model, batch, modality: str, row: int) -> torch.Tensor:
    """The states (L+1, T, D) that transformers gives for one row without its padding."""
    frozen = model.model.encoders[modality]
    raw, mask = (batch[name][row : row + 1] for name in frozen.inputs)
    raw = raw[..., : mask.sum()]
    if frozen.inputs[0] == "input_features" and model.config.audio_context == "full":
        silence = (raw.amax() - 2.0).clamp(min=-1.5)
        raw = torch.cat([raw, silence.expand(1, raw.shape[1], 100 - raw.shape[2])], dim=2)
    with torch.no_grad():
        states = torch.cat(frozen.encoder(raw, output_hidden_states=True).hidden_states)
    return states[:, : -(-int(mask.sum()) // 2)] if frozen.inputs[0] == "input_features" else states


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_each_row_gets_the_weighted_sum_of_its_own_states(kind, standardize):
    """Without gradients, where states are mixed as they come, and with them."""
    model, batch = model_and_batch(kind, state_normalization="standardize" if standardize else "none")
    if standardize:
        calibrated(model)
    with torch.no_grad():
        running = model.model.embed(**batch)
    kept = model.model.embed(**batch)
    for modality, embedder in model.model.embedders.items():
        mask, logits = running[modality].states_mask, embedder.layer_logits.detach().double()
        weights = logits.exp() / logits.exp().sum()
        for row in range(4):
            if not mask[row].any():
                assert (running[modality].states[row] == 0).all()
                continue
            states = states_alone(model, batch, modality, row).double()
            if standardize:
                statistics = embedder.standardizer
                states = (states - statistics.mean[:, None]) / statistics.std[:, None]
            expected = sum(weight * state for weight, state in zip(weights, states, strict=True)).float()
            for tokens in (running, kept):
                found = tokens[modality].states[row, mask[row]]
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chosen", [[0], [1, 3], [3]])
def test_only_chosen_states_are_mixed(chosen):
    model, batch = model_and_batch("whisper trimmed", text_layers=chosen)
    with torch.no_grad():
        tokens = model.model.embed(**batch)["text"]
    weights = model.model.embedders["text"].layer_logits.softmax(0)
    states = states_alone(model, batch, "text", 2)[chosen]
    torch.testing.assert_close(tokens.states[2], torch.einsum("l,ltd->td", weights, states), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("standardize", [False, True])
def test_the_gradient_of_the_weights_is_that_of_autograd(standardize, dtype):
    padded = torch.randn(5, 3, 9, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    states = padded[:, :, :7]  # what is left of an encoder's run on more frames lies in memory with gaps
    statistics = (torch.randn(5, 4), 0.5 + torch.rand(5, 4)) if standardize else ()
    logits = torch.randn(5, requires_grad=True)
    mix = Mix(logits.softmax(0), *statistics)
    for state in states:
        mix.add(state)
    target = torch.randn(3, 7, 4)
    (found,) = torch.autograd.grad((mix.result()[0] * target).sum(), logits)
    states = states.float()
    if standardize:
        states = (states - statistics[0][:, None, None]) / statistics[1][:, None, None]
    (expected,) = torch.autograd.grad((torch.einsum("l,lbtd->btd", logits.softmax(0), states) * target).sum(), logits)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_states_of_half_precision_are_mixed_in_float32(dtype):
    states = torch.randn(9, 2, 6, 4, generator=torch.Generator().manual_seed(2)).to(dtype)
    for weights in (torch.full((9,), 1 / 9), torch.full((9,), 1 / 9, requires_grad=True)):
        mix = Mix(weights)
        for state in states:
            mix.add(state)
        assert mix.result()[0].dtype == torch.float32
        torch.testing.assert_close(mix.result()[0].detach(), states.double().mean(0).float(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["whisper trimmed", "hubert-layer"])
def test_without_gradients_no_more_than_two_states_are_there_at_once(kind):
    """What one layer puts out and the next one reads: memory does not grow with the number of layers."""
    model, batch = model_and_batch(kind)
    encoder = model.model.encoders["audio"].encoder
    layers = encoder.layers if kind.startswith("whisper") else encoder.encoder.layers
    layers.extend(type(layers[0])(encoder.config).eval() for _ in range(6))
    mixer = model.model.embedders["audio"]
    mixer.layer_logits = nn.Parameter(torch.randn(9))
    alive, most = [], []

    def note(_, __, output):
        output = output[0] if isinstance(output, tuple) else output
        alive.append(weakref.ref(output))
        most.append(sum(state() is not None for state in alive))

    for layer in layers:
        layer.register_forward_hook(note)
    with torch.no_grad():
        model.model.embed(**batch)
    assert len(most) >= 8 and max(most) <= 2


def test_threads_do_not_get_each_others_states():
    model, batch = model_and_batch("whisper trimmed")
    frozen, found, barrier = model.model.encoders["text"], {}, threading.Barrier(4)

    def run(row: int) -> None:
        barrier.wait()
        ids = batch["input_ids"][2:3] + row
        for _ in range(20):
            stack = Stack(torch.ones_like(ids))
            frozen.run(ids, None, stack.add)
            found.setdefault(row, []).append(stack.result()[0])

    threads = [threading.Thread(target=run, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in range(4):
        with torch.no_grad():
            hidden = frozen.encoder(batch["input_ids"][2:3] + row, output_hidden_states=True).hidden_states
        for states in found[row]:
            torch.testing.assert_close(states, torch.stack(hidden, 1), atol=1e-5, rtol=1e-5)


def test_an_encoder_of_unknown_layers_is_asked_for_its_states(monkeypatch):
    model, batch = model_and_batch("whisper trimmed")
    with torch.no_grad():
        expected = model.model.embed(**batch)["text"].states
        frozen = model.model.encoders["text"]
        monkeypatch.setattr(type(frozen), "layers_of_states", lambda self: None)
        found = model.model.embed(**batch)["text"].states
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
