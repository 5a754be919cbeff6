"""Data sets of `datasets` as corpora."""

from pathlib import Path

import pytest
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Value
from test_published_corpora import load, record, said

from modeling_mmer.corpora import CorpusError

# ── data sets of `datasets` ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def saved(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    content = [record(tmp_path / f"{name}.wav", seconds).read_bytes() for name, seconds in (("a", 0.1), ("b", 0.2))]
    blob = {"bytes": Value("binary"), "path": Value("string")}
    label = ClassLabel(names=["angry", "sad"])
    features = Features({"audio": blob, "sentence": Value("string"), "label": label, "age": Value("int32")})
    rows = {
        "audio": [{"bytes": content[0], "path": None}, {"bytes": content[1], "path": "b.wav"}, None],
        "sentence": ["one", None, "three"],
        "label": [0, 1, -1],
        "age": [1, 2, 3],
    }
    splits = {"train": rows, "validation": {name: values[:2] for name, values in rows.items()}}
    DatasetDict(
        {
            split: Dataset.from_dict(rows, features=features).cast_column("audio", Audio())
            for split, rows in splits.items()
        }
    ).save_to_disk(tmp_path / "set")
    return tmp_path / "set"


def test_a_saved_data_set(saved):
    corpus = load(f"hf:{saved}")
    train = corpus.splits["train"]
    assert list(train["emotion"]) == ["anger", "sadness", None] and list(train["text"]) == ["one", None, "three"]
    assert list(train["duration"])[:2] == pytest.approx([0.1, 0.2]) and train["audio"][2] is None
    assert len(corpus.splits["validation"]) == 2 and corpus.name == "set"
    assert said(corpus, "columns not used: age")
    assert train["audio"][0] == load(f"hf:{saved}").splits["train"]["audio"][0]  # written once, by its content


def test_columns_of_a_data_set_are_mapped_or_left(saved):
    corpus = load(f"hf:{saved}", column_map={"text": "", "speaker": "age"})
    assert set(corpus.splits["validation"]["text"]) == {None}
    assert list(corpus.splits["validation"]["speaker"]) == ["1", "2"]
    assert len(corpus.splits["train"]) == 2 and said(corpus, "1 of 5 rows is left out: nothing but the text")


def test_a_data_set_that_cannot_be_loaded_is_named(tmp_path, saved):
    with pytest.raises(CorpusError, match="hf:.*nothing_here cannot be loaded"):
        load(f"hf:{tmp_path / 'nothing_here'}")
    odd = Dataset.from_dict({"text": ["x"], "label": ["sad"]})
    DatasetDict({"unsupervised": odd}).save_to_disk(tmp_path / "odd")
    with pytest.raises(CorpusError, match="split 'unsupervised' is none of ours"):
        load(f"hf:{tmp_path / 'odd'}")


def test_splits_of_a_data_set_may_have_columns_of_their_own(tmp_path):
    first = Dataset.from_dict({"text": ["one"], "valence": [2.0]})
    second = Dataset.from_dict({"sentence": ["two"], "label": ["sad"], "mood": ["x"]})
    DatasetDict({"train": first, "test": second}).save_to_disk(tmp_path / "set")
    corpus = load(f"hf:{tmp_path / 'set'}")
    (train,), (test,) = corpus.splits["train"], corpus.splits["test"]
    assert (train["text"], train["emotion"], train["valence"]) == ("one", None, 2.0)
    assert (test["text"], test["emotion"], test["valence"]) == ("two", "sadness", None)
    assert said(corpus, "columns not used: mood")
    mapped = load(f"hf:{tmp_path / 'set'}", column_map={"emotion": "mood"})
    assert not mapped.splits["train"]["emotion"][0] and mapped.left_out[0].emotion == "x"
    with pytest.raises(CorpusError, match="emotion=feeling, but .* has the columns text, valence, sentence"):
        load(f"hf:{tmp_path / 'set'}", column_map={"emotion": "feeling"})
