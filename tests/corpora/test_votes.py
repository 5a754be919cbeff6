"""Votes of raters: read from published corpora and from tables of one's own, mapped like labels, and how far they
agree."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, DatasetDict

from modeling_mmer.corpora import CorpusError, load_corpora
from modeling_mmer.corpora.describe import describe
from modeling_mmer.corpora.votes import agreement, read_votes, vote_counts
from modeling_mmer.report.corpus import corpus_report

LABELS = ("neutral", "happiness", "sadness", "anger")


def load(name: str, folder: Path, **options):
    return load_corpora([name], [str(folder)] if folder else None, emotion_labels=LABELS, **options)


def votes_of(corpus) -> dict[str, dict | None]:
    rows = [row for split in corpus.splits.values() for row in split]
    return {row["text"]: row["emotion_votes"] and json.loads(row["emotion_votes"]) for row in rows}


def table(folder: Path, **columns) -> Path:
    frame = pd.DataFrame({"text": list("abcd")[: len(next(iter(columns.values())))], **columns})
    frame.to_csv(folder / "metadata.csv", index=False)
    return folder


def test_a_column_of_json(tmp_path):
    cells = ['{"angry": 2, "neu": 1, "sadness": 0}', "", '{"anger": 0.5, "Happy": 1.5}', "{}"]
    corpus = load("folder", table(tmp_path, emotion=["angry", "sad", "", ""], emotion_votes=cells))
    votes = {"a": {"neutral": 1, "anger": 2}, "b": None, "c": {"happiness": 1.5, "anger": 0.5}, "d": None}
    assert votes_of(corpus) == votes
    assert corpus.splits["test"]["emotion"][:] == ["anger", "sadness", None, None]  # given ones are not touched


def test_a_column_for_each_emotion(tmp_path):
    corpus = load(
        "folder", table(tmp_path, votes_angry=[3, 0, 1], Votes_neutral=[1, "", 1], **{"votes sad": [0, 2, 0]})
    )
    assert votes_of(corpus) == {"a": {"neutral": 1, "anger": 3}, "b": {"sadness": 2}, "c": {"neutral": 1, "anger": 1}}
    # without a column of emotions, the most voted one is the label
    assert corpus.splits["test"]["emotion"][:] == ["anger", "sadness", None]


@pytest.mark.parametrize("form", ["mappings", "columns"])
def test_data_sets_of_datasets(tmp_path, form):
    columns = {"votes_anger": [2, 0], "votes_neutral": [1, None]}
    if form == "mappings":
        columns = {"emotion_votes": [{"anger": 2, "neutral": 1}, None]}
    DatasetDict({"train": Dataset.from_dict({"text": ["a", "b"], **columns})}).save_to_disk(tmp_path / "set")
    assert votes_of(load(f"hf:{tmp_path / 'set'}", None)) == {"a": {"neutral": 1, "anger": 2}, "b": None}


def test_label_maps_apply_to_votes_and_what_is_no_label_is_counted(tmp_path):
    cells = ['{"rage": 2, "disgust": 1}', '{"fear": 2, "neutral": 1}', '{"disgust": 1, "sad": 1}']
    emotions = ["rage", "fear", "sad"]
    corpus = load("folder", table(tmp_path, emotion=emotions, emotion_votes=cells), label_map={"rage": "anger"})
    assert votes_of(corpus) == {"a": {"anger": 2}, "b": None, "c": {"sadness": 1}}  # b: most are for no label
    said = (
        "votes for emotions that are no label are left out: disgust (2), fear (2); 1 row has more of them than others"
    )
    assert said in corpus.notices
    renamed = load("folder", tmp_path, label_map={"sadness": "neutral", "rage": "anger"})  # the vote is for "sad"
    assert votes_of(renamed)["c"] == {"neutral": 1}


@pytest.mark.parametrize("cell", ['{"anger": -1}', '{"anger": "many"}', "[1, 2]", "anger", "3", '{"anger": NaN'])
def test_votes_that_cannot_be_read_are_named(tmp_path, cell):
    with pytest.raises(CorpusError, match=r"(?s)votes that cannot be read.*row 2 .*the form is \{\"anger\": 3"):
        load("folder", table(tmp_path, emotion=["sad", "sad"], emotion_votes=["", cell]))


def test_votes_in_both_forms_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="emotion_votes and in votes_sad: leave out one"):
        load("folder", table(tmp_path, emotion_votes=["{}"], votes_sad=[1]))


def test_votes_of_msp_podcast(tmp_path):
    labels = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
    labels += "MSP-PODCAST_1.wav,X,2,4,5,1,Male,Train\nMSP-PODCAST_2.wav,H,5,5,5,2,Male,Train\n"
    detailed = "FileName,WorkerID,EmoClass_Major\n" + "".join(
        f"MSP-PODCAST_1.wav,W{i},{emotion}\n"
        for i, emotion in enumerate(("Neutral", "Sad", "Sad", "Neutral", "Other-odd"))
    )
    for name, text in {"labels_consensus.csv": labels, "labels_detailed.csv": detailed}.items():
        (tmp_path / "Labels").mkdir(exist_ok=True)
        (tmp_path / "Labels" / name).write_text(text)
    for i in (1, 2):
        (tmp_path / "Transcripts").mkdir(exist_ok=True)
        (tmp_path / "Audios").mkdir(exist_ok=True)
        (tmp_path / f"Transcripts/MSP-PODCAST_{i}.txt").write_text("ab"[i - 1])
    corpus = load("msp_podcast", tmp_path, on_bad_rows="keep")
    assert votes_of(corpus) == {"a": {"neutral": 2, "sadness": 2}, "b": None}
    assert corpus.splits["train"]["emotion"][:] == [None, "happiness"]  # no agreement, and yet there are votes


def test_votes_of_iemocap(tmp_path):
    """Those of listeners, who may choose several emotions; not the actors' own."""
    lines = [
        "[1.0 - 2.0]\tSes01F_a_F000\txxx\t[2.5, 3.5, 1.5]",
        "C-E2:\tNeutral;\t()",
        "C-E3:\tNeutral; Excited;\t(calm)",
    ]
    lines += ["C-F1:\tAnger;\t()", "A-E3:\tval 3; act 2; dom 2;\t()", "[2.0 - 3.0] unreadable", "C-E2:\tAnger;\t()"]
    lines += ["[3.0 - 4.0]\tSes01F_a_M000\tang\t[2.5, 3.5, 1.5]", "C-E1:\tAnger;\t()"]
    for session in range(1, 6):
        folder = tmp_path / f"Session{session}/dialog"
        (folder / "EmoEvaluation").mkdir(parents=True)
        (folder / "transcriptions").mkdir()
    (tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_a.txt").write_text("\n".join(lines))
    texts = "Ses01F_a_F000 [1.0-2.0]: a\nSes01F_a_M000 [3.0-4.0]: b\n"
    (tmp_path / "Session1/dialog/transcriptions/Ses01F_a.txt").write_text(texts)
    assert votes_of(load("iemocap", tmp_path, fold=1, on_bad_rows="keep")) == {
        "a": {"neutral": 2, "happiness": 1},
        "b": {"anger": 1},
    }


def test_votes_of_crema_d_are_those_of_the_voice(tmp_path):
    header = '"","A","D","F","H","N","S","fileName","numResponses"\n'
    votes = '"100001",1,0,0,0,5,2,"1001_IEO_ANG_HI",8\n"200001",8,0,0,0,0,0,"1001_IEO_ANG_HI",8\n'
    (tmp_path / "processedResults").mkdir()
    (tmp_path / "processedResults/tabulatedVotes.csv").write_text(header + votes)
    (tmp_path / "AudioWAV").mkdir()
    for name in ("1001_IEO_ANG_HI.wav", "1002_TSI_SAD_XX.wav"):
        (tmp_path / "AudioWAV" / name).touch()
    corpus = load("crema_d", tmp_path, on_bad_rows="keep")
    heard = {"neutral": 5, "sadness": 2, "anger": 1}
    assert votes_of(corpus) == {"It's eleven o'clock.": heard, "The surface is slick.": None}
    emotions = {row["speaker"]: row["emotion"] for rows in corpus.splits.values() for row in rows}
    assert emotions == {"1001": "anger", "1002": "sadness"}  # what the actor meant


def alpha_by_pairs(counts: np.ndarray) -> float:
    """1 − observed / expected disagreement, over all pairs of votes."""
    values = [[k for k, n in enumerate(row) for _ in range(int(n))] for row in counts if row.sum() > 1]
    within = [(a != b) / (len(v) - 1) for v in values for i, a in enumerate(v) for j, b in enumerate(v) if i != j]
    every = [k for v in values for k in v]
    between = [a != b for i, a in enumerate(every) for j, b in enumerate(every) if i != j]
    return 1 - (sum(within) / len(every)) / np.mean(between)


def test_agreement_of_raters():
    counts = np.array([[3, 0, 0], [1, 2, 0], [0, 0, 4], [0, 1, 0], [1, 1, 1]], dtype=float)
    assert agreement(counts) == pytest.approx(alpha_by_pairs(counts))
    assert agreement(np.array([[3, 0], [0, 2]])) == 1
    for undefined in ([[3, 0], [2, 0]], [[1, 0], [0, 1]], [[0.5, 0.7], [1, 1]]):
        assert agreement(np.array(undefined, dtype=float)) is None


def test_describe_has_votes_and_their_agreement(tmp_path):
    corpus = load("folder", table(tmp_path, votes_anger=[2, 1, 0, ""], votes_sad=[0, 1, 3, ""]))
    figures = describe(corpus)["all"]["emotion_votes"]
    alpha = alpha_by_pairs(np.array([[2, 0], [1, 1], [0, 3]]))
    assert figures == {"rows": 3, "labels": {"anger": 3, "sadness": 4}, "krippendorff_alpha": pytest.approx(alpha)}
    assert f"Krippendorff's alpha | {alpha:.2f}" in corpus_report(describe(corpus))
    without = load("folder", table(tmp_path, emotion=["sad"]))
    assert "emotion_votes" not in describe(without)["all"] and "alpha" not in corpus_report(describe(without))


def test_counts_in_the_order_of_labels():
    cells = ['{"anger": 2, "neutral": 1}', None, {"Anger": 3, "fear": 1}]
    np.testing.assert_array_equal(vote_counts(cells, ["neutral", "anger"]), [[1, 2], [0, 0], [0, 3]])
    assert vote_counts([], ["neutral", "anger"]).shape == (0, 2)
    assert read_votes(float("nan")) == read_votes(None) == read_votes(" ") == {}
