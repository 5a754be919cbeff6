"""Tables in many forms are read correctly, or refused with the file, the line, the cause and a remedy."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from modeling_mmer.corpora import CorpusError, load_corpora
from modeling_mmer.corpora.tables import read_table

LABELS = ("neutral", "happiness", "sadness", "anger")
CELLS = [["file_name", "text", "emotion", "split"], ["a.wav", "Größe, à l’été", "angry", "train"]]
CELLS += [["b.wav", "fine", "sad", "test"]]


def put(file: Path, content: str | bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def record(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file.with_suffix(".flac"), np.linspace(-0.1, 0.1, 800), 16000)
    return file.with_suffix(".flac").rename(file)


def load(place: Path, **options):
    return load_corpora("folder", place, emotion_labels=LABELS, **options)


def rows_of(corpus) -> list[dict]:
    return [row for rows in corpus.splits.values() for row in rows]


def written(delimiter: str, end: str = "\n") -> str:
    quoted = [[f'"{cell}"' if "," in cell else cell for cell in row] for row in CELLS]
    return end.join(delimiter.join(row) for row in quoted) + end


# ── what programs write ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_delimiters_and_encodings_of_spreadsheets(tmp_path, delimiter, encoding):
    file = put(tmp_path / "metadata.csv", written(delimiter, "\r\n").encode(encoding))
    notices: list[str] = []
    assert read_table(file, notices).to_numpy().tolist() == CELLS[1:]
    assert [n.startswith("metadata.csv is not UTF-8") for n in notices] == [True] * (encoding == "cp1252")


@pytest.mark.parametrize(("end", "name"), [("\n", "m.CSV"), ("\r\n", "m.csv"), ("\r", "m.csv"), ("\n\n", "m.tsv")])
def test_line_ends_and_blank_lines(tmp_path, end, name):
    text = written("\t" if name == "m.tsv" else ",", end)
    assert read_table(put(tmp_path / name, text)).to_numpy().tolist() == CELLS[1:]


def test_sep_line_blank_rows_and_delimiters_at_the_end(tmp_path):
    lines = ["sep=;", *(";".join([*row, "", ""]) for row in CELLS), ";;;;;", ";;;;;"]
    notices: list[str] = []
    table = read_table(put(tmp_path / "m.csv", "\n".join(lines)), notices)
    assert list(table.columns) == CELLS[0] and table.to_numpy().tolist() == CELLS[1:]
    assert notices == ["2 rows of m.csv are not read: nothing in any cell"]


def test_a_delimiter_at_the_end_of_every_row_is_no_cell(tmp_path):
    put(tmp_path / "m.csv", "text,emotion\nfine,sad,\nok,happy,\n")
    assert read_table(tmp_path / "m.csv").to_numpy().tolist() == [["fine", "sad"], ["ok", "happy"]]


def test_a_header_among_the_rows_is_no_row(tmp_path):
    notices: list[str] = []
    put(tmp_path / "m.csv", "\ufeff\ufefftext,emotion\nfine,sad\n\ufeffText,emotion\n\ufefftext,emotion\n")
    assert read_table(tmp_path / "m.csv", notices).to_numpy().tolist() == [["fine", "sad"], ["\ufeffText", "emotion"]]
    assert notices == ["1 row of m.csv is not read: the header once more"]


def test_blanks_before_quotation_marks_are_none_of_a_cell(tmp_path):
    put(tmp_path / "m.csv", 'text, emotion\n"a, b", "sad"\nc, happy\n')
    assert read_table(tmp_path / "m.csv").to_numpy().tolist() == [["a, b", "sad"], ["c", "happy"]]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("悲しい", "shift_jis"), ("żółw jest zły", "cp1250"), ("Größe", "mac_roman"), ("Größe, déjà vu", "mac_roman")],
)
def test_an_encoding_that_no_western_word_has_is_refused(tmp_path, text, encoding):
    put(tmp_path / "metadata.csv", f'text,emotion\n"{text}",sad\n'.encode(encoding))
    with pytest.raises(CorpusError, match="neither UTF-8 nor UTF-16, .*line 2 .*save it as UTF-8"):
        load(tmp_path)


def test_a_file_in_two_encodings_is_refused_with_its_line(tmp_path):
    content = "text,emotion\nGröße,sad\n".encode() + "Käse,happy\n".encode("cp1252")
    with pytest.raises(CorpusError, match="UTF-8 in part only: line 3 "):
        load(put(tmp_path / "metadata.csv", content))


@pytest.mark.parametrize("text", ["Spaß” und „Größe“", "it´s 20°, «oui», ¿sí? 3€…", "l’été – à Noël", "col·lecció ½"])
def test_western_text_in_windows_1252_is_read(tmp_path, text):
    put(tmp_path / "metadata.csv", f"text;emotion\n{text};sad\n".encode("cp1252"))
    assert rows_of(load(tmp_path))[0]["text"] == text


def test_one_key_twice_in_an_object_is_refused(tmp_path):
    put(
        tmp_path / "metadata.jsonl",
        '{"text": "a", "emotion": "sad"}\n{"text": "b", "emotion": "sad", "emotion": "happy"}\n',
    )
    with pytest.raises(CorpusError, match="line 2 .*more than one value for emotion"):
        load(tmp_path)


def test_accents_of_columns_and_labels_may_be_encoded_otherwise(tmp_path):
    apart = unicodedata.normalize("NFD", "text,Gefühl\na,Ärger\n")
    corpus = load(put(tmp_path / "m.csv", apart), column_map={"emotion": "Gefühl"}, label_map={"Ärger": "anger"})
    assert rows_of(corpus)[0]["emotion"] == "anger"


def test_spellings_of_splits_and_emotions(tmp_path):
    splits = "Train set,dev-set,TEST_SET,Test-1,test 2".split(",")
    put(tmp_path / "m.csv", "text,emotion,split\n" + "".join(f"a{split},sad,{split}\n" for split in splits))
    corpus = load(tmp_path)
    assert {split: len(rows) for split, rows in corpus.splits.items()} == dict(train=1, validation=1, test=2, test2=1)
    put(tmp_path / "m.csv", "text,emotion\na,ps\n")
    assert rows_of(load_corpora("folder", tmp_path, emotion_labels=("surprise",)))[0]["emotion"] == "surprise"


def test_what_is_said_twice_is_refused(tmp_path):
    put(tmp_path / "m.csv", "text,emotion\na,Wut\n")
    with pytest.raises(CorpusError, match="label_map: wut is mapped twice, to anger and to sadness"):
        load(tmp_path, label_map={"Wut": "anger", "wut": "sadness"})
    with pytest.raises(CorpusError, match="is read more than once"):
        load_corpora(["folder", "folder"], [tmp_path, f"{tmp_path}/."], emotion_labels=LABELS)


def test_names_with_dots_keep_them_in_ids(tmp_path):
    record(tmp_path / "call.1.wav"), record(tmp_path / "call.2.WAV")
    put(tmp_path / "metadata.csv", "path,emotion\ncall.1,sad\ncall.2.WAV,sad\n")
    assert [row["utterance_id"] for row in rows_of(load(tmp_path))] == ["call.1", "call.2"]


def test_another_script_is_not_read_as_a_western_one(tmp_path):
    file = put(tmp_path / "metadata.csv", "text,emotion\nhello,sad\nпривет всем,angry\n".encode("cp1251"))
    with pytest.raises(CorpusError, match="neither UTF-8 nor UTF-16, .*line 3 .*save it as UTF-8"):
        load(file)


def test_decimal_commas_are_numbers_in_whole_columns(tmp_path):
    put(tmp_path / "metadata.csv", "text;valence;note\nit is 3,5;3,5;a,b\nso;4;1,5\n")
    assert [(row["text"], row["valence"]) for row in rows_of(load(tmp_path))] == [("it is 3,5", 3.5), ("so", 4.0)]
    assert list(read_table(tmp_path / "metadata.csv")["note"]) == ["a,b", "1,5"]


@pytest.mark.parametrize("header", ["Text,EMOTION,Split", " text , emotion ,split ", "\ufefftext,Emotion,SPLIT"])
def test_headers_in_any_case_with_blanks(tmp_path, header):
    put(tmp_path / "metadata.csv", f"{header}\nwell,sad,Train\nso,angry,dev\n")
    corpus = load(tmp_path)
    assert [(row["text"], row["emotion"], row["split"]) for row in rows_of(corpus)] == [
        ("well", "sadness", "train"),
        ("so", "anger", "validation"),
    ]


# ── what is refused, with its line ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["text,emotion", "Oh, no,anger", "fine,neutral"], ["2 columns (text, emotion)", "line 2 has 3", "Oh, no"]),
        (["text,emotion", "fine,neutral", "Oh, no,anger"], ["line 3 has 3"]),
        (["text,emotion,split", "fine,neutral"], ["line 2 has 2", "3 columns"]),
        (["text", "Oh, no"], ["line 2 has 2", "1 column ("]),
        (["text;emotion", "a;b;c"], ["';'", "line 2 has 3"]),
        (["text,emotion,", "Oh, no,anger"], ["line 2 has 3"]),
        (["text,emotion,speaker", "a,sad,A", "Oh, no,anger,", "b,sad,B"], ["line 3 has 4", "Oh, no,anger,"]),
        (["text,emotion", "a,sad,", "Oh, no,anger", "b,sad,"], ["line 3 has 3"]),
        (["text,text", "a,b"], ["more than one column is named text"]),
        (['text,emotion,split', '"Oh no,angry,train', 'I,sad,train', '"What",happy,test'], ["line 2 (row 1"]),
        (['text,emotion,split', 'I,sad,train', '"Oh no,angry,train', 'x,sad,test'], ["line 3 (row 2"]),
        (['text,emotion,split', '"Oh no,angry,train', 'I am",sad,train', 'x,sad,test'], ["line 2", "text", "I am"]),
        (['text,emotion,split', '"Oh, angry', 'I,sad,test', 'no",sad,train', 'x,sad,test'], ["line 2", "not closed"]),
    ],
)  # fmt: skip
def test_shifted_rows_and_open_quotation_marks_name_their_line(tmp_path, lines, words):
    file = put(tmp_path / "metadata.csv", "\n".join(lines) + "\n")
    with pytest.raises(CorpusError) as error:
        load(tmp_path)
    assert all(word in str(error.value) for word in (str(file), *words)), str(error.value)


def test_cells_with_line_breaks_are_read_and_counted(tmp_path):
    put(tmp_path / "metadata.csv", 'text,emotion,split\n"one\ntwo, three, four",sad,train\nfive,angry,test\n')
    corpus = load(tmp_path)
    assert rows_of(corpus)[0]["text"] == "one\ntwo, three, four"
    assert any("1 cell of metadata.csv has line breaks (line 2)" in notice for notice in corpus.notices)


def test_json_lines_name_the_line_that_is_none(tmp_path):
    put(tmp_path / "metadata.jsonl", '{"text": "a", "emotion": "sad"}\n\n["b"]\n')
    with pytest.raises(CorpusError, match="line 3 is no JSON object"):
        load(tmp_path)
    put(tmp_path / "metadata.jsonl", '{"text": "a"}\n{"text": \n')
    with pytest.raises(CorpusError, match="line 2 is no JSON"):
        load(tmp_path)


def test_more_than_one_value_in_a_cell_is_named(tmp_path):
    put(tmp_path / "metadata.jsonl", "\n".join(json.dumps({"text": t}) for t in ("a", ["b", "c"])))
    with pytest.raises(CorpusError, match=r"row 2 has a list in the column text.*--column_map text="):
        load(tmp_path)
    pd.DataFrame({"text": ["a", "b"], "emotion": [["sad"], ["angry"]]}).to_parquet(tmp_path / "lists.parquet")
    with pytest.raises(CorpusError, match="row 1 has a .* in the column emotion, which is read as emotion"):
        load(tmp_path / "lists.parquet")


def test_parquet_with_categories_and_an_index(tmp_path):
    table = pd.DataFrame({"text": ["a", "b"], "emotion": ["sad", None], "valence": [1, 2]})
    table = table.astype({"emotion": "category", "valence": "category"})
    table.index = pd.Index(["u1", "u2"], name="utterance_id")
    table.to_parquet(tmp_path / "metadata.parquet")
    rows = rows_of(load(tmp_path))
    assert [(row["utterance_id"], row["emotion"], row["valence"]) for row in rows] == [
        ("u1", "sadness", 1.0),
        ("u2", None, 2.0),
    ]


# ── columns ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_usual_name_of_a_field_stands_for_it_in_column_map(tmp_path):
    put(tmp_path / "metadata.csv", "words,My Feeling,note\nhello there,sad,x\n")
    (row,) = rows_of(load(tmp_path, column_map={"transcript": "Words", "label": "my_feeling"}))
    assert (row["text"], row["emotion"]) == ("hello there", "sadness")
    with pytest.raises(CorpusError, match=r"field=column.*no field 'words'.*--column_map text=words"):
        load(tmp_path, column_map={"words": "text"})
    with pytest.raises(CorpusError, match="mapped twice"):
        load(tmp_path, column_map={"text": "words", "transcript": "note"})


def test_columns_that_look_like_a_field_are_proposed(tmp_path):
    put(tmp_path / "metadata.csv", "clip,what they said,part\na.wav,hello there,train\nb.wav,so it is,dev\n")
    with pytest.raises(CorpusError, match=r"--column_map audio=clip or --column_map text='what they said'"):
        load(tmp_path)
    corpus = load(tmp_path, column_map={"text": "what they said"})
    assert corpus.advice["split"] == "--column_map split=part"
    assert any("no split column" in said and "--column_map split=part" in said for said in corpus.caveats)


def test_one_word_names_in_two_cases_are_two_candidates(tmp_path):
    put(tmp_path / "metadata.csv", "Text,text\na,b\n")
    with pytest.raises(CorpusError, match="--column_map text=Text or --column_map text=text"):
        load(tmp_path)


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("written_as", "on_disk"),
    [
        ("clips/a.wav", "clips/a.WAV"),
        ("clips\\a.wav", "clips/a.wav"),
        ("clips/a", "clips/a.wav"),
        ("Clips/A.wav", "clips/a.wav"),
        (unicodedata.normalize("NFC", "clips/é.wav"), unicodedata.normalize("NFD", "clips/é.wav")),
        (unicodedata.normalize("NFD", "étés/a.wav"), unicodedata.normalize("NFC", "étés/a.wav")),
    ],
)
def test_files_are_found_under_another_spelling(tmp_path, written_as, on_disk):
    file = record(tmp_path / on_disk)
    put(tmp_path / "metadata.csv", f"path,emotion\n{written_as},sad\n")
    corpus = load(tmp_path)
    assert rows_of(corpus)[0]["audio"] == str(file)
    assert any("1 recording was found under another spelling" in n for n in corpus.notices) == ("\\" not in str(file))


def test_two_files_that_could_be_meant_are_none(tmp_path):
    if record(tmp_path / "a.wav").samefile(record(tmp_path / "A.wav")):
        pytest.skip("a disk without regard to case")
    put(tmp_path / "metadata.csv", "path,emotion\na.WAV,sad\n")
    with pytest.raises(CorpusError, match="recordings that are missing"):
        load(tmp_path)


@pytest.mark.parametrize("path", [".", "..", "/", "./"])
def test_paths_of_folders_are_missing_recordings(tmp_path, path):
    put(tmp_path / "metadata.csv", f"path,text\n{path},hello\n")
    with pytest.raises(CorpusError, match="recordings that are missing"):
        load(tmp_path)


# ── audio folders ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["folder", "hf"])
def test_folders_named_after_classes_and_splits(tmp_path, name):
    for path in ("train/happy/a.wav", "train/sad/b.WAV", "dev/sad/c.wav", "test/angry/d.wav"):
        record(tmp_path / path)
    corpus = load(tmp_path) if name == "folder" else load_corpora(f"hf:{tmp_path}", emotion_labels=LABELS)
    assert {row["utterance_id"]: (row["split"], row["emotion"]) for row in rows_of(corpus)} == {
        "train/happy/a": ("train", "happiness"),
        "train/sad/b": ("train", "sadness"),
        "dev/sad/c": ("validation", "sadness"),
        "test/angry/d": ("test", "anger"),
    }


def test_folders_named_after_classes_alone(tmp_path):
    for path in ("happy/a.wav", "sad/a.wav"):
        record(tmp_path / path)
    corpus = load(tmp_path)
    assert [(row["utterance_id"], row["emotion"]) for row in corpus.splits["test"]] == [
        ("happy/a", "happiness"),
        ("sad/a", "sadness"),
    ]
    assert any("no split column" in caveat for caveat in corpus.caveats)


def test_a_table_for_each_split(tmp_path):
    for split in ("train", "test"):
        record(tmp_path / split / "a.wav")
        put(tmp_path / split / "metadata.csv", "file_name,label\na.wav,sad\n")
    corpus = load(tmp_path)
    assert {split: rows["utterance_id"][:] for split, rows in corpus.splits.items()} == {
        "train": ["train/a"],
        "test": ["test/a"],
    }
    put(tmp_path / "test" / "metadata.csv", "file_name,label\nb.wav,sad\n")
    with pytest.raises(CorpusError, match=r"test/metadata.csv row 1 \(test/b\)"):
        load(tmp_path)
    (tmp_path / "test" / "metadata.csv").unlink()
    with pytest.raises(CorpusError, match="test holds recordings but no metadata"):
        load(tmp_path)


def test_a_table_for_each_split_beside_each_other(tmp_path):
    for split, emotion in (("train", "sad"), ("Dev", "happy")):
        record(tmp_path / f"{split}.wav")
        put(tmp_path / f"{split}.csv", f"file_name,label\n{split}.wav,{emotion}\n")
    corpus = load(tmp_path)
    assert [(row["utterance_id"], row["emotion"], row["split"]) for row in rows_of(corpus)] == [
        ("train", "sadness", "train"),
        ("Dev", "happiness", "validation"),
    ]
    assert corpus.columns == {"audio": "file_name", "emotion": "label"}
    put(tmp_path / "notes.csv", "text\na\n")
    with pytest.raises(CorpusError, match="several tables"):
        load(tmp_path)


def test_tables_further_below_are_not_passed_over(tmp_path):
    record(tmp_path / "data/train/a.wav")
    put(tmp_path / "data/train/metadata.csv", "file_name,label\na.wav,sad\n")
    with pytest.raises(CorpusError, match="data/train/metadata.csv lies below it: .*--corpus_dir"):
        load(tmp_path)


def test_hidden_folders_hold_no_rows(tmp_path):
    record(tmp_path / "happy/a.wav"), record(tmp_path / "happy/.trash/b.wav")
    assert [row["utterance_id"] for row in rows_of(load(tmp_path))] == ["happy/a"]


def test_splits_are_the_folders_of_the_recordings_where_no_column_says_them(tmp_path):
    record(tmp_path / "train/a.wav"), record(tmp_path / "valid/b.wav")
    put(tmp_path / "metadata.csv", "file_name,label\ntrain/a.wav,sad\nvalid/b.wav,sad\n")
    corpus = load(tmp_path)
    assert {split: rows["utterance_id"][:] for split, rows in corpus.splits.items()} == {
        "train": ["train/a"],
        "validation": ["valid/b"],
    }


# ── what reaches notices ────────────────────────────────────────────────────────────────────────────────────────────


def test_line_breaks_stay_out_of_names(tmp_path):
    rows = [("a", "new\nline", "odd\r\nmood", "train"), ("b", "new\nline", "sad", "test")]
    pd.DataFrame(rows, columns=["text", "speaker", "emotion", "split"]).to_parquet(tmp_path / "metadata.parquet")
    corpus = load(tmp_path)
    assert {row["speaker"] for row in rows_of(corpus)} == {"new line"}
    assert corpus.left_out[0].emotion == "odd mood"
    assert not any("\n" in said or "\r" in said for said in (*corpus.notices, *corpus.caveats))


@pytest.mark.parametrize(
    ("values", "scale", "doubted"),
    [((1, 4.9), None, True), ((1, 5), (1, 5), False), ((2, 5.5), None, False), ((1, 5), (1, 7), False)],
)
def test_an_assumed_scale_that_no_value_fills_is_a_caveat(tmp_path, values, scale, doubted):
    put(tmp_path / "metadata.csv", "text,valence\n" + "".join(f"a{v},{v}\n" for v in values))
    caveats = load(tmp_path, label_scale=scale).caveats
    assert any("--label_scale 1 5" in caveat for caveat in caveats) == doubted


def test_an_assumed_scale_is_doubted_again_in_an_evaluation(tmp_path):
    put(tmp_path / "metadata.csv", "text,valence\na,2\nb,4.5\n")
    assumed, said = load(tmp_path), load(tmp_path, label_scale=(1, 5))
    assert any("--label_scale 1 5" in caveat for caveat in load(tmp_path, readings=assumed.readings).caveats)
    again = load(tmp_path, readings=said.readings)
    assert again.label_scale == (1, 5) and not any("--label_scale 1 5" in caveat for caveat in again.caveats)
