"""What the page answers, without the page: parts of recordings, means, sentences, refusals, HTML and its files."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from recognisers import make_whisper
from spaces import RATE, spoken, write_call

from modeling_mmer.scoring import Scorer
from modeling_mmer.space import wording
from modeling_mmer.space.examples import make_call, make_examples
from modeling_mmer.space.judging import Answer, Judge, mean_of
from modeling_mmer.space.limits import Refused, checked_recording, checked_text
from modeling_mmer.space.over_time import abbreviations
from modeling_mmer.space.results import answer_html, refusal_html
from modeling_mmer.space.sound import FRAME, LONGEST, has_a_speaker_per_channel, parts_of, peaks_of
from modeling_mmer.space.uploads import Uploads

(RECORDING, TEXT), *_ = spoken(1)


@pytest.fixture(scope="module")
def judge(saved_model):
    return Judge(str(saved_model))


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    return str(write_call(tmp_path_factory.mktemp("call") / "call.wav", 40))


@pytest.fixture(scope="module")
def answered(judge, call):
    return judge.judge(call)


class Tags(HTMLParser):
    """The tags of a page, with their attributes; fails if they are not nested."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("path", "rect", "circle"):  # end by themselves in SVG
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("path", "rect", "circle"):
            assert self.open.pop() == tag

    def of(self, kind: str) -> list[dict]:
        return [attributes for _, attributes in self.tags if kind in (attributes.get("class") or "").split()]


# ── sound ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def levels(*stretches: tuple[float, float]) -> np.ndarray:
    """(seconds, dB) of stretches → the level of each frame."""
    return np.concatenate([np.full(round(seconds / FRAME), level) for seconds, level in stretches])


def test_a_recording_is_divided_at_its_pauses():
    found = parts_of(levels((1, -80), (2, -20), (3, -80), (1, -22), (0.2, -80), (1, -20), (2, -80)))
    assert np.array(found) == pytest.approx(
        np.array([(0.9, 3.1), (5.9, 8.3)])
    )  # a tenth on both sides; 0.2 s are no pause


def test_clicks_are_no_parts_and_silence_has_none():
    ((start, end),) = parts_of(levels((3, -80), (0.1, -20), (3, -80), (1, -20), (1, -80)))
    assert (start, end) == pytest.approx((6.0, 7.2))
    assert parts_of(levels((60, -75))) == [] and parts_of(np.array([])) == []


def test_what_has_no_pauses_is_cut_into_equal_parts():
    found = parts_of(levels((60, -20)))
    assert len(found) == 8 and found[0][0] == 0 and found[-1][1] == pytest.approx(60)
    assert [end - start for start, end in found] == pytest.approx([7.5] * 8)


def test_long_recordings_have_longer_parts():
    found = parts_of(levels((3600, -20)))
    assert len(found) == 150 and max(end - start for start, end in found) > LONGEST


def test_channels_are_speakers_where_they_differ(tmp_path, call):
    assert has_a_speaker_per_channel(call)
    samples = soundfile.read(call)[0].sum(axis=1)
    for name, channels in {"mono": samples, "stereo": np.stack([samples, 0.5 * samples], axis=1)}.items():
        soundfile.write(path := tmp_path / f"{name}.wav", channels, RATE)
        assert not has_a_speaker_per_channel(str(path))


def test_peaks_are_those_of_each_channel(tmp_path):
    samples = np.zeros((6000, 2))
    samples[10, 0], samples[5999, 1] = -0.5, 0.25
    soundfile.write(path := tmp_path / "peaks.wav", samples, 1000, subtype="FLOAT")
    peaks = peaks_of(str(path))
    assert peaks.shape == (2, 600) and np.flatnonzero(peaks[0]) == [1] and np.flatnonzero(peaks[1]) == [599]
    assert peaks.max(axis=1).tolist() == [0.5, 0.25]


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_input_from_voice_words_and_both_is_what_the_scorer_says(judge, saved_model):
    answer = judge.judge(RECORDING, TEXT)
    expected = Scorer(str(saved_model))({"audio": [RECORDING, None, RECORDING], "text": [None, TEXT, TEXT]})
    assert list(answer.ways) == ["audio", "text", "audio_text"] and answer.over_time == []
    for i, row in enumerate(answer.ways.values()):
        for name in ("emotion_anger", "sentiment_positive", "valence", "arousal", "dominance"):
            assert row[name] == pytest.approx(expected[name][i], abs=1e-4)
    assert answer.main is answer.ways["audio_text"] and RECORDING not in json.dumps(answer.ways)


def test_text_alone_and_voice_alone(judge):
    assert list(judge.judge(None, TEXT).ways) == ["text"] and list(judge.judge(RECORDING, " ").ways) == ["audio"]


def test_a_call_is_judged_over_time_by_speaker(answered, judge, call):
    speakers = [row["speaker"] for row in answered.over_time]
    assert set(speakers) == {"left channel", "right channel"} and 10 < len(speakers) < 30
    second = next(row for row in answered.over_time if row["speaker"] == "right channel")
    again = judge.scorer({"audio": [call], "start": [second["start"]], "end": [second["end"]], "channel": [1]})
    assert second["emotion_anger"] == pytest.approx(again["emotion_anger"][0], abs=1e-4)
    seconds = np.array([row["end"] - row["start"] for row in answered.over_time])
    anger = np.array([row["emotion_anger"] for row in answered.over_time])
    assert answered.main["emotion_anger"] == pytest.approx((seconds * anger).sum() / seconds.sum())
    mixed = judge.judge(call, channels="mix")
    assert {row["speaker"] for row in mixed.over_time} == {None}


def test_a_mean_has_the_label_that_is_then_likeliest():
    first = {"emotion": "anger", "emotion_score": 0.6, "emotion_anger": 0.6, "emotion_joy": 0.4, "valence": 1.0}
    second = {"emotion": "joy", "emotion_score": 0.7, "emotion_anger": 0.3, "emotion_joy": 0.7, "valence": 4.0}
    mean = mean_of([{**first, "start": 0.0, "end": 1.0}, {**second, "start": 5.0, "end": 7.0}])
    assert (mean["emotion"], mean["seconds"]) == ("joy", 3.0)
    expected = {"emotion_score": 0.6, "emotion_anger": 0.4, "emotion_joy": 0.6, "valence": 3.0}
    assert {name: mean[name] for name in expected} == pytest.approx(expected)


def test_turns_say_who_speaks(judge, tmp_path):
    (tmp_path / "turns.rttm").write_text(
        "SPEAKER x 1 0.0 1.0 <NA> <NA> ANN <NA> <NA>\nSPEAKER x 1 1.0 1.0 <NA> <NA> BEN <NA> <NA>\n"
    )
    answer = judge.judge(RECORDING, turns=str(tmp_path / "turns.rttm"))
    assert [(row["speaker"], row["start"]) for row in answer.over_time] == [("ANN", 0.0), ("BEN", 1.0)]
    (tmp_path / "turns.json").write_text(
        json.dumps({"segments": [{"start": 0.0, "end": 2.0, "text": TEXT, "speaker": "ANN"}]})
    )
    answer = judge.judge(RECORDING, turns=str(tmp_path / "turns.json"))
    assert list(answer.ways) == ["audio", "text", "audio_text"] and answer.over_time[0]["text"] == TEXT


@pytest.mark.parametrize("content", ["nothing", "SPEAKER x 1 0.0 -1.0 <NA> <NA> A <NA> <NA>\n"])
def test_a_wrong_file_of_turns_is_refused(judge, tmp_path, content):
    (tmp_path / "turns.rttm").write_text(content)
    with pytest.raises(Refused, match="file of turns cannot be used") as refused:
        judge.judge(RECORDING, turns=str(tmp_path / "turns.rttm"))
    assert str(tmp_path) not in str(refused.value)


def test_a_recogniser_hears_the_words(saved_model, tmp_path):
    judge = Judge(str(saved_model), str(make_whisper(tmp_path / "recogniser")))
    answer = judge.judge(RECORDING, transcribe=True)
    assert answer.transcript and answer.ways["text"]["text"] == answer.transcript
    assert judge.judge(RECORDING).transcript is None
    assert judge.judge(RECORDING, TEXT, transcribe=True).ways["text"]["text"] == TEXT
    (tmp_path / "turns.csv").write_text("start,end,speaker\n0.0,1.0,ANN\n1.0,2.2,BEN\n")
    turns = judge.judge(RECORDING, turns=str(tmp_path / "turns.csv"), transcribe=True)
    assert [row["modalities"] for row in turns.over_time] == [["audio", "text"]] * 2
    assert turns.transcript == " ".join(row["text"] for row in turns.over_time)


def test_there_is_no_emotion_without_speech(judge, tmp_path):
    for seconds in (3, 40):
        soundfile.write(path := str(tmp_path / "silence.wav"), np.zeros(seconds * RATE), RATE)
        silent, read = judge.judge(path), judge.judge(path, TEXT)
        assert silent.no_speech and silent.main is None and wording.headline(silent)[0] == "No speech"
        assert read.no_speech and list(read.ways) == ["text"]
        assert "No speech was found in the recording. Only the words are judged." in answer_html(read, judge.config)


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_neither_is_refused(judge):
    with pytest.raises(Refused, match="Give a recording, a text, or both"):
        judge.judge(None, "  ")


def test_what_is_too_long_too_large_or_no_recording_is_refused(tmp_path):
    soundfile.write(tmp_path / "long.flac", np.zeros(31 * 60 * 8000, np.int16), 8000)
    (tmp_path / "large.wav").touch()
    with open(tmp_path / "large.wav", "r+b") as file:
        file.truncate(51 * 2**20)
    (tmp_path / "text.wav").write_text("This is no recording. " * 100)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    messages = {
        "long.flac": "lasts 31 minutes. Give at most 30",
        "large.wav": "has 51 MB. Give at most 50 MB",
        "text.wav": "cannot be read as a recording. Give WAV",
        "empty.wav": "has no sound at all",
        "absent.wav": "no longer there",
    }
    for name, message in messages.items():
        with pytest.raises(Refused, match=message):
            checked_recording(str(tmp_path / name))
    with pytest.raises(Refused, match="5,001 characters. Give at most 5,000"):
        checked_text("a" * 5001)


# ── sentences ───────────────────────────────────────────────────────────────────────────────────────────────────────


def row(emotion: str, score: float, **others) -> dict:
    return {"emotion": emotion, "emotion_score": score, **others}


def test_a_sentence_says_where_voice_and_words_disagree():
    ways = {"audio": row("sadness", 0.61), "text": row("happiness", 0.93), "audio_text": row("happiness", 0.88)}
    assert wording.comparison(ways) == (
        "Voice and words disagree: the voice alone says sadness (61 %), the words alone happiness (93 %). "
        "Together they say happiness (88 %)."
    )
    ways["text"] = row("sadness", 0.5)
    assert wording.comparison(ways) == (
        "Voice and words agree: each alone says sadness. Together they say happiness (88 %)."
    )
    assert wording.comparison({"audio": ways["audio"]}) is None


@pytest.mark.parametrize("score, said", [(0.95, "very sure"), (0.7, "fairly sure"), (0.5, "not very"), (0.3, "unsure")])
def test_how_sure_it_is_stands_in_words_and_as_a_number(score, said):
    title, sure = wording.headline(Answer({"text": row("anger", score)}))
    assert title == "Anger" and sure.startswith(said) and sure.endswith(f": {100 * score:.0f} %")


def test_a_speaker_in_a_sentence():
    rows = [row(name, None, speaker="ANN") for name in ("anger", "neutral", "anger", None)]
    (said,) = wording.speakers(rows, ["neutral", "anger"])
    assert said == "Ann: 4 parts: anger in 2, neutral in 1, no speech in 1."


def test_abbreviations_tell_emotions_apart():
    found = abbreviations(["sadness", "surprise", "anger", "sad"])
    assert found == {"sadness": "Sadn", "surprise": "Su", "anger": "A", "sad": "Sad"}


# ── HTML ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_figure_is_in_the_page_as_text(judge):
    answer = judge.judge(RECORDING, TEXT)
    page = answer_html(answer, judge.config)
    Tags(page)
    for of_way in answer.ways.values():
        for label in judge.config.emotion_labels:
            cell = f'<th scope="row">{label}</th>'
            assert re.search(rf"{cell}(?:(?!</tr>).)*<td>{100 * of_way[f'emotion_{label}']:.0f} %</td>", page)
        for name in ("valence", "arousal", "dominance"):
            assert f"<td>{of_way[name]:.1f}</td>" in page
    low, high = judge.config.label_scale
    assert f"On a scale from {low:g} to {high:g}" in page and wording.CAUTION in page


def test_the_parts_of_a_call_can_be_heard(answered, judge):
    tags = Tags(answer_html(answered, judge.config))
    parts, hear = tags.of("mmer-part"), tags.of("mmer-hear")
    spans = {(f"{row['start']:.3f}", f"{row['end']:.3f}") for row in answered.over_time}
    for buttons in (parts, hear):
        assert {(button["data-start"], button["data-end"]) for button in buttons} == spans
        assert all(button["aria-label"].startswith("Hear ") for button in buttons)
    assert len(tags.of("mmer-curves")) == len(tags.of("mmer-wave")) == 2
    assert [button["tabindex"] for button in parts].count("0") == 2  # one stop of the Tab key for each speaker
    dashes = [tag["stroke-dasharray"] for name, tag in tags.tags if "stroke-dasharray" in tag]
    assert len(set(dashes)) == len(judge.config.emotion_labels)  # colour is not all that tells curves apart


def test_the_files_are_in_the_page(answered, judge):
    found = {
        tag["download"].partition(".")[2]: base64.b64decode(tag["href"].partition("base64,")[2]).decode()
        for name, tag in Tags(answer_html(answered, judge.config)).tags
        if name == "a"
    }
    assert found.keys() == {"csv", "json", "srt", "TextGrid", "rttm"}
    n = len(answered.over_time)
    rows = json.loads(found["json"])
    assert len(rows) == len(list(csv.DictReader(io.StringIO(found["csv"])))) == found["srt"].count(" --> ") == n
    assert rows[0]["start"] == answered.over_time[0]["start"]
    assert found["rttm"].count("SPEAKER ") == n and "left channel" in found["TextGrid"]


def test_names_from_a_file_are_no_markup(judge, tmp_path):
    segment = {"start": 0.0, "end": 2.0, "text": "<img src=x onerror=alert(1)>", "speaker": "<script>"}
    (tmp_path / "turns.json").write_text(json.dumps({"segments": [segment]}))
    page = answer_html(judge.judge(RECORDING, turns=str(tmp_path / "turns.json")), judge.config)
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page.lower()
    assert "<b>" not in refusal_html("<b>")


# ── uploads and examples ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def upload(tmp_path):
    """The uploads below a folder, and the path of one of them."""
    path = tmp_path / "uploads/abc/a.wav"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"sound")
    return Uploads(tmp_path / "uploads", age=60), str(path)


def test_an_upload_is_gone_after_it_was_read(upload, tmp_path):
    uploads, path = upload
    uploads.update([path])
    (example := tmp_path / "example.wav").touch()
    with pytest.raises(RuntimeError), uploads.taken(path, None, str(example)) as (read, none, same):
        assert Path(read).read_bytes() == b"sound" and none is None and same == str(example)
        raise RuntimeError
    assert not list(uploads.folder.iterdir()) and example.exists()


def test_equal_uploads_are_one_file_that_goes_with_the_last(upload):
    uploads, path = upload
    uploads.update([path])
    uploads.update([path])
    with uploads.taken(path) as (first,), uploads.taken(path) as (second,):
        assert first != second and Path(first).read_bytes() == Path(second).read_bytes() == b"sound"
        assert not Path(path).exists()
    uploads.update([path])
    uploads.update([path])
    Path(path).parent.mkdir()
    Path(path).touch()
    uploads.forget(path)
    assert Path(path).exists()
    uploads.age = 0  # the other one has waited for too long
    uploads.forget(path)
    assert not list(uploads.folder.iterdir())


def test_paths_outside_of_the_uploads_are_not_deleted(upload, tmp_path):
    uploads, _ = upload
    (tmp_path / "a.wav").touch()
    for path in (str(tmp_path / "a.wav"), f"{uploads.folder}/../a.wav", ""):
        uploads.forget(path)
    assert (tmp_path / "a.wav").exists()


def test_the_examples_are_there(tmp_path):
    examples = make_examples(tmp_path)
    assert all(path is None or checked_recording(path) for _, path, _ in examples)
    call = make_call()
    assert 30 < len(call) / RATE < 60 and not (call[:, 0] * call[:, 1]).any()
    assert (tmp_path / "call.opus").stat().st_size < 300_000


def test_the_space_asks_for_what_the_package_is_called():
    import tomllib

    import yaml

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = (REPOSITORY / "space/requirements.txt").read_text().splitlines()
    (requirement,) = (line for line in lines if line and not line.startswith(("#", "-")))
    assert requirement == f"{project['name']}[space]>={project['version']}"
    header = yaml.safe_load((REPOSITORY / "space/README.md").read_text().split("---\n")[1])
    assert (header["sdk"], header["app_file"]) == ("gradio", "app.py") and len(header["short_description"]) <= 60
    (gradio,) = (one for one in project["optional-dependencies"]["space"] if one.startswith("gradio"))
    assert gradio == f"gradio>={header['sdk_version'].rpartition('.')[0]},<7"
