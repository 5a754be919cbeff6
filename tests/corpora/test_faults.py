"""Faults of rows and of tables: all are listed at once, with what would mend them."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from test_corpora import LABELS, load, rows_by_id, write
from test_corpora import table as table  # a fixture

from modeling_mmer.corpora import CorpusError, load_corpora


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
