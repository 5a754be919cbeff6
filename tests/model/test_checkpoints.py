"""Both forms of a checkpoint give back what was saved, and nothing is ever filled in at random."""

import json
from pathlib import Path

import pytest
import torch
from conftest import (
    assert_equal_weights,
    audio_encoder_config,
    labels,
    raw_batch,
    text_encoder_config,
    tiny_config,
    tiny_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForAudioClassification, WhisperModel

from modeling_mmer import MMERConfig, MMERForEmotionRecognition, MMERModel


@pytest.fixture
def encoders(tmp_path):
    """Two pretrained encoders in folders, as a hub name would give them."""
    torch.manual_seed(3)
    WhisperModel(audio_encoder_config("whisper")).save_pretrained(tmp_path / "whisper")
    AutoModel.from_config(text_encoder_config()).save_pretrained(tmp_path / "roberta")
    return str(tmp_path / "whisper"), str(tmp_path / "roberta")


def light_model(encoders, **overrides):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    return MMERForEmotionRecognition.from_audio_text_pretrained(*encoders, **sizes, **overrides).eval()


def all_outputs(model):
    with torch.no_grad():
        output = model.eval()(**raw_batch(), return_combinations=True)
    return [output.logits, output.arousal, output.audio_embeds, output.text_embeds]


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5, equal_nan=True)


def edit_weights(folder, edit):
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# ── save → load ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_light_checkpoint_holds_all_weights_but_those_of_the_encoders(encoders, tmp_path):
    model = light_model(encoders)
    model.save_pretrained(tmp_path / "light")
    assert not [name for name in load_file(tmp_path / "light" / "model.safetensors") if "encoders." in name]
    loaded = MMERForEmotionRecognition.from_pretrained(tmp_path / "light")
    assert_equal_weights(loaded.state_dict(), model.state_dict())
    assert_close(all_outputs(loaded), all_outputs(model))


def test_a_self_contained_checkpoint_is_whole_without_its_encoders_folders(encoders, tmp_path):
    model = light_model(encoders)
    expected = all_outputs(model)
    model.make_self_contained().save_pretrained(tmp_path / "whole")
    for folder in encoders:
        Path(folder).rename(folder + ".gone")
    loaded = MMERForEmotionRecognition.from_pretrained(tmp_path / "whole")
    assert_equal_weights(loaded.state_dict(), model.state_dict())
    assert_close(all_outputs(loaded), expected)


@pytest.mark.parametrize("kind", ["whisper", "hubert-group", "wavlm-layer"])
def test_every_kind_of_encoder_survives_in_a_self_contained_checkpoint(kind, tmp_path):
    model = tiny_model(audio=kind)
    model.save_pretrained(tmp_path)
    loaded = MMERForEmotionRecognition.from_pretrained(tmp_path).eval()
    assert_equal_weights(loaded.state_dict(), model.state_dict())
    batch = raw_batch() if kind == "whisper" else raw_batch((400, 231, 0, 613), kind=kind)
    with torch.no_grad():
        assert_close(loaded(**batch).logits, model(**batch).logits)


def test_loaded_encoders_are_frozen_and_in_eval_mode(encoders, tmp_path):
    light_model(encoders).save_pretrained(tmp_path / "light")
    tiny_model().save_pretrained(tmp_path / "whole")
    for form in ("light", "whole"):
        model = MMERForEmotionRecognition.from_pretrained(tmp_path / form).train()
        for encoder in model.model.encoders.values():
            assert not any(parameter.requires_grad for parameter in encoder.parameters())
            assert not any(module.training for module in encoder.modules())
        assert all(p.requires_grad for name, p in model.named_parameters() if "encoders." not in name)


def test_statistics_of_standardised_states_travel_with_the_weights(tmp_path):
    model = tiny_model(state_normalization="standardize")
    model.model.calibrate([raw_batch()])
    model.save_pretrained(tmp_path)
    loaded = MMERForEmotionRecognition.from_pretrained(tmp_path)
    assert_equal_weights(loaded.state_dict(), model.state_dict())
    assert_close(all_outputs(loaded), all_outputs(model))


def test_the_core_loads_from_a_whole_checkpoint(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    core = MMERModel.from_pretrained(tmp_path).eval()
    assert_equal_weights(core.state_dict(), model.model.state_dict())
    with torch.no_grad():
        expected = model.model(**raw_batch()).last_hidden_state
        assert_close(core(**raw_batch()).last_hidden_state, expected)


def test_the_config_survives_json(tmp_path):
    config = tiny_config(label_scale=(1, 5), emotion_labels=("calm", "angry"), audio_context="trimmed", lambda_mae=2.5)
    config.save_pretrained(tmp_path)
    loaded = MMERConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert json.loads((tmp_path / "config.json").read_text())["label_scale"] == [1, 5]


def test_predictions_go_by_the_names_of_tasks_and_not_by_their_order(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    other = MMERForEmotionRecognition.from_pretrained(tmp_path, dimensions=["dominance", "arousal", "valence"]).eval()
    with torch.no_grad():
        expected, found = model(**raw_batch()), other(**raw_batch())
    for name in ("valence", "arousal", "dominance"):
        assert_close(found[name], expected[name])


@pytest.mark.parametrize(
    "wrong",
    [
        {"position_type": "relative"},
        {"hidden_size": 33},
        {"contrastive_form": "ratio", "contrastive_projection": False},
        {"label_scale": [7, 1]},
        {"emotion_labels": ["angry"]},
        {"dimensions": ["valence", "tension"]},
        {"audio_encoder_name_or_path": "only/one"},
        {"lambda_mae": -1},
        {"dropout": 1.5},
        {"emotion_class_weights": [1.0, 2.0]},
    ],
)
def test_contradictory_configs_are_refused(wrong):
    with pytest.raises(Exception, match=next(iter(wrong))):
        tiny_config(**wrong)


# ── broken and partial checkpoints ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "lost", ["heads.emotion.0.weight", "model.transformer.cls_token", "model.encoders.audio.encoder.conv1.weight"]
)
def test_a_missing_weight_is_refused_by_name(lost, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda weights: weights.pop(lost))
    with pytest.raises(ValueError, match=lost):
        MMERForEmotionRecognition.from_pretrained(tmp_path)


def test_an_unexpected_weight_is_refused_by_name(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda weights: weights.update({"heads.disgust.0.weight": torch.zeros(2)}))
    with pytest.raises(ValueError, match="heads.disgust.0.weight"):
        MMERForEmotionRecognition.from_pretrained(tmp_path)


def test_weights_of_another_shape_are_refused_unless_asked_for(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    labels_of_its_own = {"emotion_labels": ["calm", "tense", "other"]}
    with pytest.raises(ValueError, match="heads.emotion.3.weight"):
        MMERForEmotionRecognition.from_pretrained(tmp_path, **labels_of_its_own)
    other = MMERForEmotionRecognition.from_pretrained(tmp_path, ignore_mismatched_sizes=True, **labels_of_its_own)
    with torch.no_grad():
        assert other.eval()(**raw_batch()).logits.shape == (4, 3)
        assert_close(other(**raw_batch()).arousal, model(**raw_batch()).arousal)


def test_a_head_is_not_read_for_labels_it_was_not_trained_for(tmp_path):
    """As many labels fit the shape, yet mean other classes."""
    model = tiny_model()
    model.save_pretrained(tmp_path)
    others = {"emotion_labels": ["calm", "tense", "bored", "other"]}
    with pytest.raises(ValueError, match="heads.emotion.3.weight.*ignore_mismatched_sizes"):
        MMERForEmotionRecognition.from_pretrained(tmp_path, **others)
    for auto_class in (MMERForEmotionRecognition, AutoModelForAudioClassification):
        other = auto_class.from_pretrained(tmp_path, ignore_mismatched_sizes=True, **others)
        assert not torch.isclose(other.heads["emotion"][3].weight, model.heads["emotion"][3].weight).any()
        assert torch.equal(other.heads["emotion"][0].weight, model.heads["emotion"][0].weight)
        assert torch.equal(other.heads["sentiment"][3].weight, model.heads["sentiment"][3].weight)


def test_half_of_a_training_part_is_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda weights: weights.pop("decoders.text.projection.bias"))
    with pytest.raises(ValueError, match="decoders.text.projection.bias"):
        MMERForEmotionRecognition.from_pretrained(tmp_path)


def test_a_checkpoint_without_its_training_parts_infers_and_says_what_it_cannot_train(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)

    def drop(weights):
        for name in [n for n in weights if n.startswith(("decoders.", "contrastive_head."))]:
            weights.pop(name)

    edit_weights(tmp_path, drop)
    loaded = MMERForEmotionRecognition.from_pretrained(tmp_path)
    with torch.no_grad():
        assert_close(loaded.eval()(**raw_batch()).logits, model(**raw_batch()).logits)
    with pytest.raises(ValueError, match="lambda_mae=0"):
        loaded.train()(**raw_batch(), labels=labels())
