"""IEMOCAP: its labels, votes and folds."""

from pathlib import Path

import pytest
from test_published_corpora import load, put, record, rows_of, said

from modeling_mmer.corpora import CorpusError

# ── IEMOCAP ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def iemocap(tmp_path) -> Path:
    for session in range(1, 6):
        folder = tmp_path / "IEMOCAP_full_release" / f"Session{session}"
        dialog = f"Ses0{session}F_impro01"
        names = [f"{dialog}_F000", f"{dialog}_M000", f"{dialog}_F001"]
        labels = ["neu\t[2.5000, 3.5000, 1.5000]", "exc\t[4.0000, 4.5000, 3.0000]", "xxx\t[5.5000, 2.0000, 2.0000]"]
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for i, (name, label) in enumerate(zip(names, labels, strict=True)):
            lines += [f"[{i}.2901 - {i + 1}.2357]\t{name}\t{label}", "C-E2:\tNeutral;\t()", "A-E1:\tval 2; act 3;", ""]
            record(folder / "sentences/wav" / dialog / f"{name}.wav")
        put(folder / f"dialog/EmoEvaluation/{dialog}.txt", "\n".join(lines))
        put(folder / f"dialog/EmoEvaluation/._{dialog}.txt", "Mac OS X")
        texts = [f"{names[0]} [000.2901-001.2357]: Excuse me.", f"{names[1]} [001.2901-002.2357]: Yes!"]
        texts += ["M: (laughs)", f"{dialog}_MXX0 [002.0-002.1]: mhm"]
        put(folder / f"dialog/transcriptions/{dialog}.txt", "\n".join(texts))
    return tmp_path


def test_iemocap(iemocap):
    corpus = load("iemocap", iemocap, fold=5)
    of_split = {split: {row["utterance_id"][:5] for row in rows} for split, rows in corpus.splits.items()}
    assert of_split == {"test": {"Ses05"}, "validation": {"Ses01"}, "train": {"Ses02", "Ses03", "Ses04"}}
    rows = rows_of(corpus)
    woman, man, disputed = (rows[f"Ses03F_impro01_{turn}"] for turn in ("F000", "M000", "F001"))
    assert (woman["valence"], woman["arousal"], woman["dominance"]) == (2.5, 3.5, 1.5)  # the file's order is V, A, D
    assert (woman["emotion"], woman["speaker"], woman["text"]) == ("neutral", "Ses03F", "Excuse me.")
    assert (man["emotion"], man["speaker"]) == ("happiness", "Ses03M")
    assert (disputed["emotion"], disputed["text"], disputed["valence"]) == (None, None, None)
    for words in (
        ("5 rows labelled excitement count as happiness",),
        ("5 lines cannot be read", "M: (laughs)"),
        ("5 transcripts have no label", "MXX0"),
        ("5 values are not on the scale 1 to 5", "5.5"),
        ("5 of 15 rows have no text",),
        ("no agreement (5)",),
    ):
        assert said(corpus, *words), (words, corpus.notices)


def test_every_session_of_iemocap_is_tested_once(iemocap):
    tested = [rows_of_split["utterance_id"][:5] for fold in range(1, 6) for rows_of_split in
              load("iemocap", iemocap, fold=fold).splits["test"]]  # fmt: skip
    assert sorted(set(tested)) == [f"Ses0{session}" for session in range(1, 6)] and len(tested) == 15


def test_excitement_is_what_the_user_says(iemocap):
    own_class = load("iemocap", iemocap, fold=1, emotion_labels=("happiness", "excitement"))
    assert rows_of(own_class)["Ses01F_impro01_M000"]["emotion"] == "excitement"
    renamed = load("iemocap", iemocap, fold=1, label_map={"excitement": "anger"})
    assert rows_of(renamed)["Ses01F_impro01_M000"]["emotion"] == "anger"


def test_excitement_is_a_class_under_any_spelling(iemocap):
    corpus = load("iemocap", iemocap, fold=1, emotion_labels=("neutral", "happy", "excited", "sad", "angry"))
    assert "excited" in {row["emotion"] for row in rows_of(corpus).values()}
    assert not said(corpus, "count as happiness")


def test_folds_are_asked_for_where_there_are_any(iemocap, tmp_path):
    with pytest.raises(CorpusError, match="iemocap has 5 folds"):
        load("iemocap", iemocap)
    with pytest.raises(CorpusError, match="folds 1 to 5, not 6"):
        load("iemocap", iemocap, fold=6)
    with pytest.raises(CorpusError, match="demo has no folds"):
        load("demo", fold=1)
