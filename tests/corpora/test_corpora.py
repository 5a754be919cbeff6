"""Corpora: whatever the table looks like, the same rows come out, or an error that names what is wrong.

All data is made here, in `tmp_path`.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from modeling_mmer.corpora import CorpusError, load_corpora
from modeling_mmer.corpora.folder import COLUMN_NAMES
from modeling_mmer.corpora.schema import FEATURES

LABELS = ("neutral", "happiness", "sadness", "anger")
SECONDS = {"a": 0.1, "b": 0.25, "c": 0.5}


@pytest.fixture
def table(tmp_path) -> pd.DataFrame:
    """Three full rows and one with text only; the audio files exist, in `tmp_path/audio`."""
    (tmp_path / "audio").mkdir()
    for name, seconds in SECONDS.items():
        soundfile.write(tmp_path / "audio" / f"{name}.wav", np.zeros(round(16000 * seconds)), 16000)
    return pd.DataFrame(
        {
            "utterance_id": ["a", "b", "c", "d"],
            "audio": ["audio/a.wav", "audio/b.wav", "audio/c.wav", None],
            "text": ["null", "  ", "so it is", "no sound"],
            "emotion": ["anger", "happiness", None, "sadness"],
            "valence": [2.0, 6.1, 4.0, None],
            "arousal": [5.0, 5.5, None, 2.0],
            "dominance": [1.0, 7.0, 4.4, 3.3],
            "speaker": ["s1", "s2", "s1", None],
            "split": ["train", "dev", "Train", "Test1"],
        }
    )


def write(folder: Path, table: pd.DataFrame, kind: str = "csv") -> Path:
    file = folder / f"metadata.{kind}"
    if kind == "csv":
        table.to_csv(file, index=False)
    elif kind == "jsonl":
        table.to_json(file, orient="records", lines=True)
    else:
        table.to_parquet(file, index=False)
    return file


def load(folder: Path, table: pd.DataFrame, **options):
    write(folder, table)
    return load_corpora("folder", folder, emotion_labels=LABELS, **options)


def rows_by_id(corpus) -> dict[str, dict]:
    return {row["utterance_id"]: row for split in corpus.splits.values() for row in split}


# -- the schema ------------------------------------------------------------------------------------------------------


def test_rows_come_out_in_the_schema(tmp_path, table):
    corpus = load(tmp_path, table)
    assert {split: rows["utterance_id"][:] for split, rows in corpus.splits.items()} == {
        "train": ["a", "c"],
        "validation": ["b"],
        "test": ["d"],
    }
    assert all(rows.features == FEATURES for rows in corpus.splits.values())
    assert corpus.label_scale == (1.0, 7.0)
    rows = rows_by_id(corpus)
    assert rows["a"] == {
        "utterance_id": "a",
        "audio": str(tmp_path / "audio" / "a.wav"),
        "start": None,
        "end": None,
        "text": "null",  # a word, not a missing value
        "text_source": "reference",
        "emotion": "anger",
        "emotion_votes": None,
        "sentiment": "negative",
        "valence": 2.0,
        "arousal": 5.0,
        "dominance": 1.0,
        "speaker": "s1",
        "split": "train",
        "duration": 0.1,
    }
    assert rows["b"]["text"] is None and rows["b"]["text_source"] is None
    assert rows["c"]["emotion"] is None and rows["c"]["arousal"] is None
    assert rows["d"]["audio"] is None and rows["d"]["duration"] is None and rows["d"]["speaker"] is None
    assert rows["d"]["valence"] is None and rows["d"]["sentiment"] is None
    assert {name: rows[name]["duration"] for name in SECONDS} == pytest.approx(SECONDS)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_every_file_format_gives_the_same_rows(tmp_path, table, kind):
    from_csv = load_corpora("folder", write(tmp_path, table, "csv"), emotion_labels=LABELS)
    from_other = load_corpora("folder", write(tmp_path, table, kind), emotion_labels=LABELS)
    assert rows_by_id(from_csv) == rows_by_id(from_other)
    assert from_csv.notices == from_other.notices


def test_numeric_ids_read_the_same_from_every_format(tmp_path, table):
    table["utterance_id"] = [1, 2, 3, 4]
    table["speaker"] = [11, 12, 11, 13]
    corpora = [
        load_corpora("folder", write(tmp_path, table, kind), emotion_labels=LABELS)
        for kind in ("csv", "jsonl", "parquet")
    ]
    assert [sorted(rows_by_id(corpus)) for corpus in corpora] == [["1", "2", "3", "4"]] * 3
    assert [rows_by_id(corpus)["1"]["speaker"] for corpus in corpora] == ["11"] * 3


def test_order_of_the_metadata_changes_nothing_but_the_order(tmp_path, table):
    before = load(tmp_path, table)
    after = load(tmp_path, table.iloc[[3, 1, 2, 0]])
    assert rows_by_id(before) == rows_by_id(after)
    assert after.splits["train"]["utterance_id"][:] == ["c", "a"]


@pytest.mark.parametrize(
    ("spelling", "split"),
    [
        ("Train", "train"),
        ("training", "train"),
        ("dev", "validation"),
        ("Development", "validation"),
        ("valid", "validation"),
        ("val", "validation"),
        ("test", "test"),
        ("Test1", "test"),
    ],
)
def test_usual_split_spellings(tmp_path, table, spelling, split):
    table["split"] = spelling
    assert list(load(tmp_path, table).splits) == [split]


def test_without_a_split_column_everything_is_test_and_said_so(tmp_path, table):
    corpus = load(tmp_path, table.drop(columns="split"))
    assert {name: len(rows) for name, rows in corpus.splits.items()} == {"test": 4}
    assert any("no split column" in caveat for caveat in corpus.caveats)


def test_speakers_in_two_splits_are_a_notice(tmp_path, table):
    def caveats(corpus):
        return [caveat for caveat in corpus.caveats if "speakers in more than one split" in caveat]

    assert not caveats(load(tmp_path, table))
    table.loc[1, "speaker"] = "s1"
    (caveat,) = caveats(load(tmp_path, table))
    assert "s1" in caveat and "s2" not in caveat


# -- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "name"), [(field, name) for field, names in COLUMN_NAMES.items() for name in names])
def test_columns_are_recognised_by_each_name(tmp_path, table, field, name):
    table["sentiment"] = "neutral"
    expected = rows_by_id(load(tmp_path, table))
    assert rows_by_id(load(tmp_path, table.rename(columns={field: name}))) == expected


def test_column_order_does_not_matter(tmp_path, table):
    assert rows_by_id(load(tmp_path, table[table.columns[::-1]])) == rows_by_id(load(tmp_path, table))


def test_two_candidates_for_a_field_are_an_error_and_column_map_settles_it(tmp_path, table):
    table["transcript"] = ["one", "two", "three", "four"]
    with pytest.raises(CorpusError, match=r"text and transcript .* text.*--column_map text=transcript"):
        load(tmp_path, table)
    rows = rows_by_id(load(tmp_path, table, column_map={"text": "transcript"}))
    assert [rows[name]["text"] for name in "abcd"] == ["one", "two", "three", "four"]


def test_column_map_reaches_columns_of_any_name(tmp_path, table):
    expected = rows_by_id(load(tmp_path, table))
    renamed = table.rename(columns={"text": "words", "valence": "v"})
    assert rows_by_id(load(tmp_path, renamed, column_map={"text": "words", "valence": "v"})) == expected


def test_mapped_column_is_not_taken_for_another_field(tmp_path, table):
    table["text"] = ["angry", "happy", "so it is", "sad"]
    table = table.rename(columns={"text": "label"}).drop(columns="emotion")
    rows = rows_by_id(load(tmp_path, table, column_map={"text": "label"}))
    assert rows["c"]["text"] == "so it is" and rows["a"]["emotion"] is None


@pytest.mark.parametrize(
    ("column_map", "message"),
    [({"text": "words"}, "text=words.*has the columns.*utterance_id"), ({"txt": "text"}, "no field 'txt'")],
)
def test_wrong_column_map_is_an_error(tmp_path, table, column_map, message):
    with pytest.raises(CorpusError, match=message):
        load(tmp_path, table, column_map=column_map)


def test_unused_columns_are_said(tmp_path, table):
    table["emoton"] = "anger"
    assert any("emoton" in notice for notice in load(tmp_path, table).notices)


def test_ids_come_from_the_audio_path_or_else_the_row(tmp_path, table):
    table.loc[2, "audio"] = str(tmp_path / "audio" / "c.wav")
    rows = rows_by_id(load(tmp_path, table.drop(columns="utterance_id")))
    assert sorted(rows) == sorted(["audio/a", "audio/b", str(tmp_path / "audio" / "c"), "row_00004"])


# -- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelling", "label"),
    [("angry", "anger"), ("happy", "happiness"), ("Joy", "happiness"), ("SAD", "sadness"), ("neutral", "neutral")],
)
def test_usual_emotion_spellings_are_one_class(tmp_path, table, spelling, label):
    table["emotion"] = spelling
    corpus = load(tmp_path, table)
    assert {row["emotion"] for row in rows_by_id(corpus).values()} == {label}
    assert not any("unlabelled" in notice for notice in corpus.notices)


def test_labels_keep_the_spelling_of_the_model(tmp_path, table):
    write(tmp_path, table)
    rows = rows_by_id(load_corpora("folder", tmp_path, emotion_labels=("neutral", "Happy", "sad", "angry")))
    assert [rows[name]["emotion"] for name in "abcd"] == ["angry", "Happy", None, "sad"]


def test_two_labels_of_one_class_stay_apart(tmp_path, table):
    table["emotion"] = ["joy", "happiness", "happy", "anger"]
    write(tmp_path, table)
    rows = rows_by_id(load_corpora("folder", tmp_path, emotion_labels=("joy", "happiness", "anger")))
    assert [rows[name]["emotion"] for name in "abcd"] == ["joy", "happiness", None, "anger"]


def test_other_emotions_are_unlabelled_and_counted_by_name(tmp_path, table):
    table["emotion"] = ["surprise", "fear", "surprise", "sad"]
    corpus = load(tmp_path, table)
    assert [rows_by_id(corpus)[name]["emotion"] for name in "abcd"] == [None, None, None, "sadness"]
    (caveat,) = [caveat for caveat in corpus.caveats if "unlabelled" in caveat]
    assert "surprise (2), fear (1)" in caveat and "sad" not in caveat.split("unlabelled")[1]


def test_label_map_comes_before_the_spellings(tmp_path, table):
    table["emotion"] = ["excited", "Happy", "happiness", "sad"]
    corpus = load(tmp_path, table, label_map={"excited": "happy", "happy": "sad", "sad": "happy"})
    assert [rows_by_id(corpus)[name]["emotion"] for name in "abcd"] == [
        "happiness",
        "sadness",
        "happiness",
        "happiness",
    ]


def test_label_map_that_meets_nothing_is_said(tmp_path, table):
    notices = load(tmp_path, table, label_map={"exited": "happiness", "anger": "anger"}).notices
    (notice,) = [notice for notice in notices if "label_map names" in notice]
    assert "exited" in notice and "anger" not in notice


@pytest.mark.parametrize(
    ("scale", "valences", "sentiments"),
    [
        ((1, 7), [2.9, 3, 5, 5.1], ["negative", "neutral", "neutral", "positive"]),
        ((1, 7), [1, 2.999999, 5.000001, 7], ["negative", "negative", "positive", "positive"]),
        # 1-5: a third of four steps above 1 is 2.333…, two thirds are 3.666…
        ((1, 5), [2.3, 2.4, 3.6, 3.7], ["negative", "neutral", "neutral", "positive"]),
        ((1, 5), [1 + 4 / 3, 1 + 8 / 3, 1, 5], ["neutral", "neutral", "negative", "positive"]),
        ((-3, 3), [-1.1, -1, 1, 1.1], ["negative", "neutral", "neutral", "positive"]),
        ((0, 1), [0.3, 1 / 3, 2 / 3, 0.7], ["negative", "neutral", "neutral", "positive"]),
        # thresholds that do not divide evenly in floating point
        ((1, 6), [1 + 5 / 3, 1 + 10 / 3, 2.6, 4.4], ["neutral", "neutral", "negative", "positive"]),
    ],
)
def test_sentiment_follows_valence_on_the_declared_scale(tmp_path, table, scale, valences, sentiments):
    table["valence"] = valences
    table["arousal"] = table["dominance"] = None
    corpus = load(tmp_path, table, label_scale=scale)
    assert [rows_by_id(corpus)[name]["sentiment"] for name in "abcd"] == sentiments
    assert corpus.label_scale == scale


def test_a_sentiment_column_wins_over_valence(tmp_path, table):
    table["sentiment"] = ["Positive", None, "mixed", "neutral"]  # valence says negative, positive, neutral, nothing
    corpus = load(tmp_path, table)
    assert [rows_by_id(corpus)[name]["sentiment"] for name in "abcd"] == ["positive", None, None, "neutral"]
    assert any("mixed (1)" in caveat for caveat in corpus.caveats)


# -- errors ----------------------------------------------------------------------------------------------------------


def test_dimensions_off_the_scale_name_their_rows(tmp_path, table):
    table.loc[1, "valence"] = 7.01
    table.loc[3, "arousal"] = 0.5
    with pytest.raises(CorpusError) as error:
        load(tmp_path, table)
    assert "row 2 (b): valence 7.01" in str(error.value) and "row 4 (d): arousal 0.5" in str(error.value)
    assert "row 1" not in str(error.value) and "label_scale" in str(error.value)


def test_dimensions_that_are_no_numbers_name_their_rows(tmp_path, table):
    table["dominance"] = ["1", "high", "nan", None]
    with pytest.raises(CorpusError, match=r"(?m)row 2 \(b\): dominance high$"):
        load(tmp_path, table)
