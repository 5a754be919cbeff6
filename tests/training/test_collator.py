"""The collator: labels by name, missing labels marked, raw inputs through the processor, cached states stacked."""

import io

import numpy as np
import pytest
import soundfile
import torch
from conftest import tasks
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

from modeling_mmer.model.processing_mmer import MMERProcessor
from modeling_mmer.training.collator import MMERCollator

EMOTIONS = ["neutral", "happiness", "sadness", "anger"]
SENTIMENTS = ["negative", "neutral", "positive"]
DIMENSIONS = ["valence", "arousal", "dominance"]


@pytest.fixture(scope="module")
def collator():
    words = ["<pad>", "<unk>", "i", "am", "happy"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
    tokenizer.model_max_length = 32
    return MMERCollator(MMERProcessor(WhisperFeatureExtractor(), tokenizer), tasks(EMOTIONS, SENTIMENTS, DIMENSIONS))


def row(number: int = 0, **fields) -> dict:
    empty = dict.fromkeys(
        ("audio", "text", "emotion", "sentiment", "valence", "arousal", "dominance", "speaker", "split")
    )
    return {"utterance_id": f"utt{number}", **empty, **fields}


def clip(samples: int) -> dict:
    return {"array": np.linspace(-0.5, 0.5, samples, dtype=np.float32), "sampling_rate": 16000}


def states(length: int, width: int = 8) -> torch.Tensor:
    """(L+1, T, D), L = 2."""
    return torch.randn(3, length, width, generator=torch.Generator().manual_seed(length))


def test_raw_inputs_are_the_processors(collator, tmp_path):
    soundfile.write(tmp_path / "a.wav", clip(3200)["array"], 16000)
    buffer = io.BytesIO()
    soundfile.write(buffer, clip(1600)["array"], 16000, format="FLAC")
    audio = [str(tmp_path / "a.wav"), buffer.getvalue(), {"bytes": buffer.getvalue(), "path": None}, None]
    text = ["i am happy", None, "", "happy"]
    batch = collator([row(n, audio=a, text=t) for n, (a, t) in enumerate(zip(audio, text, strict=True))])
    expected = collator.processor(audio=audio, text=text)
    assert list(batch) == [*expected, "labels"]
    assert all(torch.equal(batch[key], expected[key]) for key in expected)


def test_labels_are_looked_up_by_name(collator):
    rows = [
        row(0, text="i", emotion="anger", sentiment="negative", valence=1, arousal=7.0, dominance=4.5),
        row(1, text="i", emotion="contempt", sentiment="neutral", valence=None, arousal=float("nan"), dominance=3.0),
        row(2, text="i", emotion=None, sentiment=None),
        {"utterance_id": "bare", "text": "i", "emotion": "neutral"},
    ]
    labels = collator(rows)["labels"]
    assert list(labels) == ["emotion", "sentiment", *DIMENSIONS]
    assert labels["emotion"].tolist() == [3, -100, -100, 0]
    assert labels["sentiment"].tolist() == [0, 1, -100, -100]
    assert labels["emotion"].dtype == labels["sentiment"].dtype == torch.long
    nan = float("nan")
    for name, values in {"valence": [1, nan, nan, nan], "arousal": [7, nan, nan, nan]}.items():
        torch.testing.assert_close(labels[name], torch.tensor(values), equal_nan=True)
    assert labels["dominance"].dtype == torch.float32
    reordered = collator([dict(reversed(row.items())) for row in rows])["labels"]
    assert torch.equal(reordered["emotion"], labels["emotion"])


def test_rows_keep_their_order(collator):
    rows = [row(n, audio=clip(n), emotion=EMOTIONS[n % 4], valence=n) for n in (4, 1, 800, 400)]
    batch = collator(rows)
    assert batch["labels"]["valence"].tolist() == [4, 1, 800, 400]
    assert batch["labels"]["emotion"].tolist() == [0, 1, 0, 0]
    assert batch["input_features_mask"].sum(1).tolist() == [1, 1, 5, 3]


def test_only_the_declared_dimensions(collator):
    only_arousal = MMERCollator(collator.processor, tasks(EMOTIONS, [], ["arousal"]))
    labels = only_arousal([row(text="i", sentiment="neutral", valence=3, arousal=2)])["labels"]
    assert list(labels) == ["emotion", "sentiment", "arousal"]
    assert labels["sentiment"].tolist() == [-100]


def test_a_batch_without_a_modality_lacks_its_keys(collator):
    assert list(collator([row(text="i"), row(text="am")])) == ["input_ids", "attention_mask", "labels"]
    assert list(collator([row(audio=clip(800))])) == ["input_features", "input_features_mask", "labels"]


def test_cached_states_are_padded_and_stacked(collator):
    rows = [
        row(0, audio="gone.wav", text="i am", audio_hidden_states=states(5), text_hidden_states=states(2, 4)),
        row(1, text="happy", audio_hidden_states=None, text_hidden_states=states(4, 4).numpy()),
        row(2, audio="gone.wav", text=" ", audio_hidden_states=states(7), text_hidden_states=None),
    ]
    batch = collator(rows)
    assert list(batch) == ["audio_hidden_states", "audio_mask", "text_hidden_states", "text_mask", "labels"]
    assert batch["audio_hidden_states"].shape == (3, 3, 7, 8)
    assert batch["text_hidden_states"].shape == (3, 3, 4, 4)
    assert batch["audio_mask"].tolist() == [[1, 1, 1, 1, 1, 0, 0], [0] * 7, [1] * 7]
    assert batch["text_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    assert torch.equal(batch["audio_hidden_states"][0, :, :5], states(5))
    assert torch.equal(batch["text_hidden_states"][1], states(4, 4))
    assert not batch["audio_hidden_states"][0, :, 5:].any()
    assert not batch["audio_hidden_states"][1].any()


def test_states_of_one_modality_beside_raw_inputs_of_the_other(collator):
    batch = collator([row(0, text="i am", audio_hidden_states=states(5)), row(1, text="happy")])
    assert list(batch) == ["audio_hidden_states", "audio_mask", "input_ids", "attention_mask", "labels"]


def test_states_keep_their_type(collator):
    assert collator([row(audio_hidden_states=states(5).half())])["audio_hidden_states"].dtype == torch.float16


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"audio": "not/here.wav", "text": "i"}, "not/here.wav.*file does not exist"),
        ({"audio": b"junk"}, "cannot be decoded"),
        ({"text": 3}, "is a int"),
        ({"text": " "}, "neither audio nor text"),
        ({"text": "i", "emotion": 2}, "emotion is 2; give the name"),
        ({"text": "i", "sentiment": 0.5}, "sentiment is 0.5; give the name"),
        ({"text": "i", "valence": "high"}, "valence is 'high'; give a number"),
    ],
)
def test_errors_name_the_utterance(collator, bad, message):
    with pytest.raises(ValueError, match=f"Utterance 'utt7'.*{message}"):
        collator([row(0, text="i"), row(7, **bad), row(1, text="am")])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"audio": "a.wav"}, "has audio but no audio_hidden_states"),
        ({"audio_hidden_states": states(5, width=9)}, r"shape \(3, 5, 9\)"),
        ({"audio_hidden_states": states(5)[:2]}, r"shape \(2, 5, 8\)"),
        ({"audio_hidden_states": states(5)[0]}, r"shape \(5, 8\)"),
        ({}, "neither audio nor text"),
    ],
)
def test_states_that_do_not_fit_are_errors(collator, bad, message):
    with pytest.raises(ValueError, match=f"Utterance 'utt7'.*{message}"):
        collator([row(0, audio_hidden_states=states(4)), row(7, **bad)])
