"""The demo corpus: what its card says, its splits, its files and its tokenizer."""

import os

import numpy as np
import pytest
import soundfile
from test_corpora import LABELS, rows_by_id

from modeling_mmer.corpora import load_corpora
from modeling_mmer.corpora.demo import DEMO_FOLDER


@pytest.fixture(scope="module")
def demo():
    return load_corpora("demo", emotion_labels=LABELS)


def test_demo_has_what_its_card_says(demo):
    assert {split: len(rows) for split, rows in demo.splits.items()} == {"train": 208, "validation": 52, "test": 72}
    assert demo.label_scale == (1.0, 7.0)
    for split in demo.splits.values():
        rows = split.to_pandas()
        for column in ("audio", "text", "emotion", "valence", "arousal", "dominance"):
            assert 0.05 <= rows[column].isna().mean() <= 0.11, column
        classes = rows["emotion"].value_counts(normalize=True)
        assert set(classes.index) == set(LABELS) and classes.min() > 0.2
        assert set(rows["sentiment"].dropna()) == {"negative", "neutral", "positive"}
        assert rows["duration"].dropna().between(0.5, 4).all()


def test_demo_splits_share_neither_speakers_nor_sentences(demo):
    for column in ("speaker", "text"):
        parts = [set(rows.to_pandas()[column].dropna()) for rows in demo.splits.values()]
        assert len(set().union(*parts)) == sum(map(len, parts))
    assert sum(len(set(rows["speaker"])) for rows in demo.splits.values()) >= 12


def test_demo_is_small_and_every_file_decodes(demo):
    files = [file for file in DEMO_FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 4 * 2**20
    rows = [row for row in rows_by_id(demo).values() if row["audio"] is not None]
    assert {row["audio"] for row in rows} == {str(file) for file in files if file.suffix == ".opus"}
    for row in rows:
        samples, rate = soundfile.read(row["audio"])
        assert rate == 16000 and samples.ndim == 1
        assert len(samples) / rate == pytest.approx(row["duration"])
        assert os.path.getsize(row["audio"]) * 8 / row["duration"] <= 16000
        assert 0.01 < np.abs(samples).max() <= 1


def test_demo_tokenizer_is_a_roberta_tokenizer(demo):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(DEMO_FOLDER / "tokenizer")
    assert type(tokenizer).__name__.startswith("Roberta") and tokenizer.model_max_length == 128
    assert 500 <= len(tokenizer) <= 1000
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>"]) == [0, 1, 2]
    assert "<unk>" in tokenizer.get_vocab() and tokenizer.mask_token == "<mask>"
    for text in [*filter(None, demo.splits["test"]["text"]), "Żółć 😀"]:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
