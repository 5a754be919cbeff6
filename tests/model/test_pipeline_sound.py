"""Audio in the pipeline: all forms, spans, unusual levels, and texts with unusual timestamps."""

import io

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from test_pipeline import RATE, assert_close, noise, pipe  # noqa: F401 (a fixture)


def test_every_form_of_audio_is_one_recording(pipe, tmp_path):  # noqa: F811
    samples = noise(1.5)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    expected = pipe({"audio": samples})
    content = io.BytesIO((tmp_path / "a.wav").read_bytes())
    pairs = [(RATE, samples), (samples, RATE), (torch.from_numpy(samples)[None], RATE)]
    for audio in (*pairs, content, content, (tmp_path / "a.wav").read_bytes(), tmp_path / "a.wav"):
        assert_close(pipe({"audio": audio}), expected)
        assert_close(pipe([{"audio": audio, "text": float("nan")}])[0], expected)
    assert_close(pipe({"audio": pd.NA, "text": "so"}), pipe({"text": "so"}))
    with pytest.raises(ValueError, match="Input 1: an array of shape .* a batch"):
        pipe([{"text": "so"}, {"audio": np.zeros((8, 9000), np.float32)}])


def test_a_span_is_judged_as_a_file_of_it(pipe, tmp_path):  # noqa: F811
    samples = noise(65)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    path = str(tmp_path / "a.wav")
    for start, end in ((2.5, 4.0), (3.0, 63.5)):  # at once, and as a stream
        expected = pipe({"audio": samples[round(start * RATE) : round(end * RATE)]})
        assert_close(pipe({"audio": {"path": path, "start": start, "end": end}}), expected)
        assert_close(pipe({"audio": path, "start": start, "end": end, "text": None}), expected)  # a row of a corpus
    with pytest.raises(ValueError, match=r"Input 0 \(.*a.wav\): the span from 64 s to 70 s exceeds"):
        pipe({"audio": {"path": path, "start": 64, "end": 70}})


@pytest.mark.parametrize("seconds", [1, 65])
def test_odd_levels_are_said_once_with_the_input(pipe, tmp_path, caplog, seconds):  # noqa: F811
    samples = noise(seconds)
    soundfile.write(tmp_path / "loud.wav", samples * 2**15, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "inverse.wav", np.stack([samples, -samples], axis=1), RATE, subtype="FLOAT")
    pipe([{"audio": samples}, {"audio": str(tmp_path / "loud.wav")}, {"audio": str(tmp_path / "inverse.wav")}])
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "Input 1" in said[0] and "loud.wav" in said[0] and "divide int16 by 32768" in said[0]
    assert "Input 2" in said[1] and "inverse.wav" in said[1] and 'channels="split"' in said[1]
    split = pipe({"audio": str(tmp_path / "inverse.wav")}, channels="split")["channels"]
    assert_close(split[0], pipe({"audio": samples}))
    assert len(caplog.records) == 2


def test_no_segment_of_a_text_is_lost(pipe):  # noqa: F811
    audio = noise(65)
    odd = [
        {"text": "so", "timestamp": (0.0, 0.0)},
        {"text": "it", "timestamp": (30.0, 30.0)},  # where a window begins
        {"text": None, "timestamp": (31.0, 32.0)},
        {"text": "is", "timestamp": (70.0, 71.0)},  # beyond the end
    ]
    plain = [
        {"text": "so", "timestamp": (0.0, 1.0)},
        {"text": "it", "timestamp": (30.5, 31.0)},
        {"text": "is", "timestamp": (62.0, 63.0)},
    ]
    chunks = pipe({"audio": audio, "text": odd}, return_timestamps=True)["chunks"]
    assert_close(chunks, pipe({"audio": audio, "text": plain}, return_timestamps=True)["chunks"])
    assert [chunk["modalities"] for chunk in chunks] == [["audio", "text"]] * 3
    assert pipe({"text": [{"text": "so", "timestamp": (None, None)}]})["modalities"] == ["text"]
    for segment, message in (({"text": "so", "timestamp": 3}, "timestamp of segment 0"), ("so", "segment 0")):
        with pytest.raises(ValueError, match=f"Input 0: .*{message}"):
            pipe({"audio": audio, "text": [segment]})
