"""Real pretrained encoders on real speech (`MMER_TEST_DATA`): invariance to a batch, and learning where there is
something to."""

import csv

import pytest
import torch
from conftest import real_path
from transformers import AutoFeatureExtractor, AutoTokenizer

from modeling_mmer import MMERForEmotionRecognition, MMERProcessor
from modeling_mmer.commands import main


@pytest.fixture(scope="module")
def encoders():
    return str(real_path("models", "whisper-tiny-en-encoder")), str(real_path("models", "minilm"))


@pytest.fixture(scope="module")
def utterances():
    folder = real_path("data", "spoken")
    with open(folder / "metadata.csv", newline="") as file:
        rows = [row for row, _ in zip(csv.DictReader(file), range(5), strict=False)]
    return [str(folder / row["file_name"]) for row in rows], [row["text"] for row in rows]


@pytest.mark.parametrize("context", ["trimmed", "full"])
def test_real_utterances_get_in_a_batch_what_they_get_alone(encoders, utterances, context):
    processor = MMERProcessor(
        AutoFeatureExtractor.from_pretrained(encoders[0]), AutoTokenizer.from_pretrained(encoders[1])
    )
    torch.manual_seed(0)
    model = MMERForEmotionRecognition.from_audio_text_pretrained(*encoders, audio_context=context).eval()
    audio, text = list(utterances[0]), list(utterances[1])
    audio[1] = text[2] = None
    with torch.no_grad():
        together = model(**processor(audio=audio, text=text))
        for row in range(len(audio)):
            alone = model(**processor(audio=[audio[row]], text=[text[row]]))
            torch.testing.assert_close(together.logits[row], alone.logits[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(together.arousal[row], alone.arousal[0], atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_acted_speech_is_learnt_from_audio_and_its_two_sentences_tell_nothing(encoders, tmp_path, monkeypatch):
    """`ravdess` for a tenth of its recipe: far above chance (25 %) from audio, at chance from text."""
    import json

    corpus = real_path("data", "ravdess")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Two emotions of the four, to be quick: half of the rows, and chance at 50 %.
    with open(corpus / "metadata.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["emotion"] in ("sad", "angry")]
    with open(tmp_path / "metadata.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row, "file_name": str(corpus / row["file_name"]), "sentiment": ""} for row in rows)
    main(
        [
            *("train", "--corpus", "folder", "--corpus_dir", str(tmp_path), "--output_dir", str(tmp_path / "run")),
            *("--audio_encoder", encoders[0], "--text_encoder", encoders[1], "--audio_context", "trimmed"),
            *("--emotion_labels", "sadness", "anger", "--state_normalization", "standardize", "--lambda_mae", "0"),
            *("--lambda_contrastive", "0", "--num_train_epochs", "12", "--per_device_train_batch_size", "16"),
            *("--feature_cache", str(tmp_path / "features"), "--dropout", "0.3", "--disable_tqdm", "true"),
        ]
    )
    figures = json.loads((tmp_path / "run" / "results.json").read_text())["splits"]["test"]
    assert figures["audio"]["ua"] > 0.75
    assert figures["audio_text"]["ua"] > 0.75
    assert 0.3 < figures["text"]["ua"] < 0.7
