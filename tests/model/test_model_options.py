"""What a call, a checkpoint or a user's own code may ask of a model either works or is refused in a sentence."""

import logging
import threading

import numpy as np
import pytest
import torch
from conftest import audio_encoder_config, labels, raw_batch, text_encoder_config, tiny_config, tiny_model
from rivals import CLASSES, batch_for, tiny_rival
from transformers import AutoModel, WhisperModel
from transformers.utils import logging as transformers_logging

from modeling_mmer import MMERForEmotionRecognition, MMERModel

EMOTIONS = torch.tensor([0, 3, 1, -100])

# ── labels ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("name", ["mmer", "cascade", "cif_mmin"])
def test_classes_may_be_integers_of_any_width(name, dtype):
    model, batch = tiny_model() if name == "mmer" else tiny_rival(name), raw_batch()
    given = {"emotion": EMOTIONS.abs().clamp(max=3), "sentiment": torch.tensor([0, 1, 2, 1])}
    expected = model(**batch, labels=given).losses["supervised"]
    found = model(**batch, labels={task: values.to(dtype) for task, values in given.items()}).losses["supervised"]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["mmer", "cascade", "cif_mmin"])
def test_a_bare_tensor_is_the_emotions(name):
    """What transformers' own Trainer gives a model for classification."""
    model, batch = tiny_model() if name == "mmer" else tiny_rival(name), raw_batch()
    found, expected = (model(**batch, labels=given) for given in (EMOTIONS, {"emotion": EMOTIONS}))
    assert found.losses.keys() == expected.losses.keys() and "emotion" in found.losses
    torch.testing.assert_close(found.losses["supervised"], expected.losses["supervised"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            torch.tensor([0, 1, 2, 4]),
            r"labels of emotion are 0 to 3 \(neutral, .*-100 where there is none; 4 is neither",
        ),
        ({"sentiment": torch.tensor([0, 1, 2, -1])}, "labels of sentiment are 0 to 2.*-1 is neither"),
        ({"emotion": EMOTIONS.float()}, "whole numbers, not torch.float32"),
        ({"emotion": EMOTIONS[:, None]}, r"one for each of the 4 rows, not \(4, 1\)"),
        ({"valence": torch.ones(3)}, r"one for each of the 4 rows, not \(3,\)"),
        ({"joy": EMOTIONS}, "unknown tasks: joy. Known: emotion, sentiment, valence"),
        ([0, 1, 2, 3], "a dict of tensors, or a tensor of the emotions, not list"),
    ],
)
@pytest.mark.parametrize("name", ["mmer", "cascade"])
def test_other_labels_are_refused(name, given, says):
    model = tiny_model() if name == "mmer" else tiny_rival(name)
    with pytest.raises(ValueError, match=says):
        model(**raw_batch(), labels=given)


def test_predictions_of_combinations_carry_no_graph():
    """They are there to be looked at: a loss made of them would train nothing, and their graph would keep memory."""
    output = tiny_model().train()(**raw_batch(), labels=labels())
    assert output.logits.requires_grad and output.loss.requires_grad
    for of_tasks in output.combinations.values():
        assert not any(values.requires_grad for values in of_tasks.values())


# ── states and attentions ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("asked", [{"labels": labels()}, {"return_combinations": True}])
def test_states_are_given_beside_every_combination(asked):
    model, batch = tiny_model(), raw_batch()
    model.set_attn_implementation("eager")
    wanted = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        expected, found, plain = model(**batch, **wanted), model(**batch, **wanted, **asked), model(**batch, **asked)
    assert len(found.hidden_states) == 3 and len(found.attentions) == 2
    for name in ("hidden_states", "attentions"):
        for values, others in zip(found[name], expected[name], strict=True):
            torch.testing.assert_close(values, others)
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state)
    torch.testing.assert_close(found.logits, plain.logits)
    assert plain.hidden_states is None and plain.attentions is None


def test_states_may_be_asked_for_by_the_config_and_some_of_them_alone():
    model, batch = tiny_model(output_hidden_states=True), raw_batch()
    with torch.no_grad():
        every = model(**batch, labels=labels()).hidden_states
        assert len(every) == 3 and model(**batch, output_hidden_states=False).hidden_states is None
        some = model(**batch, output_hidden_states=[0, -1]).hidden_states
    assert [state is None for state in some] == [False, True, False]
    torch.testing.assert_close(some[0], every[0])
    torch.testing.assert_close(some[-1], every[-1])


@pytest.mark.parametrize("name", CLASSES)
def test_a_rival_returns_a_tuple_and_refuses_states_that_it_has_not(name):
    rival, batch = tiny_rival(name), batch_for(name)
    with torch.no_grad():
        output = rival(**batch, return_dict=True, output_hidden_states=False)
        as_tuple = rival(**batch, return_dict=False)
    assert isinstance(as_tuple, tuple)
    torch.testing.assert_close(as_tuple[0], output.logits)
    for asked in ("output_hidden_states", "output_attentions"):
        with pytest.raises(ValueError, match=f"{type(rival).__name__} has no one transformer.*leave out .*{asked}"):
            rival(**batch, **{asked: True})


# ── how a checkpoint is loaded ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def light(tmp_path) -> str:
    """A light checkpoint over two encoders in folders."""
    torch.manual_seed(3)
    WhisperModel(audio_encoder_config("whisper")).save_pretrained(tmp_path / "whisper")
    AutoModel.from_config(text_encoder_config()).save_pretrained(tmp_path / "roberta")
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    encoders = str(tmp_path / "whisper"), str(tmp_path / "roberta")
    MMERForEmotionRecognition.from_audio_text_pretrained(*encoders, **sizes).save_pretrained(tmp_path / "light")
    return str(tmp_path / "light")


def test_the_attention_asked_for_reaches_the_encoders_of_a_light_checkpoint(light):
    """By what eager attention alone can give: the encoders' attentions."""
    features, ids = torch.randn(1, 8, 100), torch.tensor([[0, 5, 7, 2]])
    for attention, layers in (("eager", (2, 3)), ("sdpa", (0, 0)), (None, (0, 0))):
        how = {} if attention is None else {"attn_implementation": attention}
        model = MMERForEmotionRecognition.from_pretrained(light, **how)
        with torch.no_grad():
            of_audio = model.model.encoders["audio"].encoder(features, output_attentions=True).attentions
            of_text = model.model.encoders["text"].encoder(ids, output_attentions=True).attentions
        assert (len(of_audio), len(of_text)) == layers


@pytest.mark.parametrize("kind", ["whisper", "hubert-layer", "wav2vec2-group"])
def test_weights_may_lie_on_the_disk(kind, tmp_path):
    """Each is read where its own module runs, and is nowhere else: no module may look into another's weights."""
    model, batch = tiny_model(audio=kind, audio_context="trimmed"), raw_batch(kind=kind)
    if kind != "whisper":
        batch = raw_batch((400, 231, 0, 613), kind=kind)
    model.save_pretrained(tmp_path)
    how = {"device_map": {"": "disk"}, "offload_folder": str(tmp_path / "offloaded")}
    offloaded = MMERForEmotionRecognition.from_pretrained(tmp_path, **how)
    assert {p.device.type for p in offloaded.parameters()} == {"meta"}
    with torch.no_grad():
        for asked in ({}, {"return_combinations": True, "output_hidden_states": True}, {"labels": labels()}):
            torch.testing.assert_close(offloaded(**batch, **asked).logits, model(**batch, **asked).logits)


def test_the_encoders_of_a_light_checkpoint_are_loaded_where_its_weights_lie_on_the_disk(light, tmp_path):
    how = {"device_map": {"": "disk"}, "offload_folder": str(tmp_path / "offloaded")}
    expected, found = (
        MMERForEmotionRecognition.from_pretrained(light),
        MMERForEmotionRecognition.from_pretrained(light, **how),
    )
    with torch.no_grad():
        torch.testing.assert_close(found(**raw_batch()).logits, expected.eval()(**raw_batch()).logits)


def test_loading_in_several_threads_leaves_the_log_as_it_was(light, caplog, monkeypatch):
    """While one thread loads, another may be warned of what it does itself."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    log, level = logging.getLogger("transformers.modeling_utils"), transformers_logging.get_verbosity()
    before, loading, warned = list(log.filters), threading.Event(), threading.Event()
    build = MMERModel.freeze_encoders

    def wait(model):
        loading.set()
        warned.wait(60)
        build(model)

    monkeypatch.setattr(MMERModel, "freeze_encoders", wait)
    threads = [threading.Thread(target=MMERForEmotionRecognition.from_pretrained, args=(light,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    loading.wait(60)
    assert transformers_logging.get_verbosity() == level
    log.warning("of another thread")
    warned.set()
    for thread in threads:
        thread.join()
    assert transformers_logging.get_verbosity() == level and log.filters == before
    assert "of another thread" in caplog.text
    assert "LOAD REPORT" not in caplog.text  # of the decoder and the pooler, which are left unread on purpose


# ── where training starts ───────────────────────────────────────────────────────────────────────────────────────────


def test_special_tokens_and_type_embeddings_start_small_and_unlike():
    torch.manual_seed(0)
    core = MMERForEmotionRecognition(tiny_config(hidden_size=512, initializer_range=0.02)).model
    vectors = [
        core.transformer.cls_token,
        core.transformer.sep_token,
        core.masking.mask_token,
        *(e.type_embedding for e in core.embedders.values()),
    ]
    for vector in vectors:
        assert vector.std().item() == pytest.approx(0.02, rel=0.15)
    likeness = np.corrcoef(torch.stack(vectors).detach().numpy()) - np.eye(5)
    assert np.abs(likeness).max() < 0.2


def test_special_tokens_and_type_embeddings_are_trained():
    core = (model := tiny_model().train()).model
    model(**raw_batch(), labels=labels()).loss.backward()
    vectors = [
        core.transformer.cls_token,
        core.transformer.sep_token,
        core.masking.mask_token,
        *(e.type_embedding for e in core.embedders.values()),
    ]
    for vector in vectors:
        assert vector.grad.abs().min() > 0


@pytest.mark.parametrize("scale", [(1, 7), (-3, 3), (0, 10)])
def test_a_dimension_starts_from_the_middle_of_its_scale(scale):
    model = tiny_model(label_scale=scale)
    with torch.no_grad():
        for dimension, value in (("valence", 0.0), ("arousal", 0.5), ("dominance", -0.25)):
            model.heads[dimension][-1].weight.zero_()
            model.heads[dimension][-1].bias.fill_(value)
        output = model(**raw_batch())
    low, high = scale
    for dimension, expected in (
        ("valence", (low + high) / 2),
        ("arousal", high),
        ("dominance", low + (high - low) / 4),
    ):
        assert output[dimension].tolist() == pytest.approx([expected] * 4)
