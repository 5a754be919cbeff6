"""Recordings without text get their transcript, with the times of its words where they are cut into windows."""

import os
import re
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import TEST_DATA, real_path
from recognisers import make_whisper
from scorers import RECORDINGS

from modeling_mmer.scoring import Scorer
from modeling_mmer.scoring.transcripts import quiet_parts

RATE = 16_000


def rows_of(columns: dict) -> list[dict]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("recogniser"))


def test_only_recordings_without_text_are_transcribed(saved_model, recogniser):
    scorer = Scorer(str(saved_model), transcribe=str(recogniser))
    plain = Scorer(str(saved_model))
    silence = np.zeros(2 * RATE, np.float32)
    columns = {
        "audio": [RECORDINGS[0], RECORDINGS[1], None, silence, "absent.wav"],
        "text": [None, "given", "read", None, None],
    }
    heard, given, read, silent, absent = rows_of(scorer(columns))
    assert heard["text"] and heard["text_source"] == "asr" and heard["modalities"] == ["audio", "text"]
    (expected,) = rows_of(plain({"audio": [RECORDINGS[0]], "text": [heard["text"]]}))
    assert heard["valence"] == pytest.approx(expected["valence"], abs=1e-5)
    assert (given["text"], given["text_source"], read["text_source"]) == ("given", "reference", "reference")
    assert silent["text"] is None and silent["text_source"] is None and silent["emotion"] is None
    assert "does not exist" in absent["error"]


def test_a_recogniser_that_fails_is_an_error_of_its_row(saved_model, recogniser, monkeypatch):
    scorer = Scorer(str(saved_model), transcribe=str(recogniser), speech="off")

    class Fails:
        def __getattr__(self, name):
            return getattr(whole, name)

        def __call__(self, waveforms, **options):
            if any(len(samples) > 3 * RATE for samples in waveforms):
                raise RuntimeError("out of memory")
            return whole(waveforms, **options)

    whole = scorer._transcriber.recogniser
    monkeypatch.setattr(scorer._transcriber, "recogniser", Fails())
    audio = [np.full(n, 0.1, np.float32) for n in (RATE, 4 * RATE, RATE)]
    first, second, third = rows_of(scorer({"audio": audio}))
    assert second["error"] == "it cannot be transcribed: RuntimeError: out of memory"
    assert first["error"] == third["error"] == "" and first["text"]


def test_another_rate_or_no_recogniser_is_refused(saved_model):
    with pytest.raises(ValueError, match="is not a speech recogniser"):
        Scorer(str(saved_model), transcribe=str(saved_model))


# `get_models.sh` of the test data puts a real recogniser into a folder of one's choice.
@pytest.mark.parametrize("seconds", [0.02, 29.99, 30, 30.01, 75])
def test_long_recordings_are_cut_where_it_is_quiet(seconds):
    """The parts are the whole, none is longer than a recogniser hears, and pauses are where they are cut."""
    samples = np.random.default_rng(0).uniform(-1, 1, round(seconds * RATE)).astype(np.float32)
    for pause in (25.0, 47.5):
        samples[round(pause * RATE) : round((pause + 0.3) * RATE)] *= 1e-3
    parts = list(quiet_parts(samples, RATE))
    assert parts[0][0] == 0 and parts[-1][1] == len(samples)
    assert all(stop == start for (_, stop), (start, _) in zip(parts, parts[1:], strict=False))
    assert all(0 < stop - start <= 30 * RATE for start, stop in parts)
    cuts = [stop / RATE for _, stop in parts[:-1]]
    if seconds == 75:
        assert 25 <= cuts[0] <= 25.3 and 47.5 <= cuts[1] <= 47.8
    assert len(parts) == 1 + (seconds > 30) + (seconds > 60)


REAL = Path(os.environ.get("MMER_TEST_MODELS", TEST_DATA / "models")) / "whisper-tiny-en"


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs {REAL}; models/get_models.sh makes it, see MMER_TEST_MODELS")
def test_words_that_are_heard_go_to_their_windows(saved_model, tmp_path):
    kids = soundfile.read(real_path("data", "ravdess", "audio", "03-01-01-01-01-01-01.flac"), dtype="float32")[0]
    dogs = soundfile.read(real_path("data", "ravdess", "audio", "03-01-01-01-02-01-15.flac"), dtype="float32")[0]
    length = 5 * RATE
    both = np.concatenate([np.pad(samples, (0, length - len(samples))) for samples in (kids, dogs)])
    scorer = Scorer(str(saved_model), transcribe=str(REAL), windows=5)
    (result,) = rows_of(scorer({"audio": [both]}))
    texts = [window["text"].lower() for window in result["windows"]]
    assert [window["modalities"] for window in result["windows"]] == [["audio", "text"]] * 2
    assert "kids" in texts[0] and "door" in texts[0] and "dogs" not in texts[0]
    assert "dogs" in texts[1] and "door" in texts[1] and "kids" not in texts[1]


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs {REAL}; models/get_models.sh makes it, see MMER_TEST_MODELS")
def test_the_words_of_a_long_recording_are_heard_once(saved_model):
    """Of ten sentences, one after the other, at least as many words as of each alone, but for three in a hundred."""
    folder = real_path("data", "spoken")
    rows = pd.read_csv(folder / "metadata.csv").query("split == 'test' and duration > 3").head(10)
    clips = [soundfile.read(folder / name, dtype="float32")[0] for name in rows["file_name"]]
    samples = np.concatenate([np.pad(clip, (0, RATE // 2)) for clip in clips])
    assert len(samples) > 30 * RATE
    scorer = Scorer(str(saved_model), transcribe=str(REAL), windows=15)
    heard = scorer({"audio": [samples, *clips]})["text"]
    said = words_of(" ".join(rows["text"]))
    assert hits(words_of(heard[0]), said) >= hits(words_of(" ".join(filter(None, heard[1:]))), said) - 0.03 * len(said)
    assert len(words_of(heard[0])) < 1.1 * len(said)


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def hits(heard: list[str], said: list[str]) -> int:
    """Words that were said and heard, in this order."""
    matcher = SequenceMatcher(a=said, b=heard, autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks())
