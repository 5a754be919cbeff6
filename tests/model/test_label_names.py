"""`id2label`, `label2id`, `num_labels` and `emotion_labels` always agree, whichever is passed, saved or changed."""

import copy
import json

import pytest
import torch
from conftest import tiny_config, tiny_model
from transformers import AutoConfig, AutoModelForAudioClassification

from modeling_mmer import MMERConfig, MMERForEmotionRecognition

FOUR = ["neutral", "happiness", "sadness", "anger"]
SIX = ["neutral", "calm", "happiness", "sadness", "anger", "fear"]
NAMED = {
    "emotion_labels": {"emotion_labels": SIX},
    "id2label": {"id2label": dict(enumerate(SIX))},
    "strings": {"id2label": {str(index): label for index, label in enumerate(SIX)}},
    "label2id": {"label2id": {label: index for index, label in enumerate(SIX)}},
    "in any order": {"id2label": {index: SIX[index] for index in (3, 0, 5, 1, 2, 4)}},
    "as usual": {
        "num_labels": 6,
        "label2id": {label: str(index) for index, label in enumerate(SIX)},
        "id2label": {str(index): label for index, label in enumerate(SIX)},
    },
    "tuple": {"emotion_labels": tuple(SIX), "num_labels": 6},
}
CONTRADICTIONS = [
    ({"emotion_labels": SIX, "id2label": dict(enumerate(FOUR))}, "differ .*fear.*give one of emotion_labels, id2label"),
    ({"emotion_labels": FOUR, "id2label": dict(enumerate(FOUR[::-1]))}, "differ"),
    ({"id2label": dict(enumerate(SIX)), "label2id": {label: i for i, label in enumerate(SIX[::-1])}}, "differ"),
    ({"emotion_labels": SIX, "num_labels": 4}, "num_labels=4 contradicts the 6 emotions"),
    ({"id2label": dict(enumerate(SIX)), "num_labels": 3}, "num_labels=3 contradicts"),
    ({"id2label": {1: "a", 2: "b"}}, "from 0 without a gap"),
    ({"label2id": {"a": 0, "b": 2}}, "from 0 without a gap"),
]


def assert_names(config, labels):
    assert config.emotion_labels == list(labels)
    assert config.id2label == dict(enumerate(labels))
    assert config.label2id == {label: index for index, label in enumerate(labels)}
    assert config.num_labels == len(labels)


def test_by_default_they_are_the_papers():
    assert_names(MMERConfig(), FOUR)
    assert_names(tiny_config(id2label=None, num_labels=None), FOUR)


@pytest.mark.parametrize("given", NAMED.values(), ids=NAMED)
def test_any_of_them_names_the_emotions(given, tmp_path):
    config = tiny_config(**given)
    assert_names(config, SIX)
    assert_names(copy.deepcopy(config), SIX)
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["id2label"] == {
        str(i): name for i, name in enumerate(SIX)
    }
    assert_names(AutoConfig.from_pretrained(tmp_path), SIX)
    assert MMERForEmotionRecognition(config).heads["emotion"][-1].out_features == 6


@pytest.mark.parametrize(("given", "says"), CONTRADICTIONS)
def test_a_contradiction_is_refused(given, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        tiny_config(**given)
    tiny_config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=says):
        MMERConfig.from_pretrained(tmp_path, **given)


def test_a_stored_contradiction_is_refused(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text()) | {"id2label": {"0": "good", "1": "bad"}}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="good, bad"):
        MMERConfig.from_pretrained(tmp_path)


def test_a_change_of_one_changes_all():
    config = tiny_config()
    config.emotion_labels = tuple(SIX)
    assert_names(config, SIX)
    config.id2label = {0: "good", 1: "bad"}
    config.label2id = {"good": 0, "bad": 1}
    config.num_labels = 2
    assert_names(config, ["good", "bad"])
    config.num_labels = 3  # no more than their number is known, as in transformers
    assert_names(config, ["LABEL_0", "LABEL_1", "LABEL_2"])


@pytest.mark.parametrize("given", NAMED.values(), ids=NAMED)
def test_a_checkpoint_is_loaded_for_other_emotions_as_usual(given, tmp_path):
    """The usual call of fine-tuning; the weights of the classes that are gone do not stay behind."""
    tiny_model(emotion_class_weights=[1.0, 2.0, 3.0, 4.0]).save_pretrained(tmp_path)
    model = AutoModelForAudioClassification.from_pretrained(tmp_path, ignore_mismatched_sizes=True, **given)
    assert_names(model.config, SIX)
    assert model.heads["emotion"][-1].weight.shape[0] == 6
    assert model.config.emotion_class_weights is None
    with pytest.raises(ValueError, match=r"heads.emotion.3.weight.*ignore_mismatched_sizes"):
        MMERForEmotionRecognition.from_pretrained(tmp_path, **given)
    same = MMERForEmotionRecognition.from_pretrained(tmp_path, num_labels=4, id2label=dict(enumerate(FOUR)))
    assert same.config.emotion_class_weights == [1.0, 2.0, 3.0, 4.0]
    weights = {"emotion_class_weights": [1.0] * 6}
    assert MMERConfig.from_pretrained(tmp_path, **weights, **given).emotion_class_weights == [1.0] * 6


def test_what_they_are_called_changes_no_figure():
    batch = {"input_ids": torch.tensor([[0, 7, 9, 2]]), "attention_mask": torch.ones(1, 4)}
    with torch.no_grad():
        expected = tiny_model()(**batch).logits
        assert torch.equal(tiny_model(id2label=dict(enumerate("wxyz")))(**batch).logits, expected)
