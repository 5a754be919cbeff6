"""Corpora: whatever the table looks like, the same rows come out, or an error that names what is wrong.

All data but the embedded demo corpus is made here, in `tmp_path`.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from modeling_mmer.corpora import CorpusError, load_corpora, on_scale
from modeling_mmer.corpora.demo import DEMO_FOLDER
from modeling_mmer.corpora.folder import COLUMN_NAMES
from modeling_mmer.corpora.schema import DIMENSIONS, FEATURES

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


def test_all_broken_audio_is_listed_at_once_by_its_kind(tmp_path, table):
    (tmp_path / "audio" / "a.wav").unlink()
    (tmp_path / "audio" / "b.wav").write_bytes(b"this is not audio")
    soundfile.write(tmp_path / "audio" / "c.wav", np.zeros(0), 16000)
    with pytest.raises(CorpusError) as error:
        load(tmp_path, table)
    lines = str(error.value).splitlines()
    for row, file, kind in (
        ("row 1 (a)", "a.wav", "missing"),
        ("row 2 (b)", "b.wav", "cannot be decoded"),
        ("row 3 (c)", "c.wav", "without samples"),
    ):
        (place,) = [i for i, line in enumerate(lines) if row in line and file in line]
        assert kind in lines[place - 1]


@pytest.fixture
def faulty(tmp_path, table) -> tuple[pd.DataFrame, dict[str, str]]:
    """Rows with a fault of each kind, one of them with two, and what each message must name; `a` is sound."""
    rows = [table.iloc[[0]]] + [table.iloc[[3]].assign(utterance_id=name) for name in "nslxx"]
    table = pd.concat(rows, ignore_index=True)
    table.loc[1, "text"] = None
    table.loc[2, "split"], table.loc[2, "arousal"] = "holdout", 99.0
    table.loc[3, "valence"] = 0.5
    table = pd.concat([table, table.iloc[[0]].assign(utterance_id="gone", audio="audio/gone.wav")], ignore_index=True)
    expected = {
        "row 2 (n)": "neither audio nor text",
        "row 3 (s): holdout": "unknown splits",
        "row 3 (s): arousal 99.0": "on the scale",
        "row 4 (l): valence 0.5": "on the scale",
        "row 5 (x)": "share an utterance_id",
        "row 6 (x)": "share an utterance_id",
        f"row 7 (gone): {tmp_path / 'audio' / 'gone.wav'}": "missing",
    }
    return table, expected


def test_faults_of_every_kind_are_listed_at_once(tmp_path, faulty):
    table, expected = faulty
    with pytest.raises(CorpusError, match=r"bad rows \(6\)") as error:
        load(tmp_path, table)
    found, kind = {}, ""
    for line in str(error.value).splitlines()[1:]:
        if line.startswith("    row "):
            found[line.strip()] = kind
        else:
            kind = line
    assert found.keys() == expected.keys()
    assert all(words in found[row] for row, words in expected.items())


def test_bad_rows_can_be_left_out_counted_and_named(tmp_path, faulty):
    table, expected = faulty
    corpus = load(tmp_path, table, on_bad_rows="skip")
    assert list(rows_by_id(corpus)) == ["a"] and corpus.faults == []
    assert rows_by_id(corpus)["a"] == rows_by_id(load(tmp_path, table.iloc[[0]]))["a"]
    (notice,) = [notice for notice in corpus.caveats if "left out" in notice]
    assert notice.startswith("6 bad rows") and all(row in notice for row in expected)


def test_a_broken_recording_takes_its_text_with_it(tmp_path, table):
    table.loc[0, "audio"] = "audio/gone.wav"
    assert sorted(rows_by_id(load(tmp_path, table, on_bad_rows="skip"))) == ["b", "c", "d"]


def test_a_corpus_of_bad_rows_alone_is_an_error_however_they_are_meant(tmp_path, table):
    for how in ("skip", "keep"):
        with pytest.raises(CorpusError, match="unknown splits"):
            load(tmp_path, table.assign(split="holdout"), on_bad_rows=how)
    with pytest.raises(CorpusError, match="no other row is left"):
        load(tmp_path, table[:3].assign(audio="audio/gone.wav"), on_bad_rows="skip")


def test_faults_of_joined_corpora_are_listed_at_once(tmp_path, faulty):
    table, expected = faulty
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, table.assign(audio=table["audio"].map(lambda path: f"../{path}", na_action="ignore")))
    corpora = {"names": ["folder", "folder"], "directories": [tmp_path / "one", tmp_path / "two"]}
    with pytest.raises(CorpusError, match=r"bad rows \(12\)") as error:
        load_corpora(**corpora, emotion_labels=LABELS)
    for name in ("one", "two"):
        assert all(f"{name}: {row.partition(': ')[0]}" in str(error.value) for row in expected)
    left = load_corpora(**corpora, emotion_labels=LABELS, on_bad_rows="skip")
    assert sorted(rows_by_id(left)) == ["one/a", "two/a"]


def test_texts_in_several_splits_are_said(tmp_path, table):
    assert not any("texts are in more than one split" in caveat for caveat in load(tmp_path, table).caveats)
    table["text"] = ["So it  is", "other", "so it is", "SO IT IS"]  # train, validation, train, test
    (caveat,) = [
        caveat for caveat in load(tmp_path, table).caveats if "in more than one split" in caveat and "text" in caveat
    ]
    assert caveat.startswith("1 text is") and "So it is" in caveat


def test_a_long_list_of_broken_audio_is_cut(tmp_path):
    table = pd.DataFrame({"audio": [f"{i:02d}.wav" for i in range(25)]})
    with pytest.raises(CorpusError, match=r"bad rows \(25\).*\n.*recordings that are missing.*\(25\):") as error:
        load(tmp_path, table)
    assert "19.wav" in str(error.value) and "20.wav" not in str(error.value) and "5 more" in str(error.value)


def test_rows_with_neither_audio_nor_text_are_named(tmp_path, table):
    table.loc[[1, 3], "audio"], table.loc[[1, 3], "text"] = None, " "
    with pytest.raises(CorpusError, match=r"neither audio nor text; .* \(2\):\n +row 2 \(b\)\n +row 4 \(d\)(\n|$)"):
        load(tmp_path, table)


def test_duplicate_ids_are_named(tmp_path, table):
    table.loc[2, "utterance_id"] = "a"
    with pytest.raises(CorpusError, match=r"share an utterance_id; .* \(2\):\n +row 1 \(a\)\n +row 3 \(a\)(\n|$)"):
        load(tmp_path, table)


@pytest.mark.parametrize("wrong", ["Test4", None])
def test_unknown_splits_are_named(tmp_path, table, wrong):
    table.loc[2, "split"] = wrong
    with pytest.raises(CorpusError, match=rf"row 3 \(c\): {wrong or 'blank'}"):
        load(tmp_path, table)


def test_a_table_without_audio_or_text_columns(tmp_path, table):
    with pytest.raises(CorpusError, match="--column_map audio=COLUMN"):
        load(tmp_path, table.drop(columns=["audio", "text"]))


def test_tables_that_cannot_be_read(tmp_path, table):
    for content, kind in (("", "csv"), ("not json", "jsonl"), ("not parquet", "parquet")):
        file = tmp_path / f"metadata.{kind}"
        file.write_text(content)
        with pytest.raises(CorpusError, match=f"metadata.{kind} cannot be read"):
            load_corpora("folder", file, emotion_labels=LABELS)
    with pytest.raises(CorpusError, match="no rows"):
        load(tmp_path / "audio", table.iloc[:0])


def test_which_file_is_the_metadata(tmp_path, table):
    def names(path):
        return sorted(rows_by_id(load_corpora("folder", path, emotion_labels=LABELS)))

    with pytest.raises(CorpusError, match="no such folder"):
        names(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="looked for metadata.csv"):
        names(tmp_path / "empty")
    write(tmp_path, table).rename(tmp_path / "mine.csv")
    assert names(tmp_path) == names(tmp_path / "mine.csv") == ["a", "b", "c", "d"]
    write(tmp_path, table.iloc[:1])
    assert names(tmp_path) == ["a"]  # metadata.* comes first
    write(tmp_path, table, "jsonl")
    with pytest.raises(CorpusError, match="metadata.csv, metadata.jsonl"):
        names(tmp_path)


@pytest.mark.parametrize("scale", [(7, 1), (1, 1), (1,), (0, float("nan")), (0, float("inf"))])
def test_impossible_scales(tmp_path, table, scale):
    with pytest.raises(CorpusError, match="lowest and the highest"):
        load(tmp_path, table, label_scale=scale)


# -- several corpora -------------------------------------------------------------------------------------------------


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
