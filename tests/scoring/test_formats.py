"""Timelines are opened by the libraries of their formats, with the right labels at the right times."""

import csv
import json
import sys
import wave

import numpy as np
import pandas as pd
import pytest

from modeling_mmer.scoring.formats import FORMATS, write_timeline
from modeling_mmer.scoring.turns import read_turns

TIMED = ("srt", "vtt", "textgrid", "rttm", "audacity", "elan")


def row(start, end, speaker, emotion="anger", score=0.834, **others):
    given = {"id": f"call#{start}", "audio": "calls/my call.wav", "start": start, "end": end, "speaker": speaker}
    given |= {"text": None, "speech": True, "modalities": ["audio"], "seconds": None if end is None else end - start}
    return given | {"emotion": emotion, "emotion_score": score, "valence": 3.25, "error": None} | others


ROWS = [
    row(2.0, 3.1, "BEN", "joy", 0.5, text='He said: "no\nway" <b>{x}'),
    row(0.0, 2.5004, "ANN"),  # ANN and BEN overlap
    row(2.8, 3.5, "BEN", "neutral", 0.996),  # BEN's windows overlap
    row(4.0, 5.0, "ANN", None, None, speech=False),
    row(5.0, 6.0, "ANN", None, None, error="this span is silent"),
]
# speaker, start, end, label, of the rows that have an emotion
EXPECTED = {
    ("ANN", 0, 2.5, "ANN: anger 0.83"),
    ("BEN", 2, 3.1, "BEN: joy 0.50"),
    ("BEN", 2.8, 3.5, "BEN: neutral 1.00"),
}


def span_of(label, start, end):
    return label.partition(":")[0], round(start, 3), round(end, 3), label


def read_subtitles(path):
    pysubs2 = pytest.importorskip("pysubs2", reason="needs pysubs2, of the extra timelines")
    events = pysubs2.load(str(path))
    return {span_of(event.plaintext.partition("\n")[0], event.start / 1000, event.end / 1000) for event in events}


def read_textgrid(path):
    praatio = pytest.importorskip("praatio.textgrid", reason="needs praatio, of the extra timelines")
    grid = praatio.openTextgrid(str(path), includeEmptyIntervals=False)
    return {
        (name.partition(" (")[0], round(entry.start, 3), round(entry.end, 3), entry.label)
        for name in grid.tierNames
        for entry in grid.getTier(name).entries
    }


def read_elan(path):
    elan = pytest.importorskip("pympi.Elan", reason="needs pympi-ling, of the extra timelines")
    document = elan.Eaf(str(path))
    return {
        (name.partition(" (")[0], begin / 1000, end / 1000, label)
        for name in document.get_tier_names()
        for begin, end, label, *_ in document.get_annotation_data_for_tier(name)
    }


def read_audacity(path):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {span_of(label, float(start), float(end)) for start, end, label in rows}


def read_rttm(path):
    """As pyannote.database reads it."""
    names = ["type", "uri", "channel", "start", "duration", "ortho", "stype", "speaker", "confidence", "slat"]
    table = pd.read_csv(path, names=names, sep=r"\s+", keep_default_na=True)
    assert set(table["type"]) == {"SPEAKER"} and set(table["uri"]) == {"my_call"}
    return {
        span_of(f"{line.speaker}: {line.stype} {line.confidence:.2f}", line.start, line.start + line.duration)
        for line in table.itertuples()
    }


READERS = {
    "srt": read_subtitles,
    "vtt": read_subtitles,
    "textgrid": read_textgrid,
    "elan": read_elan,
    "audacity": read_audacity,
    "rttm": read_rttm,
}
LIBRARIES = {"srt": "pysubs2", "vtt": "pysubs2", "textgrid": "praatio", "elan": "pympi"}


def write(rows, path, format):
    if format in LIBRARIES:
        pytest.importorskip(LIBRARIES[format], reason=f"needs {LIBRARIES[format]}, of the extra timelines")
    write_timeline(rows, path, format)
    return path


@pytest.mark.parametrize("format", TIMED)
def test_each_format_is_read_back_by_its_library(tmp_path, format):
    path = write(ROWS, tmp_path / f"call.{format}", format)
    found = READERS[format](path)
    assert found == EXPECTED
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_text_is_shown_below_the_label_without_markup(tmp_path):
    pysubs2 = pytest.importorskip("pysubs2")
    for format in ("srt", "vtt"):
        subtitles = pysubs2.load(str(write(ROWS, tmp_path / f"call.{format}", format)))
        assert subtitles[1].plaintext == 'BEN: joy 0.50\nHe said: "no way" ‹b›(x)'
        assert subtitles[0].plaintext == "ANN: anger 0.83"


def test_tiers_hold_one_speaker_each_and_no_overlap(tmp_path):
    for format, names in (("textgrid", ["ANN", "BEN", "BEN (2)"]), ("elan", ["ANN", "BEN", "BEN (2)"])):
        path = write(ROWS, tmp_path / f"call.{format}", format)
        if format == "textgrid":
            from praatio import textgrid

            assert list(textgrid.openTextgrid(str(path), includeEmptyIntervals=True).tierNames) == names
        else:
            from pympi import Elan

            document = Elan.Eaf(str(path))
            assert sorted(document.get_tier_names()) == names
            assert document.get_linked_files()[0]["MEDIA_URL"].endswith("/calls/my%20call.wav")


@pytest.mark.parametrize("format", TIMED)
def test_names_with_quotes_blanks_and_other_scripts(tmp_path, format):
    rows = [row(0, 1, 'Dr. "B" 怒り\tx', "怒り"), row(1, 1, "b", "joy")]
    path = write(rows, tmp_path / "a.out", format)
    if format == "rttm":
        assert [turn["speaker"] for turn in read_turns(path.rename(tmp_path / "a.rttm"))] == ['Dr._"B"_怒り_x', "b"]
        return
    if format in ("srt", "vtt"):
        path = path.rename(tmp_path / f"a.{format}")
    found = sorted(READERS[format](path), key=lambda span: span[1])
    assert [label for *_, label in found] == ['Dr. "B" 怒り x: 怒り 0.83', "b: joy 0.83"]
    assert found[1][1:3] == (1, pytest.approx(1.001))  # a label of length 0 is of the shortest that is shown


def test_rttm_without_speakers_names_emotions_and_keeps_recordings_apart(tmp_path):
    rows = [row(0, 1, None, "joy"), row(0.5, 2, None, audio="calls/b.wav", emotion_score=None)]
    write_timeline(rows, tmp_path / "a.rttm", "rttm")
    turns = read_turns(tmp_path / "a.rttm")
    assert [(t["file"], t["speaker"], t["end"]) for t in turns] == [("my_call", "joy", 1), ("b", "anger", 2)]
    write_timeline([row(0, 1, None, audio=f"{folder}/x.wav") for folder in "ab"], tmp_path / "b.rttm", "rttm")
    assert [turn["file"] for turn in read_turns(tmp_path / "b.rttm")] == ["a/x.wav", "b/x.wav"]


def test_rttm_is_what_pyannote_writes(tmp_path):
    core = pytest.importorskip("pyannote.core", reason="needs pyannote.core to compare with")
    annotation = core.Annotation(uri="my_call")
    for speaker, start, end, _ in EXPECTED:
        annotation[core.Segment(start, end), f"{speaker}{start}"] = speaker
    write_timeline(ROWS, tmp_path / "a.rttm", "rttm")
    ours = [line.split() for line in (tmp_path / "a.rttm").read_text().splitlines()]
    theirs = [line.split() for line in annotation.to_rttm().splitlines()]
    assert [line[:6] + line[7:8] + line[9:] for line in ours] == [line[:6] + line[7:8] + line[9:] for line in theirs]


def test_tables_hold_every_row_with_its_types(tmp_path):
    rows = [{**given, "emotion_anger": np.float32(0.5)} for given in ROWS]
    rows[3]["valence"] = float("nan")
    for format in ("csv", "json", "parquet"):
        write_timeline(rows, tmp_path / f"a.{format}", format)
    table = pd.read_parquet(tmp_path / "a.parquet")
    assert list(table["start"]) == [2, 0, 2.8, 4, 5] and list(table["modalities"][0]) == ["audio"]
    listed = json.loads((tmp_path / "a.json").read_text())
    assert listed[0]["emotion_anger"] == 0.5 and listed[3]["valence"] is None and listed[3]["speech"] is False
    assert [given["error"] for given in listed] == [None] * 4 + ["this span is silent"]
    spread = pd.read_csv(tmp_path / "a.csv")
    assert list(spread.columns) == list(rows[0]) and spread["text"][0] == ROWS[0]["text"]
    assert json.loads(spread["modalities"][0]) == ["audio"]


@pytest.mark.parametrize("format", FORMATS)
def test_no_rows_are_an_empty_timeline(tmp_path, format):
    assert write([], tmp_path / "a.out", format).exists()


@pytest.mark.parametrize("format", TIMED)
def test_rows_without_times_last_for_their_seconds(tmp_path, format):
    path = write([row(None, None, "ANN", seconds=2.25)], tmp_path / f"my_call.{format}", format)
    assert [span[1:3] for span in READERS[format](path)] == [(0, pytest.approx(2.25))]


@pytest.mark.parametrize("format", ["textgrid", "rttm"])
def test_a_call_of_ten_minutes_with_two_channels(tmp_path, format):
    """Turns as whisperX has them, on the two channels of a real file: their times are those of the voices in it."""
    generator, rate = np.random.default_rng(0), 8000
    edges = np.cumsum(generator.uniform(0.3, 6, 400))
    edges = edges[edges < 600]
    spoken = [(edges[i], edges[i + 1], i // 2 % 2) for i in range(0, len(edges) - 1, 2)]
    samples = np.zeros((600 * rate, 2), dtype=np.int16)
    for start, end, channel in spoken:
        samples[round(start * rate) : round(end * rate), channel] = 9000
    with wave.open(str(tmp_path / "call.wav"), "wb") as file:
        file.setparams((2, 2, rate, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())
    segments = [{"start": round(s, 3), "end": round(e, 3), "text": " x", "speaker": "AB"[c]} for s, e, c in spoken]
    (tmp_path / "call.json").write_text(json.dumps({"segments": segments}))
    turns = read_turns(tmp_path / "call.json")
    rows = [row(t["start"], t["end"], t["speaker"], audio=str(tmp_path / "call.wav")) for t in turns]
    path = write(rows, tmp_path / f"call.{format}", format)

    if format == "rttm":
        found = [(turn["speaker"], turn["start"], turn["end"]) for turn in read_turns(path)]
    else:
        found = sorted((span[:3] for span in read_textgrid(path)), key=lambda span: span[1])
    assert len(found) == len(spoken) > 80
    heard = np.frombuffer((tmp_path / "call.wav").read_bytes()[44:], dtype=np.int16).reshape(-1, 2) != 0
    for number, speaker in enumerate("AB"):
        changes = np.flatnonzero(np.diff(heard[:, number].astype(int))) / rate
        times = np.array([span[1:] for span in found if span[0] == speaker]).ravel()
        assert np.abs(times - changes).max() < 0.02


def test_wrong_calls(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="choose one of csv, json, parquet, srt"):
        write_timeline(ROWS, tmp_path / "a.ass", "ass")
    several = [row(0, 1, None), row(0, 1, None, audio="b.wav")]
    with pytest.raises(ValueError, match=r"audacity describes one recording.*b\.wav, calls/my call\.wav"):
        write_timeline(several, tmp_path / "a.txt", "audacity")
    for name, format, package in (("pysubs2", "srt", "pysubs2"), ("pympi.Elan", "elan", "pympi-ling")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=rf'{format} needs the package {package}: pip install "modeling-mmer\['):
            write_timeline(ROWS, tmp_path / "a.out", format)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write(ROWS, tmp_path / "a.TextGrid", "textgrid")
    from praatio import textgrid

    before = path.read_bytes()
    monkeypatch.setattr(textgrid.Textgrid, "save", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_timeline(ROWS[:1], path, "textgrid")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
