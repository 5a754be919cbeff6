"""`mmer predict … --output FOLDER --format srt`: a timeline per recording, written when it is finished."""

import json
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scorers import RECORDINGS

from modeling_mmer.commands import main, predicting
from modeling_mmer.scoring import timeline_folder
from modeling_mmer.scoring.inputs import InputError
from modeling_mmer.scoring.timeline_folder import ByRecording

COUNT = 24


def predict(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["predict", *map(str, words)])
    return ended.value.code


def index_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> Path:
    """Recordings, of which every sixth is broken and two have the same name."""
    folder = tmp_path_factory.mktemp("calls")
    (folder / "sub").mkdir()
    for i in range(COUNT):
        content = b"no sound" if i % 6 == 5 else RECORDINGS[i].read_bytes()
        (folder / f"{i:02}.opus").write_bytes(content)
    (folder / "sub" / "00.opus").write_bytes(RECORDINGS[0].read_bytes())
    return folder


@pytest.fixture
def options(saved_model) -> tuple:
    return ("--model", saved_model, "--batch_size", 1, "--num_workers", 1, "--speech", "off", "--format", "audacity")


def test_a_stopped_run_goes_on_without_a_repeat_or_a_gap(calls, options, tmp_path, monkeypatch, capsys):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert predict(calls, *options, "--output", whole) == 0
    names = [entry["file"] for entry in index_of(whole)]
    assert names[:3] == ["00.txt", "01.txt", "02.txt"] and names[5] is None and names[-1] == "00-2.txt"
    assert [bool(entry["error"]) for entry in index_of(whole)] == [i % 6 == 5 for i in range(COUNT)] + [False]
    assert contents(whole).keys() == {*filter(None, names), "index.jsonl", "index.jsonl.manifest.json"}
    start, _, label = (whole / "00.txt").read_text().split("\t")
    assert float(start) == 0 and label.split()[0].isalpha()
    judged, real_results, real_write = [], predicting.results_of, timeline_folder.write_timeline

    def results(*given):
        for result in real_results(*given):
            judged.append(result["id"])
            yield result

    def write(rows, path, form):
        if len(judged) == 9:  # between the index and the file
            raise KeyboardInterrupt
        real_write(rows, path, form)

    monkeypatch.setattr(predicting, "results_of", results)
    monkeypatch.setattr(timeline_folder, "write_timeline", write)
    assert predict(calls, *options, "--output", stopped) == 130
    assert len(index_of(stopped)) == 9 and not (stopped / "09.txt").exists()
    monkeypatch.setattr(timeline_folder, "write_timeline", real_write)
    assert predict(calls, *options, "--output", stopped, "--strict") == 1
    assert "8 recordings are in" in capsys.readouterr().err
    assert len(judged) == COUNT + 2 and len({*judged}) == COUNT + 1  # that of which the file was not written, again
    assert contents(stopped) == contents(whole)
    assert predict(calls, *options, "--output", stopped) == 0 and len(judged) == COUNT + 2


def test_no_result_is_held_when_its_timeline_is_written(calls, options, tmp_path, monkeypatch):
    real_results, alive, most = predicting.results_of, weakref.WeakSet(), []

    class Result(dict):
        __hash__ = object.__hash__

    def results(*given):
        for result in real_results(*given):
            alive.add(held := Result(result))
            del result
            yield held
            del held
            most.append(len(alive))

    monkeypatch.setattr(predicting, "results_of", results)
    assert predict(calls, *options, "--output", tmp_path / "timelines") == 0
    assert len(most) == COUNT + 1 and max(most) <= 2


def test_files_of_others_are_kept_and_other_options_refused(options, tmp_path, capsys):
    folder = tmp_path / "timelines"
    folder.mkdir()
    (folder / f"{RECORDINGS[0].stem}.txt").write_text("mine")
    assert predict(RECORDINGS[0], *options, "--output", folder) == 0
    assert (folder / f"{RECORDINGS[0].stem}.txt").read_text() == "mine"
    (entry,) = index_of(folder)
    assert entry["file"] == f"{RECORDINGS[0].stem}-2.txt"
    assert predict(RECORDINGS[0], *options, "--output", folder, "--format", "rttm") == 2
    assert "format was 'audacity' and is 'rttm'" in capsys.readouterr().err
    assert predict(RECORDINGS[0], *options, "--output", folder, "--format", "rttm", "--resume", "false") == 0
    assert {file.suffix for file in folder.iterdir()} == {".txt", ".rttm", ".jsonl", ".json"}
    assert not (folder / entry["file"]).exists()


def test_a_library_that_is_absent_is_named_before_anything_is_judged(options, tmp_path, monkeypatch, capsys):
    for name in {"praatio", "praatio.textgrid"} | {name for name in sys.modules if name.startswith("praatio.")}:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(predicting, "results_of", lambda *given: pytest.fail("it was judged"))
    assert predict(RECORDINGS[0], *options, "--output", tmp_path / "a.TextGrid", "--format", "textgrid") == 2
    assert 'pip install "modeling-mmer[timelines]"' in capsys.readouterr().err


def test_shares_are_of_recordings_and_not_of_their_channels(options, tmp_path):
    for i in range(3):
        sound = soundfile.read(RECORDINGS[i], dtype="float32")[0]
        soundfile.write(tmp_path / f"{i}.wav", np.stack([sound, sound], 1), 16000)
    given = (tmp_path, *options, "--channels", "split", "--windows", 1, "--output", tmp_path / "t", "--shard")
    assert predict(*given, "1/2") == 0 and predict(*given, "2/2") == 0
    first, second = tmp_path / "t-00001-of-00002", tmp_path / "t-00002-of-00002"
    assert [entry["file"] for entry in index_of(first)] == ["0.txt", "2.txt"]
    assert [entry["file"] for entry in index_of(second)] == ["1.txt"]
    for folder in (first, second):
        for entry in index_of(folder):
            lines = (folder / entry["file"]).read_text().splitlines()
            assert len(lines) == entry["rows"] and {line.split("\t")[2][:9] for line in lines} == {
                *("channel 0", "channel 1")
            }


def test_results_in_any_order_come_out_by_recording():
    rows = [{"id": f"{name}{i}", "audio": name} for name, n in (("a", 3), ("b", 1), ("c", 2)) for i in range(n)]
    rows.append({"id": "text", "text": "so glad"})
    recordings = ByRecording(done={"b"})
    given = list(recordings.rows(rows))
    assert [row["id"] for row in given] == ["a0", "a1", "a2", "c0", "c1", "text"]
    order = [3, 0, 5, 2, 4, 1]
    found = [(name, [row["id"] for row in own]) for name, own in recordings.finished(given[i] for i in order)]
    assert found == [("text", ["text"]), ("c", ["c0", "c1"]), ("a", ["a0", "a2", "a1"])]


def test_rows_of_a_recording_that_are_apart_are_refused():
    rows = [{"id": str(i), "audio": name} for i, name in enumerate("aba")]
    with pytest.raises(InputError, match="rows of a are not together.*sort the table"):
        list(ByRecording(()).rows(rows))
