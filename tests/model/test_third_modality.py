"""A third modality takes a config: facial features as vectors, beside audio and text, in all seven combinations,
without a change to the model."""

from dataclasses import field

import pytest
import torch
from conftest import audio_encoder_config, labels, raw_batch, text_encoder_config
from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, BertConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from modeling_mmer import MMERConfig, MMERForEmotionRecognition

ROWS, FRAMES, WIDTH = 4, 6, 5
HAVE_FACES = (True, True, False, True)


@strict
class FaceConfig(MMERConfig):
    """Audio, text and faces; these come as vectors (B, 1, T, D), for no encoder runs here."""

    model_type = "mmer_face"
    sub_configs_defaults = MMERConfig.sub_configs_defaults | {
        "face_config": SubConfigSpec(config_class=AutoConfig, model_type="bert")
    }
    modalities: list[str] | tuple[str, ...] = ("audio", "text", "face")
    face_config: PreTrainedConfig | dict = field(
        default_factory=lambda: BertConfig(num_hidden_layers=0, hidden_size=WIDTH, num_attention_heads=1)
    )


def face_model() -> MMERForEmotionRecognition:
    torch.manual_seed(0)
    config = FaceConfig(
        audio_config=audio_encoder_config("whisper"),
        text_config=text_encoder_config(),
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        dropout=0.0,
        audio_context="trimmed",
    )
    return MMERForEmotionRecognition(config)


def face_batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    mask = torch.tensor(HAVE_FACES)[:, None].expand(ROWS, FRAMES).long()
    faces = torch.randn(ROWS, 1, FRAMES, WIDTH, generator=generator)
    return {**raw_batch(), "face_hidden_states": faces, "face_mask": mask}


def test_a_training_step_runs_all_seven_combinations():
    model = face_model().train()
    output = model(**face_batch(), labels=labels())
    assert set(output.combinations) == {
        *("audio", "text", "face"),
        *("audio_text", "audio_face", "text_face"),
        "audio_text_face",
    }
    output.loss.backward()
    assert {"supervised", "mae", "contrastive"} <= set(output.losses)
    assert output.face_embeds.shape == output.text_embeds.shape
    untouched = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert untouched == []
    assert model.model.embedders["face"].projection.weight.grad.abs().sum() > 0


def test_a_row_is_in_the_combinations_that_it_has():
    model = face_model().eval()
    with torch.no_grad():
        output = model(**face_batch(), return_combinations=True)
    # Of the batch's rows 0, 1 and 3 have audio (40, 23 and 61 frames), 0, 2 and 3 text (5, 9 and 2 tokens).
    expected = {
        "face": [True, True, False, True],
        "audio_face": [True, True, False, True],
        "text_face": [True, False, False, True],
        "audio_text": [True, False, False, True],
        "audio_text_face": [True, False, False, True],
    }
    for combination, rows in expected.items():
        assert (~output.combinations[combination]["emotion"].isnan().any(-1)).tolist() == rows


def test_a_missing_face_equals_one_that_was_never_there():
    """Row 2 has no face: what stands in its place does not matter, and the model without faces gives the same."""
    model, batch = face_model().eval(), face_batch()
    noise = {**batch, "face_hidden_states": batch["face_hidden_states"].clone()}
    noise["face_hidden_states"][2] = 1e3
    row = {name: tensor[2:3] for name, tensor in batch.items() if not name.startswith("face")}
    with torch.no_grad():
        expected = model(**row).logits[0]
        for given in (batch, noise):
            torch.testing.assert_close(model(**given).logits[2], expected, atol=1e-5, rtol=1e-5)


def test_the_config_comes_back_from_a_folder(tmp_path):
    face_model().config.save_pretrained(tmp_path)
    config = FaceConfig.from_pretrained(tmp_path)
    assert config.modalities == ["audio", "text", "face"] and config.states_shape("face") == (1, WIDTH)


def test_a_modality_without_a_config_is_refused():
    with pytest.raises(StrictDataclassError, match="gesture_config"):
        MMERConfig(
            audio_config=audio_encoder_config("whisper"),
            text_config=text_encoder_config(),
            modalities=["audio", "text", "gesture"],
        )
