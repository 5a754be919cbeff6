"""Loading the weights of frozen encoders from every form of checkpoint, and how long a text may be."""

import shutil

import pytest
import torch
from conftest import assert_equal_weights, audio_encoder_config, text_encoder_config, tiny_config
from safetensors.torch import load_file, save_file
from test_encoders import (
    WAVEFORM_KINDS,
    WINDOW,
    assert_close,
    audio_states,
    load_audio_encoder,
    noise,
    randomize,
    stock_states,
    text_states,
)
from test_encoders import stock_whisper as stock_whisper  # a fixture
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    CamembertConfig,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    RobertaConfig,
    RobertaForMaskedLM,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
    WhisperForConditionalGeneration,
    WhisperModel,
    XLMRobertaConfig,
)

from modeling_mmer import MMERForEmotionRecognition
from modeling_mmer.corpora.demo import DEMO_FOLDER
from modeling_mmer.model.encoders import MMERWhisperEncoder, TextStates, text_positions
from modeling_mmer.training.preparation import new_processor

# ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def rewrite(folder, target, change):
    """A copy of a checkpoint whose weights `change` has altered."""
    shutil.copytree(folder, target)
    weights = load_file(target / "model.safetensors")
    change(weights)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return str(target)


@pytest.fixture(scope="module")
def whisper_checkpoints(tmp_path_factory, stock_whisper):
    """One encoder in every form in which Whisper weights are kept, by name → folder."""
    config, folder = audio_encoder_config("whisper"), tmp_path_factory.mktemp("whisper")
    whole = WhisperForConditionalGeneration(config)
    whole.model.encoder.load_state_dict(stock_whisper.state_dict())
    without_head = WhisperModel(config)
    without_head.encoder.load_state_dict(stock_whisper.state_dict())
    classifier = WhisperForAudioClassification(config)
    classifier.encoder.load_state_dict(stock_whisper.state_dict())
    bare = MMERWhisperEncoder(config)
    bare.load_state_dict(stock_whisper.state_dict())
    models = {"whole": whole, "no head": without_head, "encoder only": classifier, "bare": bare}
    for name, model in models.items():
        model.save_pretrained(folder / name)
    return {name: folder / name for name in models}


WHISPER_FORMS = {"whole": "model.encoder.", "no head": "encoder.", "encoder only": "encoder.", "bare": ""}


@pytest.mark.parametrize("form", WHISPER_FORMS)
def test_whisper_loads_from_every_form_of_checkpoint(whisper_checkpoints, stock_whisper, form):
    key = f"{WHISPER_FORMS[form]}conv1.weight"
    assert key in load_file(whisper_checkpoints[form] / "model.safetensors")  # the form is what its name says
    encoder = load_audio_encoder(str(whisper_checkpoints[form]))
    assert type(encoder) is MMERWhisperEncoder and not encoder.training
    assert set(encoder.state_dict()) == set(stock_whisper.state_dict())  # of a whole model, the encoder alone
    features = noise(2, 8, WINDOW, seed=10)
    states, _ = audio_states(encoder, features, torch.ones(2, WINDOW), "full")
    assert_equal_weights(encoder.state_dict(), stock_whisper.state_dict())
    assert_close(states, stock_states(stock_whisper, features))


@pytest.mark.parametrize("form", WHISPER_FORMS)
@pytest.mark.parametrize("weight", ["conv2.bias", "layers.1.fc2.weight", "embed_positions.weight"])
def test_a_whisper_checkpoint_that_lacks_a_weight_is_an_error_that_names_it(
    whisper_checkpoints, tmp_path, form, weight
):
    name = f"{WHISPER_FORMS[form]}{weight}"
    broken = rewrite(whisper_checkpoints[form], tmp_path / "broken", lambda weights: weights.pop(name))
    with pytest.raises(ValueError, match=weight):
        load_audio_encoder(broken)


def test_a_whisper_checkpoint_of_a_decoder_alone_is_an_error(whisper_checkpoints, tmp_path):
    def drop_encoder(weights):
        for name in [name for name in weights if name.startswith("model.encoder.")]:
            del weights[name]

    broken = rewrite(whisper_checkpoints["whole"], tmp_path / "broken", drop_encoder)
    with pytest.raises(ValueError, match="missing"):
        load_audio_encoder(broken)


@pytest.mark.parametrize("kind", WAVEFORM_KINDS)
def test_waveform_encoders_load_and_miss_no_weight(tmp_path, kind):
    encoder = randomize(AutoModel.from_config(audio_encoder_config(kind)))
    encoder.save_pretrained(tmp_path / "whole")
    loaded = load_audio_encoder(str(tmp_path / "whole"))
    assert_equal_weights(loaded.state_dict(), encoder.state_dict())
    samples = noise(1, 400, seed=11)
    states, _ = audio_states(loaded, samples, torch.ones(1, 400), "full")
    assert_close(states, stock_states(encoder, samples))

    weight = "feature_projection.projection.bias"
    broken = rewrite(tmp_path / "whole", tmp_path / "broken", lambda weights: weights.pop(weight))
    with pytest.raises(ValueError, match=weight):
        load_audio_encoder(broken)


@pytest.mark.parametrize(("kind", "model_class"), [("bert", BertForMaskedLM), ("roberta", RobertaForMaskedLM)])
def test_text_encoders_load_from_language_models_without_a_pooler(tmp_path, kind, model_class):
    model = randomize(model_class(text_encoder_config(kind)))
    model.save_pretrained(tmp_path / "whole")
    assert not any("pooler" in name for name in load_file(tmp_path / "whole" / "model.safetensors"))
    encoder = TextStates.fetch(str(tmp_path / "whole"))
    assert not any("pooler" in name for name in encoder.state_dict())
    ids = torch.randint(3, 50, (2, 6), generator=torch.Generator().manual_seed(12))
    states, _ = text_states(encoder, ids, torch.ones_like(ids))
    assert_close(states, stock_states(model, ids, attention_mask=torch.ones_like(ids)))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize(
    "weight", ["encoder.layer.2.output.dense.bias", "embeddings.word_embeddings.weight", "embeddings.LayerNorm.weight"]
)
def test_a_text_checkpoint_that_lacks_a_weight_is_an_error_that_names_it(tmp_path, kind, weight):
    AutoModel.from_config(text_encoder_config(kind)).save_pretrained(tmp_path / "whole")
    broken = rewrite(tmp_path / "whole", tmp_path / "broken", lambda weights: weights.pop(weight))
    with pytest.raises(ValueError, match=weight):
        TextStates.fetch(broken)


def test_encoders_load_in_the_precision_asked_for(whisper_checkpoints):
    folder = str(whisper_checkpoints["whole"])
    assert {p.dtype for p in load_audio_encoder(folder).parameters()} == {torch.float32}
    assert {p.dtype for p in load_audio_encoder(folder, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_a_weight_of_another_shape_is_an_error(whisper_checkpoints, tmp_path, modality):
    if modality == "audio":
        folder, weight, load = whisper_checkpoints["encoder only"], "encoder.conv1.bias", load_audio_encoder
    else:
        folder, weight, load = tmp_path / "whole", "embeddings.LayerNorm.bias", TextStates.fetch
        AutoModel.from_config(text_encoder_config()).save_pretrained(folder)
    broken = rewrite(folder, tmp_path / "broken", lambda weights: weights.update({weight: torch.zeros(5)}))
    with pytest.raises(ValueError, match="shape|size"):
        load(broken)


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_fp16_checkpoints_load_as_float32(whisper_checkpoints, tmp_path, modality):
    if modality == "audio":
        model = WhisperForConditionalGeneration.from_pretrained(whisper_checkpoints["whole"]).half()
        load, prefix = load_audio_encoder, "model.encoder."
    else:
        model = randomize(AutoModel.from_config(text_encoder_config())).half()
        load, prefix = TextStates.fetch, ""
    model.save_pretrained(tmp_path)
    kept = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {torch.float16}
    encoder = load(str(tmp_path))
    assert encoder.dtype == torch.float32
    for name, parameter in encoder.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, kept[prefix + name].float())


def test_a_model_over_fp16_encoders_holds_them_frozen_and_in_float32(whisper_checkpoints, tmp_path):
    randomize(AutoModel.from_config(text_encoder_config())).half().save_pretrained(tmp_path)
    sizes = {name: getattr(tiny_config(), name) for name in ("hidden_size", "num_attention_heads")}
    model = MMERForEmotionRecognition.from_audio_text_pretrained(
        str(whisper_checkpoints["encoder only"]), str(tmp_path), **sizes
    ).train()
    for encoder in model.model.encoders.values():
        assert not any(module.training for module in encoder.modules())
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in encoder.parameters())


# ── how long a text may be ──────────────────────────────────────────────────────────────────────────────────────────

TEXT_CONFIGS = {
    "bert": (BertConfig, 40),
    "electra": (ElectraConfig, 40),
    "distilbert": (DistilBertConfig, 40),
    "roberta": (RobertaConfig, 38),
    "xlm-roberta": (XLMRobertaConfig, 38),
    "mpnet": (MPNetConfig, 38),
    "camembert": (CamembertConfig, 38),
}


@pytest.mark.parametrize("kind", TEXT_CONFIGS)
def test_a_text_may_be_as_long_as_the_encoder_has_positions_for(kind):
    """40 positions; RoBERTa's kind begins with the one behind the padding token's number, 1. One token more is refused,
    where the encoder by itself would fail at an index."""
    config_class, longest = TEXT_CONFIGS[kind]
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    if kind == "distilbert":
        sizes = {"dim": 12, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}
    encoder = TextStates.build(config_class(vocab_size=50, max_position_embeddings=40, pad_token_id=1, **sizes)).eval()
    assert text_positions(encoder) == longest
    ids = torch.full((2, longest), 7)
    states, _ = text_states(encoder, ids, torch.ones_like(ids))
    assert states.shape == (2, 3, longest, 12)
    more = torch.full((2, longest + 1), 7)
    with pytest.raises(ValueError, match=f"text of {longest + 1} tokens does not fit .* {longest} positions"):
        text_states(encoder, more, torch.ones_like(more))
    with pytest.raises((IndexError, RuntimeError)):
        encoder(more, attention_mask=torch.ones_like(more))
    padded = torch.ones_like(more)
    padded[:, longest:] = 0  # padding takes no position
    text_states(encoder, more, padded)


@pytest.mark.parametrize(("kind", "longest"), [("bert", 40), ("roberta", 38)])
def test_a_new_processor_cuts_texts_at_the_last_position(kind, longest, tmp_path):
    WhisperFeatureExtractor(feature_size=8).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(DEMO_FOLDER / "tokenizer").save_pretrained(tmp_path)
    names = {f"{modality}_encoder_name_or_path": str(tmp_path) for modality in ("audio", "text")}
    processor = new_processor(tiny_config(text=kind, **names))
    assert processor.tokenizer.model_max_length == longest
    assert processor(text="I am so glad. " * 40)["input_ids"].shape == (1, longest)
