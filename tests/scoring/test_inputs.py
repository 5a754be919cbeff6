"""What a user names is found: files, folders, globs, tables, data sets, standard input, turns, channels and shares."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from datasets import Audio, Dataset
from scorers import RECORDINGS

from modeling_mmer.corpora import CorpusError
from modeling_mmer.scoring.inputs import InputError, by_channels, find_sources, identified, with_turns
from modeling_mmer.scoring.shards import Shard


def rows_of(*inputs: str, stdin: bytes = b"", **column_map: str) -> list[dict]:
    sources = find_sources(inputs, column_map, io.BytesIO(stdin))
    rows = [list(source.read()) for source in sources]
    for source, of_source in zip(sources, rows, strict=True):
        assert source.count in (None, len(of_source))
    return list(identified(row for of_source in rows for row in of_source))


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("b.wav", "a.FLAC", "sub/c.mp3", ".hidden.wav", "notes.txt", "sub/.d.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_files_folders_and_globs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [row["audio"] for row in rows_of(".")] == ["./a.FLAC", "./b.wav", "./sub/c.mp3"]
    assert [row["audio"] for row in rows_of("**/*.mp3", "notes.txt", "https://a.b/c.wav")] == [
        *("sub/c.mp3", "notes.txt", "https://a.b/c.wav")
    ]
    assert [row["id"] for row in rows_of("b.wav", "sub", "sub/*.mp3", "b.wav")] == ["b.wav", "sub/c.mp3"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent.wav", "no file or folder absent.wav"), ("*.ogg", "no file matches"), ("empty", "holds no recordings")],
)
def test_what_is_not_there_is_a_wrong_call(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        find_sources([name])


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_tables(tmp_path, suffix):
    table = pd.DataFrame(
        {
            "File Name": ["a.wav", "sub\\b.wav", "https://a.b/c.wav", None],
            "start_ms": [None, 500, None, None],
            "end_ms": [None, 1500, None, None],
            "transcript": ["one", None, None, "four"],
            "ID": ["x", "y", "z", "w"],
        }
    )
    file, named = tmp_path / f"table.{suffix}", tmp_path / f"named.{suffix}"
    for path, content in ((file, table), (named, table.rename(columns={"ID": "id"}))):
        if suffix == "parquet":
            content.to_parquet(path)
        elif suffix == "jsonl":
            content.to_json(path, orient="records", lines=True)
        else:
            content.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    first, second, third, fourth = rows_of(str(file))
    assert first["audio"] == str(tmp_path / "a.wav") and first["text"] == "one" and first["id"] == first["audio"]
    assert second["audio"] == str(tmp_path / "sub/b.wav") and (second["start"], second["end"]) == (0.5, 1.5)
    assert second["id"] == f"{second['audio']}#0.5-1.5" and third["audio"] == "https://a.b/c.wav"
    assert fourth["text"] == "four" and fourth["id"] == f"table.{suffix} row 4"
    assert [row["id"] for row in rows_of(str(named))] == ["x", "y", "z", "w"]
    assert [row["id"] for row in rows_of(str(file), str(file))][4] == f"{first['id']}#2"
    assert rows_of(str(file), text="ID")[0]["text"] == "x"


def test_recordings_in_a_table_and_in_a_data_set(tmp_path):
    content = RECORDINGS[0].read_bytes()
    pd.DataFrame({"audio": [{"bytes": content, "path": None}] * 300}).to_parquet(tmp_path / "t.parquet")
    rows = rows_of(str(tmp_path / "t.parquet"))
    assert len(rows) == 300 and rows[299]["audio"]["bytes"] == content and rows[299]["id"] == "t.parquet row 300"
    data = Dataset.from_dict({"audio": [str(RECORDINGS[0])], "text": ["one"]}).cast_column("audio", Audio(decode=False))
    data.save_to_disk(tmp_path / "data")
    (row,) = rows_of(f"hf:{tmp_path / 'data'}")
    assert row["text"] == "one" and row["audio"]["bytes"] == content


def test_a_table_without_input_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CorpusError, match="neither an audio nor a text column"):
        rows_of(str(tmp_path / "t.csv"))


def test_standard_input_is_a_recording_or_lines():
    content = RECORDINGS[0].read_bytes()
    assert rows_of("-", stdin=content) == [{"id": "standard input", "audio": content}]
    lines = [str(RECORDINGS[0]), "", "I am glad.", json.dumps({"text": "no", "id": 7}), "absent.wav", "{no json"]
    lines.append(folder := str(RECORDINGS[0].parent))  # no text, but a recording that cannot be read
    rows = rows_of("-", stdin="\n".join(lines).encode())
    assert [row.get("audio") for row in rows] == [str(RECORDINGS[0]), None, None, "absent.wav", None, folder]
    assert [row.get("text") for row in rows] == [None, "I am glad.", "no", None, "{no json", None]
    assert [row["id"] for row in rows] == [str(RECORDINGS[0]), "row 2", "7", "absent.wav", "row 5", folder]
    with pytest.raises(InputError, match="only once"):
        find_sources(["-", "-"])


def turn(start: float, file: str | None = None, **more) -> dict:
    return {"start": start, "end": start + 1, "speaker": "A", "text": "t", "channel": 1, "file": file} | more


def test_turns_are_rows():
    call, other = {"id": "call.wav", "audio": "call.wav"}, {"id": "b/other.wav", "audio": "b/other.wav"}
    first, second = identified(with_turns([call], [turn(0, "call"), turn(2.5, "call")], by_channel=False))
    assert (first["start"], first["end"], first["speaker"], first["text"]) == (0, 1, "A", "t")
    assert "channel" not in first and second["id"] == "call.wav#2.5-3.5"
    (row,) = with_turns([call], [turn(0, "named otherwise")], by_channel=True)
    assert row["channel"] == 1
    rows = list(with_turns([call, other], [turn(0, "other.mp3"), turn(1, "call")], by_channel=False))
    assert [(row["audio"], row["start"]) for row in rows] == [("call.wav", 1), ("b/other.wav", 0)]
    with pytest.raises(InputError, match="no turns of b/other.wav"):
        list(with_turns([call, other], [turn(0, "call")], by_channel=False))


def test_channels_are_rows(tmp_path):
    soundfile.write(tmp_path / "two.wav", np.zeros((100, 2)), 16000)
    soundfile.write(tmp_path / "one.wav", np.zeros(100), 16000)
    paths = [str(tmp_path / name) for name in ("two.wav", "one.wav", "absent.wav")]
    rows = list(by_channels({"id": path, "audio": path} for path in paths))
    assert [row.get("channel") for row in rows] == [0, 1, None, None]
    assert rows[1]["id"] == f"{paths[0]}#channel=1" and rows[1]["speaker"] == "channel 1"


def test_shares_are_all_rows_once():
    shards = [Shard.parse(f"{i}/3") for i in (1, 2, 3)]
    assert sorted(n for shard in shards for n in shard.take(range(11))) == list(range(11))
    assert [shard.size(11) for shard in shards] == [4, 4, 3] and shards[0].size(None) is None
    assert shards[2].path(Path("a/s.jsonl")) == Path("a/s-00003-of-00003.jsonl")
    assert Shard.parse("1/1").path(Path("s.jsonl")) == Path("s.jsonl")
    ranks = [shard.of_process({"RANK": str(r), "WORLD_SIZE": "2"}) for shard in shards for r in (0, 1)]
    assert [(shard.index, shard.count) for shard in ranks] == [(i, 6) for i in range(1, 7)]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/2"])
def test_shares_that_do_not_exist_are_refused(text):
    with pytest.raises(ValueError, match="such as 3/64"):
        Shard.parse(text)
