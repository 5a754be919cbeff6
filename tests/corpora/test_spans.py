"""Rows that are spans of a longer recording are read, checked, transcribed and cached like separate files."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import real_input_config, real_input_processor, tasks

from modeling_mmer import MMERForEmotionRecognition
from modeling_mmer.corpora import CorpusError, load_corpora
from modeling_mmer.corpora.describe import describe
from modeling_mmer.corpora.faults import examine, settle
from modeling_mmer.corpora.recordings import Clip, read_recordings, sources_of
from modeling_mmer.features.cache import FeatureCache
from modeling_mmer.features.extraction import extract
from modeling_mmer.features.transcription import fill_texts, read, recordings, storage_keys
from modeling_mmer.training.collator import MMERCollator

LABELS = ["neutral", "anger", "happiness"]
RATE = 16_000


def noise(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


@pytest.fixture
def call(tmp_path):
    """A recording of 4 s: sound, then silence in its third second, then sound."""
    samples = noise(4)
    samples[2 * RATE : 3 * RATE] = 0
    soundfile.write(tmp_path / "call.wav", samples, RATE, subtype="FLOAT")
    return samples


def load(folder, columns: dict, on_bad_rows="stop", **options):
    table = pd.DataFrame({"file_name": "call.wav", "emotion": "neutral"} | columns)
    table.to_csv(folder / "metadata.csv", index=False)
    return load_corpora("folder", folder, emotion_labels=LABELS, on_bad_rows=on_bad_rows, **options)


# ── read ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("names", [("start", "end"), ("start_time", "end_time"), ("begin", "end"), ("onset", "offset")])
def test_columns_are_known_by_their_usual_names(tmp_path, call, names):
    rows = load(tmp_path, dict(zip(names, ([0.0, 2.5], [2.0, None]), strict=True))).splits["test"]
    assert rows["start"][:] == [0, 2.5] and rows["end"][:] == [2, None]
    assert rows["duration"][:] == [2, 1.5]


def test_rows_of_one_recording_are_named_by_their_span_where_they_have_no_id(tmp_path, call):
    rows = load(tmp_path, {"start": [0, 0.25, 3], "end": [2, 2.1255, None]}).splits["test"]
    assert rows["utterance_id"][:] == ["call#0-2", "call#0.25-2.1255", "call#3-"]


def test_columns_named_for_milliseconds_are_in_these(tmp_path, call):
    rows = load(tmp_path, {"start_ms": [0, 2500], "end_ms": [2000, 4000]}).splits["test"]
    assert rows["start"][:] == [0, 2.5] and rows["end"][:] == [2, 4]


@pytest.mark.parametrize("names", [("Start ms", "End (ms)"), ("startMs", "endMS"), ("begin_ms", "stop_ms")])
def test_milliseconds_are_known_however_they_are_written(tmp_path, call, names):
    mapped = {"end": names[1]} if "(" in names[1] else None
    corpus = load(tmp_path, dict(zip(names, ([0, 2500], [2000, 4000]), strict=True)), column_map=mapped)
    assert corpus.splits["test"]["start"][:] == [0, 2.5] and corpus.splits["test"]["end"][:] == [2, 4]


def test_a_duration_may_be_in_milliseconds(tmp_path, call):
    rows = load(tmp_path, {"start_ms": [0, 2500], "duration_ms": [2000, 1000]}).splits["test"]
    assert rows["end"][:] == [2, 3.5]


@pytest.mark.parametrize(
    ("columns", "lacks"),
    [
        ({"start": [0, 2.5], "length": [2, 1]}, "no end and no duration"),
        ({"from": [0, 2.5], "end": [2, 3]}, "no start,"),
        ({"start": [None, 2.5], "end": [2, None]}, None),
    ],
)
def test_spans_of_one_recording_that_lack_a_time_are_a_caveat(tmp_path, call, columns, lacks):
    caveats = [caveat for caveat in load(tmp_path, columns).caveats if "2 rows share 1 recording " in caveat]
    assert len(caveats) == (lacks is not None) and all(lacks in caveat for caveat in caveats)


@pytest.mark.parametrize("start", ["start", "offset"])  # BIDS has onset and duration, NeMo offset and duration
def test_a_duration_stands_in_for_the_end(tmp_path, call, start):
    corpus = load(tmp_path, {start: [0, 2.5], "duration": [2, 1]})
    rows = corpus.splits["test"]
    assert rows["start"][:] == [0, 2.5] and rows["end"][:] == [2, 3.5]
    assert any("end after their duration" in notice for notice in corpus.notices)


def test_an_offset_alone_is_refused(tmp_path, call):
    with pytest.raises(CorpusError, match="--column_map start=offset or --column_map end=offset"):
        load(tmp_path, {"offset": [0, 2.5]})


def test_times_of_rows_without_audio_are_nothing(tmp_path):
    rows = load(tmp_path, {"file_name": None, "text": ["so", "and so"], "start": ["May", "June"]}).splits["test"]
    assert rows["start"][:] == [None, None]


def test_a_blank_span_is_the_whole_recording(tmp_path, call):
    rows = load(tmp_path, {"utterance_id": ["a"], "start": [None], "end": [None]}).splits["test"]
    assert rows["duration"][:] == [4] and sources_of(rows) == [str(tmp_path / "call.wav")]


# ── checked before work ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (3, 2, "row 2 .*start 3.*end 2.*start comes after end"),
        (2, 2, "row 2 .*start 2.*end 2"),
        (-1, 2, "row 2 .*start -1"),
        ("soon", 2, "row 2 .*start soon"),
        (4, 5, "row 2 .*4 s to 5 s of 4.00 s"),
        (3, 4.2, "row 2 .*3 s to 4.2 s of 4.00 s"),
        (9, None, "row 2 .*9 s to its end of 4.00 s"),
        (2000, 3000, "2000 s to 3000 s of 4.00 s; are these milliseconds"),
    ],
)
def test_spans_that_are_none_are_faults_with_their_row(tmp_path, call, start, end, said):
    columns = {"utterance_id": ["a", "b"], "start": [0, start], "end": [2, end]}
    with pytest.raises(CorpusError, match="--column_map start= end=") as error:
        load(tmp_path, columns)
    assert pd.Series([str(error.value)]).str.contains(said).all(), str(error.value)
    left = load(tmp_path, columns, on_bad_rows="skip")
    assert left.splits["test"]["utterance_id"][:] == ["a"]


def test_files_that_are_cut_already_are_read_whole_as_the_message_says(tmp_path, call):
    rows = load(tmp_path, {"start": [100.0], "end": [104.0]}, column_map={"start": "", "end": ""}).splits["test"]
    assert rows["start"][:] == [None] and rows["duration"][:] == [4]


def test_a_span_may_end_a_little_after_its_recording(tmp_path, call):
    rows = load(tmp_path, {"start": [3], "end": [4.05]}).splits["test"]
    assert rows["duration"][:] == [1]
    assert read_recordings(sources_of(rows))[sources_of(rows)[0]].seconds == 1


def test_a_recording_is_read_once_for_all_its_spans(tmp_path, call, monkeypatch):
    from modeling_mmer.corpora import recordings

    opened, original = [], soundfile.SoundFile
    monkeypatch.setattr(recordings.soundfile, "SoundFile", lambda path: opened.append(path) or original(path))
    path = str(tmp_path / "call.wav")
    clips = [Clip(path, tenth / 10, tenth / 10 + 0.5) for tenth in range(30)]
    found = read_recordings(clips)
    assert opened == [path] and [found[clip].seconds for clip in clips] == [0.5] * 30


def test_each_span_is_judged_by_its_own_samples(tmp_path, call):
    damaged = call.copy()
    damaged[3 * RATE + 5] = np.nan
    soundfile.write(tmp_path / "call.wav", damaged, RATE, subtype="FLOAT")
    columns = {"utterance_id": list("abc"), "start": [0, 2, 3], "end": [1, 3, 4], "split": "test"}
    corpus = load(tmp_path, columns)
    corpus = examine(corpus, read_recordings(sources_of(corpus.splits["test"])))
    assert [(fault.utterance_id, fault.kind) for fault in corpus.faults] == [("c", "not finite")]
    left = settle(corpus, "skip")
    assert left.splits["test"]["utterance_id"][:] == ["a", "b"]
    assert any("1 recording silent" in notice and "(b)" in notice for notice in left.notices)


@pytest.mark.parametrize("form", ["call.wav", "call.flac", "call.ogg"])
def test_a_span_has_the_content_of_its_samples(tmp_path, form):
    samples = noise(6, rate=RATE)
    soundfile.write(tmp_path / form, samples, RATE)
    whole, _ = soundfile.read(tmp_path / form, dtype="float32")
    soundfile.write(tmp_path / "cut.wav", whole[2 * RATE : 5 * RATE], RATE, subtype="FLOAT")
    span, cut = Clip(str(tmp_path / form), 2, 5), str(tmp_path / "cut.wav")
    found = read_recordings([span, cut, Clip(str(tmp_path / form), 2.5, 3)])
    assert found[span].seconds == 3 and found[span].digest == found[cut].digest


def test_what_is_shared_is_said(tmp_path, call):
    whole = load(tmp_path, {"utterance_id": ["a", "b"], "text": ["so", "and so"]})
    assert any("2 rows share 1 recording," in said and "start and end" in said for said in whole.caveats)
    spans = load(tmp_path, {"start": [0, 2], "end": [1, 4], "split": ["train", "test"]})
    assert any("1 recording has spans in more than one split" in said for said in spans.caveats)
    with pytest.raises(CorpusError, match="share an utterance_id.*start and end"):
        load(tmp_path, {"text": ["so", "and so"]})


def test_describe_measures_spans(tmp_path, call):
    corpus = load(tmp_path, {"start": [0, 2, 3.5], "end": [1, 3, 9]}, on_bad_rows="keep")
    figures = describe(corpus)
    assert figures["all"]["duration"]["hours"] == pytest.approx(2 / 3600)
    broken = {row["utterance_id"]: (row["kind"], row["start"], row["end"]) for row in figures["broken"]}
    assert broken == {"call#2-3": ("silent", 2, 3), "call#3.5-9": ("span", 3.5, 9)}


# ── heard, kept and transcribed ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def both(tmp_path, call):
    """The same two utterances as spans of one recording, and as files cut out of it."""
    spans = load(tmp_path, {"utterance_id": ["a", "b"], "start": [0.5, 3], "end": [1.75, None]}).splits["test"]
    (tmp_path / "cut").mkdir()
    for name, part in (("a", call[RATE // 2 : 7 * RATE // 4]), ("b", call[3 * RATE :])):
        soundfile.write(tmp_path / "cut" / f"{name}.wav", part, RATE, subtype="FLOAT")
    columns = {"utterance_id": ["a", "b"], "file_name": ["a.wav", "b.wav"]}
    return spans, load(tmp_path / "cut", columns).splits["test"]


def test_the_collator_reads_no_more_than_the_span(both, monkeypatch):
    spans, files = both
    collate = MMERCollator(real_input_processor(), tasks(LABELS, ["negative", "positive"], ["valence"]))
    read, original = [], soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda file, frames=-1, **how: read.append(frames) or original(file, frames, **how)
    )
    heard = collate(list(spans))
    assert read == [1.25 * RATE, -1]
    for name, expected in collate(list(files)).items():
        if name != "labels":
            assert torch.equal(heard[name], expected), name


def test_states_of_a_span_are_those_of_a_file_cut_out_and_kept_by_content_and_span(both, tmp_path):
    spans, files = both
    model, processor = MMERForEmotionRecognition(real_input_config()).eval(), real_input_processor()
    features = FeatureCache(tmp_path / "states", model.base_model, processor, "float16")
    located = [features.locate(rows, processor) for rows in both]
    names = [name for rows in located for name in rows["audio_states"]]
    assert len(set(names)) == 4
    extract(features, model, processor, located, group_size=4, show_progress=False)
    for span, file in zip(*located, strict=True):
        torch.testing.assert_close(features.load(span, "audio"), features.load(file, "audio"))
    moved = spans.remove_columns("start").add_column("start", [0.6, 3.0])
    assert [a == b for a, b in zip(features.locate(moved, processor)["audio_states"], names, strict=False)] == [
        False,
        True,
    ]


def test_transcripts_of_spans_are_told_apart(both):
    spans, files = both
    names = storage_keys([source for rows in both for source in sources_of(rows)])
    assert len(set(names.values())) == 4
    assert [name.partition("#")[2] for name in names.values()] == ["0.5-1.75", "3-", "", ""]
    assert recordings(spans, "missing") == dict(zip(sources_of(spans), [1.25, 1.0], strict=True))
    texts = dict(zip(sources_of(spans), ["so", None], strict=True))
    assert fill_texts(spans, "missing", texts)["text"][:] == ["so", None]
    for span, file in zip(sources_of(spans), sources_of(files), strict=True):
        np.testing.assert_array_equal(read(span, RATE), read(file, RATE))
