"""Encoder states on disk: found by content, equal to fresh ones, and never trusted when damaged."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import tiny_config
from transformers import AutoTokenizer, WhisperFeatureExtractor

from modeling_mmer import MMERCollator, MMERForEmotionRecognition, MMERProcessor
from modeling_mmer.corpora import load_corpora
from modeling_mmer.corpora.demo import DEMO_FOLDER
from modeling_mmer.features import FeatureCache

EMOTIONS = ["neutral", "happiness", "sadness", "anger"]


@pytest.fixture(scope="module")
def processor():
    return MMERProcessor(
        WhisperFeatureExtractor(feature_size=8), AutoTokenizer.from_pretrained(DEMO_FOLDER / "tokenizer")
    )


@pytest.fixture(scope="module")
def rows():
    return list(load_corpora("demo", emotion_labels=EMOTIONS).splits["test"].select(range(12)))


def build_model(seed=0, context="trimmed"):
    torch.manual_seed(seed)
    config = tiny_config(audio_context=context)
    config.text_config.vocab_size = 640
    config.text_config.max_position_embeddings = 130
    config.audio_config.max_source_positions = 1500
    return MMERForEmotionRecognition(config).eval()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def test_cached_states_give_the_outputs_of_encoding_anew(processor, rows, tmp_path):
    model = build_model()
    cache = FeatureCache(tmp_path, model.model, processor)
    cache.fill(rows, batch_size=4, show_progress=False)
    arguments = (processor, EMOTIONS, ["negative", "neutral", "positive"], ["valence", "arousal", "dominance"])
    fresh, cached = MMERCollator(*arguments)(rows), MMERCollator(*arguments, features=cache)(rows)
    assert "input_features" in fresh and "input_features" not in cached
    with torch.no_grad():
        expected, found = model(**fresh), model(**cached)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-3, rtol=1e-3)
    for name, term in expected.losses.items():
        if name != "mae":  # its mask is drawn anew
            assert found.losses[name].item() == pytest.approx(term.item(), rel=1e-3, abs=1e-4)


def test_only_real_frames_are_kept(processor, rows, tmp_path):
    cache = FeatureCache(tmp_path, build_model().model, processor)
    cache.fill(rows, batch_size=12, show_progress=False)
    for row in rows:
        if row["audio"] is None:
            assert cache.load(row, "audio") is None
        else:
            frames = -(-round(row["duration"] * 16_000) // 160)  # hop of 10 ms
            assert cache.load(row, "audio").shape[1] == -(-frames // 2)


def test_filling_again_encodes_nothing(processor, rows, tmp_path):
    model = build_model()
    FeatureCache(tmp_path, model.model, processor).fill(rows, batch_size=4, show_progress=False)
    before = files(tmp_path)
    for encoder in model.model.encoders():
        encoder.register_forward_hook(lambda *_: pytest.fail("an encoder ran"))
    FeatureCache(tmp_path, model.model, processor).fill(rows, batch_size=4, show_progress=False)
    assert files(tmp_path) == before


def test_an_interrupted_extraction_goes_on(processor, rows, tmp_path):
    model = build_model()
    FeatureCache(tmp_path / "whole", model.model, processor).fill(rows, batch_size=1, show_progress=False)
    cache = FeatureCache(tmp_path / "parts", model.model, processor)
    cache.fill(rows[:5], batch_size=1, show_progress=False)
    cache.fill(rows, batch_size=1, show_progress=False)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_a_renamed_recording_is_found_and_a_changed_one_is_not(processor, rows, tmp_path):
    cache = FeatureCache(tmp_path / "cache", build_model().model, processor)
    row = next(row for row in rows if row["audio"] is not None)
    renamed = shutil.copy(row["audio"], tmp_path / "renamed.opus")
    assert cache.path({**row, "audio": str(renamed)}, "audio") == cache.path(row, "audio")
    changed = bytearray(Path(row["audio"]).read_bytes())
    changed[-1] ^= 1
    (tmp_path / "changed.opus").write_bytes(changed)
    assert cache.path({**row, "audio": str(tmp_path / "changed.opus")}, "audio") != cache.path(row, "audio")


def test_another_encoder_or_context_is_not_found(processor, rows, tmp_path):
    row = next(row for row in rows if row["audio"] is not None and row["text"] is not None)
    path = FeatureCache(tmp_path, build_model().model, processor).path
    other = FeatureCache(tmp_path, build_model(seed=1).model, processor).path
    full = FeatureCache(tmp_path, build_model(context="full").model, processor).path
    for modality in ("audio", "text"):
        assert other(row, modality) != path(row, modality)
    assert full(row, "audio") != path(row, "audio")
    assert full(row, "text") == path(row, "text")


def test_a_damaged_file_is_an_error_that_names_it(processor, rows, tmp_path):
    cache = FeatureCache(tmp_path, build_model().model, processor)
    row = next(row for row in rows if row["text"] is not None)
    cache.fill([row], batch_size=1, show_progress=False)
    path = cache.path(row, "text")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=path.name) as raised:
        cache.load(row, "text")
    assert row["utterance_id"] in str(raised.value)
