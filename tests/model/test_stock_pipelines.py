"""The pipelines `audio-classification` and `text-classification` of transformers with our checkpoints: they load only
the feature extractor or the tokenizer, use the class names of the config, and give the outputs of the model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import randomize, real_input_config, real_input_processor, tiny_config
from isolated import elsewhere, saved
from transformers import AutoFeatureExtractor, Wav2Vec2FeatureExtractor, pipeline

from modeling_mmer import MMERForEmotionRecognition, MMERProcessor

EMOTIONS = {
    4: ["neutral", "happiness", "sadness", "anger"],
    6: ["neutral", "calm", "happiness", "sadness", "anger", "fear"],
}
TEXT = "I am so glad that we won."
STOCK = """
import json, sys, numpy
from transformers import pipeline
clip, text, found = numpy.load(sys.argv[1]), sys.argv[2], {}
for folder in sys.argv[3:]:
    hear = pipeline("audio-classification", model=folder, trust_remote_code=True)
    read = pipeline("text-classification", model=folder, trust_remote_code=True)
    found[folder] = [hear(clip), hear(clip, top_k=None), read(text), read(text, top_k=None)]
assert "modeling_mmer" not in sys.modules
print(json.dumps(found))
"""


def clip(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def by_hand(model, **inputs) -> dict[str, float]:
    """Emotion → probability, from the model's own logits."""
    with torch.no_grad():
        logits = model(**inputs).logits[0].double().numpy()
    shares = np.exp(logits - logits.max())
    return dict(zip(model.config.emotion_labels, shares / shares.sum(), strict=True))


def scores(answer: list[dict]) -> dict[str, float]:
    assert [a["score"] for a in answer] == sorted((a["score"] for a in answer), reverse=True)
    return {a["label"]: a["score"] for a in answer}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[int, Path]:
    """A checkpoint of four emotions, and one of six."""
    folders = {}
    for count, emotions in EMOTIONS.items():
        torch.manual_seed(count)
        config = real_input_config(emotion_labels=emotions, audio_context="full" if count == 4 else "trimmed")
        model = randomize(MMERForEmotionRecognition(config))
        folders[count] = saved(model, tmp_path_factory.mktemp("checkpoints") / f"of_{count}")
    return folders


@pytest.mark.slow
def test_stock_pipelines_name_emotions_where_the_package_is_not(folders, tmp_path):
    np.save(tmp_path / "clip.npy", clip(30_001))
    places = [str(folder) for folder in folders.values()]
    found = json.loads(elsewhere(STOCK, str(tmp_path / "clip.npy"), TEXT, *places, folder=tmp_path / "elsewhere"))
    for folder in folders.values():
        model, processor = MMERForEmotionRecognition.from_pretrained(folder), MMERProcessor.from_pretrained(folder)
        of_audio = by_hand(model, **processor(audio=clip(30_001)))
        of_text = by_hand(model, **processor(text=TEXT))
        heard, all_heard, (read,), all_read = found[str(folder)]
        assert scores(all_heard) == pytest.approx(of_audio, abs=1e-5)
        assert scores(all_read) == pytest.approx(of_text, abs=1e-5)
        assert heard == all_heard[: len(heard)]
        assert read == all_read[0] and read["label"] == max(of_text, key=of_text.get)


@pytest.mark.parametrize("count", EMOTIONS)
def test_a_batch_gets_what_each_clip_and_text_gets_alone(folders, count):
    """The clips' lengths differ: what the extractor pads with must not count as sound."""
    folder = str(folders[count])
    model, processor = MMERForEmotionRecognition.from_pretrained(folder), MMERProcessor.from_pretrained(folder)
    clips, texts = [clip(30_001), clip(9_000, 1), clip(160, 2)], [TEXT, "no"]
    heard = pipeline("audio-classification", model=folder)(clips, batch_size=3, top_k=None)
    read = pipeline("text-classification", model=folder)(texts, batch_size=2, top_k=None)
    for given, answer in zip(clips, heard, strict=True):
        assert scores(answer) == pytest.approx(by_hand(model, **processor(audio=given)), abs=1e-5)
    for given, answer in zip(texts, read, strict=True):
        assert scores(answer) == pytest.approx(by_hand(model, **processor(text=given)), abs=1e-5)


@pytest.mark.parametrize("kind", ["wav2vec2-group", "hubert-layer"])
def test_raw_waveforms_of_a_batch_are_padded_and_masked(kind):
    torch.manual_seed(0)
    model = randomize(MMERForEmotionRecognition(tiny_config(audio=kind)))
    processor = MMERProcessor(
        Wav2Vec2FeatureExtractor(return_attention_mask=kind.endswith("layer")), real_input_processor().tokenizer
    )
    hear = pipeline("audio-classification", model=model, feature_extractor=processor.feature_extractor)
    clips = [clip(3_000), clip(700, 1)]
    for given, answer in zip(clips, hear(clips, batch_size=2, top_k=None), strict=True):
        assert scores(answer) == pytest.approx(by_hand(model, **processor(audio=given)), abs=1e-5)


def test_what_a_feature_extractor_alone_gives_has_its_mask(folders):
    """By hand what the stock pipeline does: log-mels padded to 30 s, and their mask under the name of that of texts."""
    folder = folders[4]
    model, extractor = MMERForEmotionRecognition.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder)
    given = extractor(clip(30_001), sampling_rate=16_000, return_tensors="pt")
    assert given["input_features"].shape == (1, 8, 3000) and given["attention_mask"].sum() == 30_001
    mask = torch.zeros(1, 3000, dtype=torch.long)
    mask[:, :188] = 1  # 30,001 samples are 187 hops of 160, and a beginning of one more
    expected = by_hand(model, input_features=given["input_features"], input_features_mask=mask)
    assert by_hand(model, **given) == pytest.approx(expected, abs=1e-6)
    assert by_hand(model, input_features=given["input_features"], attention_mask=mask) == pytest.approx(expected)
    silent = by_hand(model, input_features=given["input_features"])
    assert silent != pytest.approx(expected, abs=1e-3)


def test_a_text_longer_than_the_encoder_has_positions_for_is_refused(folders):
    """The stock pipeline cuts nothing unless asked to: 130 positions, of which RoBERTa's kind leaves two unused."""
    read = pipeline("text-classification", model=str(folders[4]))
    with pytest.raises(ValueError, match="does not fit the text encoder's 128 positions.*max_length=128"):
        read("I am so glad. " * 100)
    assert read("I am so glad. " * 100, truncation=True, max_length=128)
