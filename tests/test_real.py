"""Pretrained encoders on real speech (`MMER_TEST_DATA`): outputs do not depend on the batch, and models learn."""

import csv
import json
from pathlib import Path

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


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return str(tmp_path_factory.mktemp("features"))


def two_emotions(corpus: str, folder: Path) -> None:
    """The sad and the angry rows of a corpus: fewer than of four emotions, to be quick, and chance is 50 %."""
    original = real_path("data", corpus)
    with open(original / "metadata.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["emotion"] in ("sad", "sadness", "angry", "anger")]
    folder.mkdir()
    with open(folder / "metadata.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row, "file_name": str(original / row["file_name"]), "sentiment": ""} for row in rows)


def held_out(folder: Path) -> int:
    """How many recordings a corpus holds out."""
    with open(folder / "metadata.csv", newline="") as file:
        return sum(row["split"] == "test" for row in csv.DictReader(file))


def train(encoders, features: str, output: Path, *options: str) -> dict:
    """A short run of L_S; its figures on test."""
    main(
        [
            *("train", "--audio_encoder", encoders[0], "--text_encoder", encoders[1], "--audio_context", "trimmed"),
            *("--emotion_labels", "sadness", "anger", "--state_normalization", "standardize", "--lambda_mae", "0"),
            *("--lambda_contrastive", "0", "--dropout", "0.3", "--disable_tqdm", "true"),
            *("--hidden_size", "64", "--intermediate_size", "256", "--num_hidden_layers", "2", "--eval_strategy", "no"),
            *("--save_strategy", "no", "--load_best_model_at_end", "false"),
            *("--feature_cache", features, "--output_dir", str(output), *options),
        ]
    )
    return json.loads((output / "results.json").read_text())["splits"]["test"]


@pytest.mark.slow
def test_acted_speech_is_learnt_from_audio_and_its_two_sentences_tell_nothing(
    encoders, features, tmp_path, monkeypatch
):
    """`ravdess` for a tenth of its recipe: far above chance from audio, at chance from text."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    two_emotions("ravdess", tmp_path / "ravdess")
    corpus = ("--corpus", "folder", "--corpus_dir", str(tmp_path / "ravdess"))
    figures = train(encoders, features, tmp_path / "run", *corpus,
                    *("--num_train_epochs", "12", "--per_device_train_batch_size", "16"))  # fmt: skip
    assert figures["audio"]["ua"] > 0.75
    assert figures["audio_text"]["ua"] > 0.75
    assert 0.3 < figures["text"]["ua"] < 0.7


@pytest.mark.slow
def test_one_model_learns_from_unpaired_corpora(encoders, features, tmp_path, monkeypatch):
    """The recordings of `ravdess` and the sentences of `spoken`: no row has both, and either is learnt."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for corpus in ("ravdess", "spoken"):
        two_emotions(corpus, tmp_path / corpus)
    folders = (str(tmp_path / "ravdess"), str(tmp_path / "spoken"))
    corpora = ("--corpus", "folder", "folder", "--corpus_dir", *folders)
    unread = ("--column_map", "ravdess:text=", "spoken:audio=")
    figures = train(encoders, features, tmp_path / "run", *corpora, *unread, "--num_train_epochs", "6")
    assert "ua" not in figures.get("audio_text", {})
    assert figures["audio"]["n"] == held_out(tmp_path / "ravdess") and figures["audio"]["ua"] > 0.7
    assert figures["text"]["n"] == held_out(tmp_path / "spoken") and figures["text"]["ua"] > 0.65
