"""Recordings without text get their transcript, with the times of its words where they are cut into windows."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import TEST_DATA, real_path
from recognisers import make_whisper
from scorers import RECORDINGS

from modeling_mmer.scoring import Scorer

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
