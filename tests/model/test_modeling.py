"""Properties of the model: what may change an output, what may not, and what is computed for the loss."""

import math

import numpy as np
import pytest
import torch
from conftest import labels, raw_batch, tiny_config, tiny_model
from torch.overrides import TorchFunctionMode

from modeling_mmer import MMERForEmotionRecognition, MMERModel
from modeling_mmer.model.configuration_mmer import COMBINATIONS
from modeling_mmer.model.embedding import ModalityEmbedder
from modeling_mmer.model.transformer import SharedTransformer, show

KINDS = ["whisper", "hubert-group", "wavlm-layer", "wav2vec2-group"]
TASKS = ("logits", "sentiment_logits", "valence", "arousal", "dominance")


def lengths_for(kind):
    return (40, 23, 0, 61) if kind == "whisper" else (400, 231, 0, 613)


def predict(model, batch, **kwargs):
    with torch.no_grad():
        output = model(**batch, **kwargs)
    return {task: output[task] for task in TASKS}


def row_of(batch, row):
    """One row of a batch, without its padding, and without the keys of a modality that it lacks."""
    alone = {}
    for name, mask_name in (
        ("input_features", "input_features_mask"),
        ("input_values", "input_values_mask"),
        ("input_ids", "attention_mask"),
    ):
        if name in batch and (length := int(batch[mask_name][row].sum())):
            alone[name] = batch[name][row : row + 1, ..., :length]
            alone[mask_name] = batch[mask_name][row : row + 1, :length]
    return alone


# ── what leaves no trace ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", ["full", "trimmed"])
@pytest.mark.parametrize("position_type", ["rope", "sinusoidal", "none"])
def test_alone_equals_in_a_batch(kind, context, position_type):
    model = tiny_model(audio=kind, audio_context=context, position_type=position_type)
    batch = raw_batch(lengths_for(kind), kind=kind)
    together = predict(model, batch)
    for row in range(4):
        for task, alone in predict(model, row_of(batch, row)).items():
            torch.testing.assert_close(together[task][row], alone[0], atol=1e-5, rtol=1e-5)


def test_order_in_the_batch_does_nothing():
    model, batch = tiny_model(audio_context="trimmed"), raw_batch()
    order = torch.tensor([2, 0, 3, 1])
    shuffled = predict(model, {name: tensor[order] for name, tensor in batch.items()})
    for task, values in predict(model, batch).items():
        torch.testing.assert_close(shuffled[task], values[order], atol=1e-5, rtol=1e-5)


def test_a_hidden_modality_equals_one_that_was_never_given():
    model, batch = tiny_model(), raw_batch((40, 23, 50, 61), (5, 3, 9, 2))
    text_only = {name: batch[name] for name in ("input_ids", "attention_mask")}
    hidden = batch | {"input_features_mask": torch.zeros_like(batch["input_features_mask"])}
    for task, values in predict(model, text_only).items():
        torch.testing.assert_close(predict(model, hidden)[task], values, atol=1e-6, rtol=1e-6)


def test_every_combination_equals_a_batch_of_that_combination_alone():
    model, batch = tiny_model(audio_context="trimmed"), raw_batch((40, 23, 50, 61), (5, 3, 9, 2))
    with torch.no_grad():
        combinations = model(**batch, return_combinations=True).combinations
    audio = {name: batch[name] for name in ("input_features", "input_features_mask")}
    text = {name: batch[name] for name in ("input_ids", "attention_mask")}
    for name, inputs in (("audio", audio), ("text", text), ("audio_text", batch)):
        alone = predict(model, inputs)
        torch.testing.assert_close(combinations[name]["emotion"], alone["logits"], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(combinations[name]["arousal"], alone["arousal"], atol=1e-5, rtol=1e-5)


def test_a_row_is_judged_only_in_the_combinations_it_has():
    with torch.no_grad():
        output = tiny_model()(**raw_batch(), return_combinations=True)  # row 1 lacks text, row 2 audio
    has = {
        "audio": [True, True, False, True],
        "text": [True, False, True, True],
        "audio_text": [True, False, False, True],
    }
    for name in COMBINATIONS:
        assert (~output.combinations[name]["valence"].isnan()).tolist() == has[name]
    assert (~output.audio_embeds.isnan().any(-1)).tolist() == has["audio"]
    assert (~output.text_embeds.isnan().any(-1)).tolist() == has["text"]
    torch.testing.assert_close(output.logits[1], output.combinations["audio"]["emotion"][1])
    torch.testing.assert_close(output.logits[2], output.combinations["text"]["emotion"][2])
    torch.testing.assert_close(output.logits[3], output.combinations["audio_text"]["emotion"][3])


def test_time_order_matters():
    model, batch = tiny_model(), raw_batch((0,), (9,))
    backwards = batch | {"input_ids": batch["input_ids"].flip(1)}
    assert (predict(model, batch)["logits"] - predict(model, backwards)["logits"]).abs().max() > 1e-3


@pytest.mark.parametrize("audio_length", [1, 2, 3, 4, 5])
def test_the_shortest_inputs_have_a_result(audio_length):
    model = tiny_model(audio_context="trimmed")
    for value in predict(model, raw_batch((audio_length,), (1,))).values():
        assert value.isfinite().all()


def test_neither_modality_is_an_error_that_names_the_example():
    model, batch = tiny_model(), raw_batch((40, 0, 50), (5, 0, 9))
    with pytest.raises(ValueError, match=r"example \[1\]"):
        model(**batch)
    with pytest.raises(ValueError, match="every example"):
        model()


def test_encoder_states_in_place_of_raw_inputs_give_the_same():
    model, batch = tiny_model(audio_context="trimmed"), raw_batch()
    states = model.model.encoders(batch)
    given = {
        "audio_hidden_states": states["audio"][0],
        "audio_mask": states["audio"][1],
        "text_hidden_states": states["text"][0],
        "text_mask": states["text"][1],
    }
    for task, values in predict(model, batch).items():
        torch.testing.assert_close(predict(model, given)[task], values, atol=1e-6, rtol=1e-6)


def test_raw_inputs_without_encoders_are_an_error_that_says_what_to_do():
    model = MMERForEmotionRecognition(
        tiny_config(audio_encoder_name_or_path="some/audio", text_encoder_name_or_path="some/text")
    )
    with pytest.raises(ValueError, match="load_encoders"):
        model(**raw_batch())


# ── how it is computed ──────────────────────────────────────────────────────────────────────────────────────────────


def test_one_padded_call_equals_a_call_per_combination_with_gradients():
    model, batch = tiny_model(audio_context="trimmed"), raw_batch()
    results = []
    for one_call in (False, True):
        model.zero_grad()
        core = model.model
        tokens = core.embed(**batch)
        passes = {name: show(tokens, m, whole=True) for name, m in COMBINATIONS.items()}
        outputs = core.transformer(passes, one_call=one_call)
        values = [outputs[name].cls[of_pass.rows] for name, of_pass in passes.items()]
        values += [outputs[m].tokens[m][tokens[m].mask] for m in ("audio", "text")]
        sum(value.square().sum() for value in values).backward()
        results.append((values, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    (values, gradients), (other_values, other_gradients) = results
    for value, other in zip(values, other_values, strict=True):
        torch.testing.assert_close(value, other, atol=1e-5, rtol=1e-5)
    assert gradients.keys() == other_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, other_gradients[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_implementations_agree(attention):
    model, batch = tiny_model(), raw_batch()
    expected = predict(model, batch)
    model.set_attn_implementation(attention)
    for task, values in predict(model, batch).items():
        torch.testing.assert_close(values, expected[task], atol=1e-5, rtol=1e-5)


def test_hidden_states_and_attentions_do_not_disturb_the_encoders():
    model, batch = tiny_model(), raw_batch()
    model.set_attn_implementation("eager")
    before = predict(model, batch)
    for _ in range(2):
        with torch.no_grad():
            output = model(**batch, output_hidden_states=True, output_attentions=True)
        assert len(output.hidden_states) == 3 and len(output.attentions) == 2
        assert output.attentions[0].shape[1] == 2
        torch.testing.assert_close(output.hidden_states[-1], output.last_hidden_state)
    for task, values in predict(model, batch).items():
        torch.testing.assert_close(values, before[task])


def test_encoders_run_once_on_each_row_of_a_step():
    model, rows = tiny_model().train(), {"audio": [], "text": []}
    for name, seen in rows.items():
        layer, _ = model.model.encoders[name].layers_of_states()
        layer.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(len(inputs[0])))
    model(**raw_batch(), labels=labels()).loss.backward()
    assert {name: sum(seen) for name, seen in rows.items()} == {"audio": 3, "text": 3}


class NothingWithoutADevice(TorchFunctionMode):
    """Refuses tensors that are made without a device: on a GPU they would be on another one than the input."""

    MAKERS = {torch.arange, torch.empty, torch.eye, torch.full, torch.ones, torch.rand, torch.randn, torch.zeros}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert func not in self.MAKERS or (kwargs or {}).get("device") is not None, func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("one_call", [False, True])
def test_a_step_takes_its_device_from_its_input(one_call, monkeypatch):
    forward = SharedTransformer.forward
    monkeypatch.setattr(SharedTransformer, "forward", lambda self, passes, *_, **__: forward(self, passes, one_call))
    model, batch, of_labels = tiny_model(dropout=0.0).train(), raw_batch(), labels()
    with pytest.raises(AssertionError), NothingWithoutADevice():
        torch.zeros(1)  # the mode sees what it is to see
    with NothingWithoutADevice():
        loss = model(**batch, labels=of_labels).loss
        loss.backward()
        logits = model.eval()(**batch).logits
    assert loss.device == logits.device == batch["input_ids"].device


def test_encoders_are_frozen_and_in_eval_mode():
    model = tiny_model()
    for mode in (True, False):
        model.train(mode)
        for encoder in model.model.encoders.values():
            assert not any(module.training for module in encoder.modules())
            assert not any(parameter.requires_grad for parameter in encoder.parameters())
    model.train()(**raw_batch(), labels=labels()).loss.backward()
    assert all(p.grad is None for encoder in model.model.encoders.values() for p in encoder.parameters())


def test_layer_weights_start_uniform():
    model = MMERModel(tiny_config())
    torch.testing.assert_close(model.embedders["text"].layer_weights, torch.full((4,), 0.25))


# ── the loss ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_total_is_the_weighted_sum_of_its_terms():
    model = tiny_model(lambda_mae=10, lambda_contrastive=0.5)
    output = model(**raw_batch(), labels=labels())
    terms = output.losses
    expected = terms["supervised"] + 10 * terms["mae"] + 0.5 * terms["contrastive"]
    torch.testing.assert_close(output.loss, expected)


@pytest.mark.parametrize(
    ("weight", "term", "part"),
    [("lambda_mae", "mae", "decoders"), ("lambda_contrastive", "contrastive", "contrastive_head")],
)
def test_a_term_without_weight_is_not_computed_and_leaves_its_parameters_alone(weight, term, part):
    model = tiny_model(**{weight: 0}).train()
    getattr(model, part).register_forward_hook(lambda *_: pytest.fail(f"{part} ran"))
    for module in getattr(model, part).modules():
        module.register_forward_hook(lambda *_: pytest.fail(f"{part} ran"))
    if term == "mae":
        model.model.masking.register_forward_hook(lambda *_: pytest.fail("tokens were masked"))
    before = {name: p.clone() for name, p in getattr(model, part).named_parameters()}
    mask_token = model.model.masking.mask_token.clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    output = model(**raw_batch(), labels=labels())
    output.loss.backward()
    optimizer.step()
    assert term not in output.losses
    for name, parameter in getattr(model, part).named_parameters():
        assert torch.equal(parameter, before[name])
    assert torch.equal(model.model.masking.mask_token, mask_token) == (term == "mae")


def test_inference_runs_no_training_part():
    model, ran = tiny_model(), []
    for name in ("decoders", "contrastive_head"):
        for module in getattr(model, name).modules():
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        model(**raw_batch())
    assert not ran
    model.train()(**raw_batch(), labels=labels())
    assert {*ran} == {"decoders", "contrastive_head"}


@pytest.mark.parametrize("lengths", [((40, 23), (0, 0)), ((0, 0), (5, 9)), ((40, 0), (0, 9)), ((40, 23), (5, 0))])
def test_any_mix_of_modalities_trains(lengths):
    model = tiny_model().train()
    output = model(**raw_batch(*lengths), labels=labels(2))
    output.loss.backward()
    assert output.losses["contrastive"] == 0  # fewer than two pairs
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_no_label_at_all_gives_a_zero_that_carries_a_graph():
    model = tiny_model(lambda_mae=0, lambda_contrastive=0).train()
    nothing = {
        "emotion": torch.full((4,), -100),
        "sentiment": torch.full((4,), -100),
        **{name: torch.full((4,), torch.nan) for name in ("valence", "arousal", "dominance")},
    }
    loss = model(**raw_batch(), labels=nothing).loss
    loss.backward()
    assert loss == 0
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def reference_standardised_mix(model, modality, states):
    """Eq. 1 in NumPy, for states (L+1, T, D) of one row."""
    logits = model.model.embedders[modality].layer_logits.detach().numpy().astype(np.float64)
    weights = np.exp(logits) / np.exp(logits).sum()
    return np.tensordot(weights, states.numpy().astype(np.float64), axes=1)


@pytest.mark.parametrize("target", ["original", "projected"])
def test_mae_equals_equation_5_in_numpy(target):
    """With nothing masked the masked pass is the clean one, so that Eq. 4 and 5 can be followed by hand."""
    model = tiny_model(mae_target=target, mask_ratio=0, audio_context="trimmed")
    batch = raw_batch()
    with torch.no_grad():
        found = model(**batch, labels=labels()).losses["mae"].item()
        states = model.model.encoders(batch)
        outputs = model.model(**batch)
    z = outputs.last_hidden_state.numpy().astype(np.float64)
    longest = -(-states["audio"][1].shape[1] // 4)  # audio tokens of the longest clip
    total = 0.0
    for row in range(4):
        for modality, start in (("audio", 1), ("text", 2 + longest)):
            real = int(states[modality][1][row].sum())
            if real == 0:
                continue
            mixed = reference_standardised_mix(model, modality, states[modality][0][row, :, :real])  # (T, D)
            tokens = -(-real // 4) if modality == "audio" else real
            decoder = model.decoders[modality].projection
            weight, bias = decoder.weight.detach().numpy(), decoder.bias.detach().numpy()
            contextual = z[row, start : start + tokens]
            if target == "projected":
                projection = model.model.embedders[modality].projection
                kernel, offset = projection.weight.detach().numpy(), projection.bias.detach().numpy()
                if modality == "audio":
                    padded = np.pad(mixed, ((0, 4 * tokens - real), (0, 0))).reshape(tokens, 4, -1)
                    goal = np.einsum("nkd,hdk->nh", padded, kernel) + offset
                else:
                    goal = mixed @ kernel.T + offset
                reconstructed = contextual @ weight.T + bias
            elif modality == "audio":
                goal = mixed
                reconstructed = (np.einsum("nh,hdk->nkd", contextual, weight) + bias).reshape(4 * tokens, -1)[:real]
            else:
                goal, reconstructed = mixed, contextual @ weight.T + bias
            total += ((reconstructed - goal) ** 2).mean(-1).mean()
    assert found == pytest.approx(total / 4, rel=1e-4)


@pytest.mark.parametrize(("channels", "stride"), [(16, 4), (12, 8), (384, 4)])
def test_the_projection_of_audio_is_right_in_half_precision(channels, stride):
    """Eq. 2 in bfloat16 against float64: some CPUs' bfloat16 convolutions are wrong altogether for few channels."""
    torch.manual_seed(0)
    embedder = ModalityEmbedder(1, channels, 32, stride, standardize=False).bfloat16()
    states = torch.randn(3, 6 * stride, channels).bfloat16()
    with torch.no_grad():
        found, mask = embedder.project(states, torch.ones(states.shape[:2], dtype=torch.bool))
    windows = states.double().numpy().reshape(3, 6, stride, channels)
    kernel, offset = (p.detach().double().numpy() for p in embedder.projection.parameters())
    expected = np.einsum("bnkd,hdk->bnh", windows, kernel) + offset
    np.testing.assert_allclose(found.double().numpy(), expected, atol=0.02)
    assert mask.shape == (3, 6) and found.dtype == torch.bfloat16


def test_contrastive_pools_real_tokens_of_the_unimodal_passes():
    """z^m by hand: the mean over the modality's own real tokens, neither CLS nor SEP, then g (Section 3.3)."""
    model, batch = tiny_model(audio_context="trimmed"), raw_batch((40, 23, 50, 61), (5, 3, 9, 2))
    with torch.no_grad():
        found = model(**batch, return_combinations=True).text_embeds
        z = model.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    weight, bias = model.contrastive_head[0].weight.detach(), model.contrastive_head[0].bias.detach()
    for row, length in enumerate((5, 3, 9, 2)):
        pooled = z[row, 2 : 2 + length].mean(0)  # CLS | SEP | text
        torch.testing.assert_close(found[row], (weight @ pooled + bias).clamp(min=0), atol=1e-5, rtol=1e-5)


def test_under_a_cosine_the_size_of_an_embedding_says_nothing():
    """What g puts out may grow without the loss falling; the temperature is learnt, from that of CLIP."""
    model, batch = tiny_model(contrastive_form="cosine", audio_context="trimmed", lambda_mae=0), raw_batch()
    model.contrastive_head.logit_scale.data.fill_(math.log(1 / 0.07))
    losses = []
    for size in (1.0, 7.0):
        model.contrastive_head[0].weight.data.mul_(size)
        model.contrastive_head[0].bias.data.mul_(size)
        outputs = model(**batch, labels=labels(), return_combinations=True)
        losses.append(outputs.losses["contrastive"])
        embeds = (outputs.audio_embeds, outputs.text_embeds)
        audio, text = (of_modality[[0, 3]].detach().double().numpy() for of_modality in embeds)  # the rows with both
        np.testing.assert_allclose(np.linalg.norm(audio, axis=1), 1, atol=1e-5)
    torch.testing.assert_close(*losses)
    similarity = np.exp(audio @ text.T / 0.07)
    shares = [similarity.diagonal() / similarity.sum(axis) for axis in (0, 1)]
    assert losses[0].item() == pytest.approx(-np.log(shares).mean(), abs=1e-4)
    losses[0].backward()
    assert model.contrastive_head.logit_scale.grad.abs() > 0
    model.contrastive_head.logit_scale.data.fill_(10)
    assert model.contrastive_head.scale == 100


@pytest.mark.parametrize("norm", ["none", "frame"])
def test_masked_tokens_show_mask_and_their_modality_and_alone_count(norm):
    """The masked pass by hand: MASK takes the place of h, before v^m is added; `masked` judges these tokens alone, and
    with a normalised target each frame of H counts as much as another."""
    model, batch = tiny_model(mae_loss_on="masked", mae_target_norm=norm, audio_context="trimmed"), raw_batch()
    core = model.model
    with torch.no_grad():
        torch.manual_seed(5)
        found = model(**batch, labels=labels()).losses["mae"].item()
        tokens = core.embed(**batch)
        torch.manual_seed(5)
        with_mask, masked = core.masking(tokens)
        assembled = core.transformer.assemble(show(with_mask, ("audio", "text")))
        sequence, contextual = assembled.sequence, core.transformer.run_layers(assembled.sequence, assembled.mask)
    total = 0.0
    for row in range(4):
        start = 0
        for modality, special in (("audio", core.transformer.cls_token), ("text", core.transformer.sep_token)):
            of_modality, where = tokens[modality], masked[modality][row]
            real = int(of_modality.mask[row].sum())
            assert where.sum() == (max(1, real // 2) if real > 1 else 0) and not where[real:].any()
            torch.testing.assert_close(sequence[row, start], special)
            for n in range(real):
                token = core.masking.mask_token if where[n] else of_modality.projected[row, n]
                token = token + core.embedders[modality].type_embedding
                torch.testing.assert_close(sequence[row, start + 1 + n], token)
            z = contextual[row, start + 1 : start + 1 + real].double().numpy()
            target = of_modality.states[row, of_modality.states_mask[row]].double().numpy()
            if norm == "frame":
                target = target - target.mean(1, keepdims=True)
                target = target / np.sqrt((target**2).mean(1, keepdims=True) + 1e-5)
            weight, bias = (p.detach().double().numpy() for p in model.decoders[modality].projection.parameters())
            decoded = np.einsum("nh,hdk->nkd", z, weight) if modality == "audio" else (z @ weight.T)[:, None]
            errors = ((decoded + bias).reshape(-1, len(bias))[: len(target)] - target) ** 2
            judged = where[:real].numpy().repeat(decoded.shape[1])[: len(target)]
            total += errors[judged].mean() if judged.any() else 0.0
            start += 1 + len(where)
    assert found == pytest.approx(total / 4, rel=1e-4)
    model.config.mask_ratio = 0
    assert model(**batch, labels=labels()).losses["mae"] == 0


def test_the_original_target_is_detached_unless_asked():
    gradients = {}
    for detach in (True, False):
        model = tiny_model(mae_detach_target=detach, lambda_contrastive=0, mask_ratio=0)
        torch.manual_seed(0)
        model(**raw_batch(), labels=labels()).losses["mae"].backward()
        gradients[detach] = model.model.embedders["text"].layer_logits.grad
    assert not torch.allclose(gradients[True], gradients[False])


def spread_after_training(target: str) -> dict[str, float]:
    """Mean distance between an utterance's projected tokens, over its start, after training on L_MAE alone."""
    model = tiny_model(mae_target=target, audio_context="trimmed", lambda_contrastive=0).train()
    batch = raw_batch((48, 60, 56, 61), (8, 6, 9, 7))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-2)

    def spread():
        with torch.no_grad():
            tokens = model.model.embed(**batch)
        return {m: torch.pdist(t.projected[0][t.mask[0]]).mean().item() for m, t in tokens.items()}

    start = spread()
    for _ in range(250):
        optimizer.zero_grad()
        model(**batch, labels=labels()).losses["mae"].backward()
        optimizer.step()
    return {modality: value / start[modality] for modality, value in spread().items()}


def test_the_projected_target_collapses_where_the_original_does_not():
    """Table 2: the projection takes a shortcut when it may move its own target."""
    projected, original = spread_after_training("projected"), spread_after_training("original")
    for modality in ("audio", "text"):
        assert projected[modality] < 0.25
        assert original[modality] > 0.8


# ── standardised states (our extension) ─────────────────────────────────────────────────────────────────────────────


def test_calibration_is_the_mean_and_deviation_over_real_frames():
    model = tiny_model(state_normalization="standardize", audio_context="trimmed")
    batches = [raw_batch(seed=1), raw_batch((33, 10, 20, 0), (4, 4, 0, 7), seed=5)]
    with pytest.raises(ValueError, match="calibrate"):
        model(**batches[0])
    model.model.calibrate(batches)
    for modality in ("audio", "text"):
        frames = []
        for batch in batches:
            states, mask = model.model.encoders(batch)[modality]
            frames += [states[b, :, t].numpy() for b in range(4) for t in range(states.shape[2]) if mask[b, t]]
        frames = np.stack(frames).astype(np.float64)  # (real frames, L+1, D)
        standardizer = model.model.embedders[modality].standardizer
        np.testing.assert_allclose(standardizer.mean, frames.mean(0), atol=1e-5)
        np.testing.assert_allclose(standardizer.std, frames.std(0), rtol=1e-4)
    torch.testing.assert_close(
        predict(model, batches[0])["logits"][1], predict(model, row_of(batches[0], 1))["logits"][0]
    )
