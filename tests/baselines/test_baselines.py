"""Properties of the rivals of Table 1: what each reads, counts, trains, saves and learns."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from conftest import assert_equal_weights, labels, randomize, raw_batch
from rivals import (
    CLASSES,
    COUNTED,
    EMOTION_ALONE,
    NEEDS,
    SERVED,
    SEVERAL,
    baseline_config,
    batch_for,
    collate,
    corpus,
    predict,
    run_arguments,
    states_of,
    tiny_rival,
)
from safetensors.torch import load_file, save_file

from modeling_mmer import MMERTrainer
from modeling_mmer.baselines import (
    CIFMMIN,
    LateFusion,
)
from modeling_mmer.baselines.cif_mmin_training import IMAGINATION_STAGE, TEACHER_STAGE, CIFMMINTrainer, stage_arguments
from modeling_mmer.evaluation.figures import compute_figures

KEYS = {"audio": ("input_features", "input_features_mask"), "text": ("input_ids", "attention_mask")}


def row_of(batch, row: int) -> dict[str, torch.Tensor]:
    """One row, without its padding, and without the keys of a modality that it lacks."""
    alone = {}
    for values, mask in KEYS.values():
        if values in batch and (length := int(batch[mask][row].sum())):
            alone[values] = batch[values][row : row + 1, ..., :length]
            alone[mask] = batch[mask][row : row + 1, :length]
    return alone


def assert_close(found, expected, rows=slice(None), other_rows=slice(None)):
    """Equal to rounding, void where the other is, and not void throughout."""
    for task, values in expected.items():
        torch.testing.assert_close(
            found[task][rows], values[other_rows], atol=2e-5, rtol=1e-5, equal_nan=True, msg=f"{task} differs"
        )


# ── what leaves no trace ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", CLASSES)
def test_alone_equals_in_a_batch_in_any_order(name):
    model, batch = tiny_rival(name), batch_for(name)
    together, order = predict(model, batch), torch.tensor([2, 0, 3, 1])
    shuffled = predict(model, {key: tensor[order] for key, tensor in batch.items()})
    for combination in SERVED[name]:
        assert together[combination]["emotion"].isfinite().any()
        assert_close(shuffled[combination], together[combination], other_rows=order)
        for row in range(4):
            alone = predict(model, row_of(batch, row))[combination]
            assert_close(alone, together[combination], other_rows=slice(row, row + 1))


def test_the_probe_is_a_linear_map_of_the_mean_over_real_frames_of_the_standardised_mix():
    """Frame by frame in NumPy: each state standardised, mixed (Eq. 1), averaged, and mapped."""
    model, batch = tiny_rival("probe"), states_of()
    found, weights = predict(model, batch), {name: value.double().numpy() for name, value in model.state_dict().items()}
    means = {}
    for modality in ("audio", "text"):
        of_modality = {name.split(".", 2)[2]: v for name, v in weights.items() if f"embedders.{modality}." in name}
        mix = np.exp(of_modality["layer_logits"]) / np.exp(of_modality["layer_logits"]).sum()
        assert mix.std() > 0.01
        mean, std = (of_modality[f"standardizer.{name}"][:, None] for name in ("mean", "std"))
        states = (batch[f"{modality}_hidden_states"].double().numpy() - mean) / std
        frames = np.einsum("l,bltd->btd", mix, states)
        real = batch[f"{modality}_mask"].numpy()
        means[modality] = np.stack([row[of_row].mean(0) for row, of_row in zip(frames, real, strict=True)])
    for combination, modalities in NEEDS.items():
        inputs = np.concatenate([means[modality] for modality in modalities], -1)
        head = {name.rpartition(".")[2]: v for name, v in weights.items() if f"heads.{combination}.emotion." in name}
        expected = inputs @ head["weight"].T + head["bias"]
        np.testing.assert_allclose(found[combination]["emotion"].numpy(), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["separate_audio", "cascade", "late_fusion"])
def test_transformers_of_rivals_read_what_the_config_says(name):
    """Pooled tokens too, of real tokens alone: as MMER's own heads, so that no row has a head start."""
    model, batch = tiny_rival(name, readout="attention"), batch_for(name)
    together = predict(model, batch)
    widths = {head[0].in_features for branch in model.branches.values() for head in branch.heads.values()}
    assert widths == {3 * 16}
    for combination in SERVED[name]:
        for row in range(4):
            alone = predict(model, row_of(batch, row))[combination]
            assert_close(alone, together[combination], other_rows=slice(row, row + 1))
    with torch.no_grad():
        for branch in model.branches.values():
            branch.heads["emotion"][0].weight[:, 16:] = 0  # as if it read CLS alone
    assert not torch.allclose(predict(model, batch)["audio"]["emotion"], together["audio"]["emotion"], equal_nan=True)


@pytest.mark.parametrize("name", CLASSES)
def test_more_padding_does_nothing(name):
    model, batch = tiny_rival(name), states_of()
    longer = {
        key: torch.nn.functional.pad(tensor, (0, 0, 0, 7) if tensor.dim() == 4 else (0, 7), value=0)
        for key, tensor in batch.items()
    }
    for modality in ("audio", "text"):  # what lies there is noise
        of_modality, mask = longer[f"{modality}_hidden_states"], longer[f"{modality}_mask"]
        of_modality += 5 * torch.randn(of_modality.shape) * ~mask[:, None, :, None]
    expected, found = predict(model, batch), predict(model, longer)
    for combination in SERVED[name]:
        assert_close(found[combination], expected[combination])


@pytest.mark.parametrize("name", CLASSES)
def test_a_hidden_modality_equals_one_that_was_never_given(name):
    model, batch = tiny_rival(name), raw_batch((40, 23, 7, 61), (5, 3, 9, 2))
    expected = predict(model, batch)
    for combination in SERVED[name]:
        if combination == "audio_text":
            continue
        other = "text" if combination == "audio" else "audio"
        given = {key: batch[key] for key in KEYS[combination]}
        mask = KEYS[other][1]
        assert_close(predict(model, given)[combination], expected[combination])
        assert_close(predict(model, batch | {mask: batch[mask] * 0})[combination], expected[combination])


@pytest.mark.parametrize("name", SEVERAL)
def test_a_row_is_judged_only_in_the_combinations_it_has(name):
    model = tiny_rival(name)
    with torch.no_grad():
        output = model(**raw_batch())  # row 1 lacks text, row 2 audio
    has = {"audio": [1, 1, 0, 1], "text": [1, 0, 1, 1], "audio_text": [1, 0, 0, 1]}
    for combination, rows in has.items():
        assert output.combinations[combination]["emotion"].isfinite().all(-1).tolist() == [bool(row) for row in rows]
    for row, fullest in enumerate(("audio_text", "audio", "text", "audio_text")):
        assert torch.equal(output.logits[row], output.combinations[fullest]["emotion"][row])


@pytest.mark.parametrize("name", CLASSES)
def test_what_a_rival_reads_matters(name):
    model, batch = tiny_rival(name), raw_batch((40, 23, 7, 61), (5, 3, 9, 2))
    other = raw_batch((40, 23, 7, 61), (5, 3, 9, 2), seed=5)
    expected = predict(model, batch)
    for modality in ("audio", "text"):
        found = predict(model, batch | {key: other[key] for key in KEYS[modality]})
        for combination in SERVED[name]:
            moved = (found[combination]["emotion"] - expected[combination]["emotion"]).abs().amax(-1) > 1e-4
            assert moved.tolist() == [modality in NEEDS[combination]] * 4, (modality, combination)


@pytest.mark.parametrize("name", CLASSES)
def test_the_shortest_inputs_have_a_result_and_a_gradient(name):
    model = tiny_rival(name).train()
    output = model(**raw_batch((1, 1), (1, 1)), labels=labels(2))
    output.loss.backward()
    assert output.loss.isfinite() and output.logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("name", "lacking", "message"),
    [
        ("separate_audio", (0, 3), r"No audio for example \[1\]"),
        ("separate_text", (40, 0), r"No text for example \[1\]"),
        ("separate_audio_text", (40, 0), r"serves audio_text alone, which example \[1\]"),
        ("cif_mmin_teacher", (0, 3), r"serves audio_text alone, which example \[1\]"),
        ("cif_mmin", (0, 0), r"Neither audio nor text for example \[1\]"),
    ],
)
def test_a_row_without_what_the_rival_needs_is_refused_by_its_place(name, lacking, message):
    with pytest.raises(ValueError, match=message):
        tiny_rival(name)(**raw_batch((40, lacking[0]), (5, lacking[1])))


# ── the supervised term, against NumPy ──────────────────────────────────────────────────────────────────────────────


def numpy_term(predicted: np.ndarray, target: np.ndarray) -> float | None:
    """Cross-entropy of logits, or 1 − CCC, over the labelled rows."""
    if predicted.ndim == 2:
        rows = target != -100
        logits = predicted[rows].astype(np.float64)
        likelihoods = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        return -np.log(likelihoods[np.arange(len(logits)), target[rows]]).mean() if rows.any() else None
    rows = ~np.isnan(target)
    x, y = predicted[rows].astype(np.float64), target[rows].astype(np.float64)
    if len(y) < 2:
        return None
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    return 1 - 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


@pytest.mark.parametrize("name", CLASSES)
def test_the_supervised_term_counts_what_the_rival_is_trained_on(name):
    model, batch = tiny_rival(name), batch_for(name)
    of_labels = labels(4)
    of_labels["emotion"][3] = of_labels["sentiment"][0] = -100
    of_labels["arousal"][0] = of_labels["dominance"][[0, 1, 2]] = torch.nan
    with torch.no_grad():
        output = model(**batch, labels=of_labels)
    terms = []
    for combination in COUNTED[name]:
        rows = np.array([all(batch[KEYS[m][1]][row].any() for m in NEEDS[combination]) for row in range(4)])
        tasks = output.combinations[combination]
        assert list(tasks) == (["emotion"] if name in EMOTION_ALONE else list(of_labels))
        terms += [numpy_term(tasks[task].numpy()[rows], of_labels[task].numpy()[rows]) for task in tasks]
    expected = np.mean([term for term in terms if term is not None])
    assert output.losses["supervised"].item() == pytest.approx(expected, rel=1e-4)
    if name not in EMOTION_ALONE:
        assert output.loss.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", CLASSES)
def test_without_anything_labelled_the_loss_is_a_zero_with_a_graph(name):
    model = tiny_rival(name).train()
    of_labels = {"emotion": torch.full((4,), -100), "valence": torch.full((4,), torch.nan)}
    output = model(**batch_for(name), labels=of_labels)
    assert output.losses["supervised"].item() == 0
    output.loss.backward()


# ── late fusion is made of separate models ──────────────────────────────────────────────────────────────────────────


def test_late_fusion_judges_one_modality_as_its_separate_model_does():
    audio, text = tiny_rival("separate_audio", seed=1), tiny_rival("separate_text", seed=2)
    fusion, batch = LateFusion.from_unimodal(audio, text).eval(), raw_batch((40, 23, 7, 61), (5, 3, 9, 2))
    found = predict(fusion, batch)
    for name, model in (("audio", audio), ("text", text)):
        for part in (f"embedders.{name}", f"branches.{name}"):
            of_fusion, of_model = fusion.get_submodule(part), model.get_submodule(part)
            assert_equal_weights(of_fusion.state_dict(), of_model.state_dict())
        assert_close(found[name], predict(model, batch)[name])
    assert fusion.config.combination == "audio_text" and audio.config.combination == "audio"
    with pytest.raises(ValueError, match="needs a model for audio, not for text"):
        LateFusion.from_unimodal(text, audio)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("position_type", {"position_type": "sinusoidal"}),
        ("num_hidden_layers", {"num_hidden_layers": 1}),
        ("state_normalization", {"state_normalization": "standardize"}),
        ("audio_context", {"audio_context": "full"}),
        ("label_scale", {"label_scale": (1, 5)}),
        ("emotion_labels", {"emotion_labels": ["calm", "tense", "bored", "other"]}),
        ("audio_layers", {"audio_layers": [0, 1, 2]}),
        ("audio_encoder_name", {"audio_encoder_name_or_path": "another", "text_encoder_name_or_path": "some/text"}),
    ],
)
def test_late_fusion_refuses_models_that_would_not_be_what_they_were(field, other):
    names = {"audio_encoder_name_or_path": "some/audio", "text_encoder_name_or_path": "some/text"}
    audio, text = tiny_rival("separate_audio", **names), tiny_rival("separate_text", **(names | other))
    with pytest.raises(ValueError, match=f"two models of the same {field}"):
        LateFusion.from_unimodal(audio, text)


def test_late_fusion_takes_models_that_were_trained_in_another_way():
    names = {"audio_encoder_name_or_path": "some/audio", "text_encoder_name_or_path": "some/text"}
    other = {"dropout": 0.4, "emotion_class_weights": [1.0, 2.0, 1.0, 1.0]}
    audio, text = tiny_rival("separate_audio", **names), tiny_rival("separate_text", **names, **other)
    fusion = LateFusion.from_unimodal(audio, text)
    assert_equal_weights(fusion.branches["text"].state_dict(), text.branches["text"].state_dict())


def test_frozen_parts_run_as_in_an_evaluation_while_the_rest_is_trained():
    """Dropout would blur what the classifier of late fusion is trained on."""
    fusion = tiny_rival("late_fusion", dropout=0.5).train()
    assert not any(module.training for module in fusion.branches.modules())
    assert all(module.training for module in fusion.heads.modules())


def test_the_multimodal_transformer_of_a_cascade_stands_on_the_unimodal_ones():
    model, batch = tiny_rival("cascade"), raw_batch((40, 23), (5, 3))
    states = model.encoder_states(batch)
    model.predict(states, model.rows_present(states))["audio_text"]["emotion"].square().sum().backward()
    for name, branch in model.branches.items():
        assert any(p.grad is not None and p.grad.any() for p in branch.transformer.parameters())
        of_heads = any(p.grad is not None and p.grad.any() for p in branch.heads.parameters())
        assert of_heads == (name == "audio_text")  # each has a classifier of its own


# ── checkpoints ─────────────────────────────────────────────────────────────────────────────────────────────────────


def assert_copy(model, other, batch):
    """The same weights, bit for bit, and what they predict, to rounding."""
    assert_equal_weights(model.state_dict(), other.state_dict())
    found, expected = predict(model.eval(), batch), predict(other.eval(), batch)
    assert found.keys() == expected.keys()
    for combination, of_tasks in expected.items():
        assert_close(found[combination], of_tasks)


@pytest.mark.parametrize("name", CLASSES)
def test_a_checkpoint_is_a_copy_and_brings_no_remote_code(name, tmp_path):
    model = tiny_rival(name)
    model.save_pretrained(tmp_path)
    assert_copy(CLASSES[name].from_pretrained(tmp_path), model, batch_for(name))
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert not config.get("auto_map") and not config.get("custom_pipelines")
    assert config["model_type"] == "mmer_baseline"


@pytest.mark.parametrize("name", CLASSES)
def test_a_missing_or_unexpected_weight_is_refused_by_name(name, tmp_path):
    tiny_rival(name).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = load_file(path)
    lost = [key for key in whole if "encoders." not in key][-1]
    for weights, said in (
        ({key: tensor for key, tensor in whole.items() if key != lost}, f"missing weights.*{lost}"),
        (whole | {"heads.disgust.0.weight": torch.zeros(2)}, "unexpected weights.*heads.disgust.0.weight"),
    ):
        save_file(weights, path, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=said):
            CLASSES[name].from_pretrained(tmp_path)


@pytest.mark.parametrize("name", CLASSES)
def test_a_light_checkpoint_loads_without_its_encoders(name, tmp_path):
    names = {"audio_encoder_name_or_path": "some/audio", "text_encoder_name_or_path": "some/text"}
    model = tiny_rival(name, **names)
    if name == "probe":
        model.calibrate([states_of()])
    model.save_pretrained(tmp_path)
    assert not any("encoders." in key for key in load_file(tmp_path / "model.safetensors"))
    loaded = CLASSES[name].from_pretrained(tmp_path, with_encoders=False)
    assert_copy(loaded, model, states_of())


# ── what is frozen, and what is learnt ──────────────────────────────────────────────────────────────────────────────


FROZEN = {"late_fusion": ("embedders.", "branches."), "cif_mmin": ("embedders.", "teacher.")}
UNLABELLED = (".sentiment.", ".valence.", ".arousal.", ".dominance.")  # heads that the corpus below says nothing about


@pytest.mark.parametrize("name", CLASSES)
def test_after_loading_a_trainer_trains_all_but_what_is_frozen(name, tmp_path):
    torch.manual_seed(0)
    names = {"audio_encoder_name_or_path": "some/audio", "text_encoder_name_or_path": "some/text"}
    randomize(CLASSES[name](baseline_config(name, **names))).save_pretrained(tmp_path / "saved")
    model = CLASSES[name].from_pretrained(tmp_path / "saved", with_encoders=False)
    trainer = MMERTrainer(
        model, run_arguments(tmp_path, max_steps=2), train_dataset=corpus(32, 0), data_collator=collate
    )
    frozen = FROZEN.get(name, ())
    before = deepcopy(model.state_dict())
    trainer.train()
    for key, tensor in model.state_dict().items():
        if "standardizer." not in key:  # set once, by the training rows
            stays = key.startswith(frozen) or any(part in key for part in ("inv_freq", *UNLABELLED))
            assert torch.equal(tensor, before[key]) == stays, key
    for key, parameter in model.named_parameters():
        assert parameter.requires_grad != key.startswith(frozen)
        assert parameter.grad is None or not key.startswith(frozen)
    counted = sum(p.numel() for key, p in model.named_parameters() if not key.startswith(frozen))
    assert trainer.trainable_parameters() == counted


def test_each_rival_beats_chance_wherever_its_input_carries_information(tmp_path):
    """Chance is 1/4; one modality alone allows 1/2, both together 1."""
    names = {"audio_encoder_name_or_path": "some/audio", "text_encoder_name_or_path": "some/text"}
    train, test, trained = corpus(128, 0), corpus(64, 1), {}

    def fit(name: str, model):
        options, trainer_class = {"train_dataset": train, "data_collator": collate}, MMERTrainer
        arguments = run_arguments(tmp_path / name, num_train_epochs=8, learning_rate=1e-2)
        if name in ("cif_mmin_teacher", "cif_mmin"):
            options["stage"] = TEACHER_STAGE if name == "cif_mmin_teacher" else IMAGINATION_STAGE
            arguments, trainer_class = stage_arguments(arguments, options["stage"]), CIFMMINTrainer
        trainer = trainer_class(model, arguments, **options)
        trainer.train()
        output = trainer.predict(test)
        results = compute_figures(output.predictions, output.label_ids, model.config.tasks)
        assert set(results) == set(SERVED[name])
        for combination, figures in results.items():
            assert figures["ua"] > (0.8 if combination == "audio_text" else 0.4), (name, combination, figures["ua"])
        trained[name] = model

    for name in ("separate_audio", "separate_text", "separate_audio_text", "probe", "cascade", "cif_mmin_teacher"):
        torch.manual_seed(0)
        fit(name, CLASSES[name](baseline_config(name, dimensions=[], dropout=0.1, **names)))
    fit("late_fusion", LateFusion.from_unimodal(trained["separate_audio"], trained["separate_text"]))
    fit("cif_mmin", CIFMMIN.from_teacher(trained["cif_mmin_teacher"]))
