"""Several corpora in one."""

import pandas as pd
import pytest
from test_corpora import LABELS, rows_by_id, write
from test_corpora import table as table  # a fixture

from modeling_mmer.corpora import CorpusError, load_corpora, on_scale
from modeling_mmer.corpora.schema import DIMENSIONS


def test_two_corpora_meet_on_the_scale_of_the_first(tmp_path, table):
    folder = tmp_path / "mine"
    folder.mkdir()
    small = table.drop(columns="audio").assign(text="words", valence=[1.0, 5.0, 3.0, 2.0], arousal=None, dominance=4.0)
    write(folder, small)
    demo = load_corpora("demo", emotion_labels=LABELS)
    options = {"emotion_labels": LABELS, "label_scale": (1, 5)}

    joined = load_corpora(["demo", "folder"], [folder], **options)
    assert joined.label_scale == (1.0, 7.0) and joined.name == "demo+mine"
    assert {split: len(rows) for split, rows in joined.splits.items()} == {
        "train": len(demo.splits["train"]) + 2,
        "validation": len(demo.splits["validation"]) + 1,
        "test": len(demo.splits["test"]) + 1,
    }
    rows = rows_by_id(joined)
    assert [rows[f"mine/{name}"]["valence"] for name in "abcd"] == pytest.approx([1, 7, 4, 2.5])
    assert rows["mine/a"]["dominance"] == pytest.approx(5.5) and rows["mine/a"]["arousal"] is None
    assert rows["mine/a"]["speaker"] == "mine/s1" and rows["mine/d"]["speaker"] is None
    assert [rows[f"mine/{name}"]["sentiment"] for name in "abcd"] == ["negative", "positive", "neutral", "negative"]
    for utterance_id, row in rows_by_id(demo).items():
        for dimension in DIMENSIONS:
            assert rows[f"demo/{utterance_id}"][dimension] == pytest.approx(row[dimension])
    assert all(notice.startswith(("demo: ", "mine: ")) for notice in joined.notices)

    turned = load_corpora(["folder", "demo"], folder, **options)
    assert turned.label_scale == (1.0, 5.0)
    rows = rows_by_id(turned)
    assert [rows[f"mine/{name}"]["valence"] for name in "abcd"] == [1, 5, 3, 2]
    for utterance_id, row in rows_by_id(demo).items():
        if row["valence"] is not None:
            assert rows[f"demo/{utterance_id}"]["valence"] == pytest.approx(1 + (row["valence"] - 1) * 2 / 3)
            assert rows[f"demo/{utterance_id}"]["sentiment"] == row["sentiment"]


def test_two_folders_of_one_name_keep_their_ids_apart(tmp_path, table):
    folders = [tmp_path / "x" / "data", tmp_path / "y" / "data"]
    for folder in folders:
        folder.mkdir(parents=True)
        write(folder, table.drop(columns="audio").assign(text="words"))
    corpus = load_corpora(["folder", "folder"], folders, emotion_labels=LABELS)
    assert sorted(rows_by_id(corpus)) == [f"{name}/{i}" for name in ("data-2", "data") for i in "abcd"]


def test_names_and_directories_must_match(tmp_path, table):
    write(tmp_path, table)
    with pytest.raises(CorpusError, match="no corpus 'iemocapp'; there are: .*demo, folder.*msp_podcast.*hf:NAME"):
        load_corpora("iemocapp", emotion_labels=LABELS)
    with pytest.raises(CorpusError, match="read from a directory"):
        load_corpora("folder", emotion_labels=LABELS)
    with pytest.raises(CorpusError, match="read from a directory"):
        load_corpora("demo", tmp_path, emotion_labels=LABELS)
    with pytest.raises(CorpusError, match="more than once"):
        load_corpora(["demo", "demo"], emotion_labels=LABELS)
    with pytest.raises(CorpusError, match="no effect on demo"):
        load_corpora("demo", emotion_labels=LABELS, label_scale=(1, 5))


# -- the demo corpus -------------------------------------------------------------------------------------------------


def test_another_scale_than_the_models_is_said(tmp_path):
    rows = pd.DataFrame({"text": ["so", "no"], "valence": [1, 7.0], "emotion": ["anger", "anger"], "split": "test"})
    rows.to_csv(tmp_path / "metadata.csv", index=False)
    corpus = load_corpora("folder", tmp_path, emotion_labels=["anger"])
    assert on_scale(corpus, (1, 7)) is corpus
    carried = on_scale(corpus, (1, 5))
    assert carried.splits["test"]["valence"][:] == [1, 5]
    assert [said for said in carried.caveats if "from 1 to 7" in said and "1 to 5, the model's" in said]
    rows.drop(columns="valence").to_csv(tmp_path / "metadata.csv", index=False)
    undimensioned = load_corpora("folder", tmp_path, emotion_labels=["anger"])
    assert on_scale(undimensioned, (1, 5)).caveats == undimensioned.caveats
