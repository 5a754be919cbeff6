"""Real encoders, by name out of a cache of the hub: a light model is scored, pickled and archived as users do it."""

import json
import pickle

import pytest
import torch
from conftest import real_path
from hub import FIRST, offline, put
from transformers import AutoFeatureExtractor, AutoTokenizer

from modeling_mmer import MMERForEmotionRecognition, MMERProcessor
from modeling_mmer.commands import main
from modeling_mmer.scoring import Scorer

ENCODERS = {"whisper-tiny-en-encoder": "openai/whisper-tiny.en", "minilm": "sentence-transformers/all-MiniLM-L6-v2"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache with the two encoders and, as `someone/mmer`, a light model on them with random weights."""
    folder = tmp_path_factory.mktemp("hub")
    for encoder, name in ENCODERS.items():
        put(folder / "hub", name, real_path("models", encoder))
    audio, text = ENCODERS.values()
    with offline(folder / "hub"):
        torch.manual_seed(0)
        model = MMERForEmotionRecognition.from_audio_text_pretrained(audio, text, audio_context="trimmed")
        model.save_pretrained(folder / "model")
        extractor, tokenizer = AutoFeatureExtractor.from_pretrained(audio), AutoTokenizer.from_pretrained(text)
        MMERProcessor(extractor, tokenizer).save_pretrained(folder / "model")
        put(folder / "hub", "someone/mmer", folder / "model")
        yield folder / "hub"


def test_rows_of_real_speech_in_any_company_have_their_own_answer(cache, tmp_path):
    audio = sorted(real_path("data", "ravdess", "audio").glob("*.flac"))[:6]
    columns = {"audio": [*map(str, audio), None], "text": ["Kids are talking by the door.", None] * 3 + ["No."]}
    scorer = Scorer("someone/mmer")
    together = scorer(columns)
    assert together["speech"][:6] == [True] * 6 and together["error"] == [""] * 7
    again = pickle.loads(pickle.dumps(scorer))
    for i in range(7):
        alone = again({name: [values[i]] for name, values in columns.items()})
        for name in ("emotion_anger", "sentiment_negative", "valence", "seconds"):
            assert together[name][i] == pytest.approx(alone[name][0], abs=1e-5)


def test_the_manifest_holds_the_commit(cache, tmp_path):
    output = tmp_path / "scores.jsonl"
    with pytest.raises(SystemExit) as ended:
        main(["predict", "--text", "so glad", "--model", "someone/mmer", "--output", str(output)])
    manifest = json.loads((tmp_path / "scores.jsonl.manifest.json").read_text())
    assert ended.value.code == 0 and (manifest["model"], manifest["revision"]) == ("someone/mmer", FIRST)
    assert json.loads(output.read_text())["modalities"] == ["text"]
