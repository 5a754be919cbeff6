"""Recordings in the forms of common libraries are read, or refused with a form to use."""

import io
import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import real_input_config, real_input_processor, tasks
from datasets import Dataset

from modeling_mmer.corpora import Corpus
from modeling_mmer.features.cache import FeatureCache
from modeling_mmer.features.extraction import missing_groups, require_disk_space
from modeling_mmer.model.modeling_mmer import MMERForEmotionRecognition
from modeling_mmer.model.processing_mmer import ExampleError, pad_rows
from modeling_mmer.model.waveforms import read_file, read_recording
from modeling_mmer.model.windows import long_file, read_channels, stream_file
from modeling_mmer.training.batching import with_lengths
from modeling_mmer.training.checking import note_cropped
from modeling_mmer.training.collator import MMERCollator

RATE = 16_000


def noise(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


def read(audio, **options) -> np.ndarray:
    return read_recording(audio, RATE, RATE, **options)


@pytest.fixture(scope="module")
def processor():
    return real_input_processor()


# ── forms ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pairs_of_samples_and_rate_are_read_in_either_order(processor):
    samples = noise(0.5, rate=8000)
    expected = read({"array": samples, "sampling_rate": 8000})
    stereo = np.stack([samples, samples])
    pairs = [
        (8000, samples),  # Gradio
        (np.int64(8000), (samples * 2**15).astype(np.int16)),
        (samples, 8000),  # soundfile, librosa
        [samples.tolist(), 8000],
        (stereo.T, 8000),
        (torch.from_numpy(stereo), 8000),  # torchaudio
        (torch.from_numpy(samples), torch.tensor(8000)),
    ]
    for pair in pairs:
        np.testing.assert_allclose(read(pair), expected, atol=1e-4)
        alone, of_batch = processor(audio=pair), processor(audio=[pair, None], text=["so", "so"])
        assert alone["input_features"].shape[0] == 1 and of_batch["input_features"].shape[0] == 2


def test_a_list_of_two_recordings_is_no_pair(processor):
    assert processor(audio=[noise(0.2), noise(0.3)])["input_features"].shape[0] == 2
    assert processor(audio=[noise(0.2), float("nan")], text=["so", "so"])["input_features_mask"].any(1).tolist() == [
        True,
        False,
    ]


def test_open_files_are_read_from_their_beginning_however_often(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(0.5), RATE, subtype="FLOAT")
    content = io.BytesIO()
    soundfile.write(content, noise(0.5), RATE, format="WAV", subtype="FLOAT")  # which leaves it at its end
    with open(tmp_path / "a.wav", "rb") as file:
        for form in (content, file, content, {"bytes": (tmp_path / "a.wav").read_bytes()}, {"path": content}):
            np.testing.assert_array_equal(read(form), noise(0.5))
    with open(tmp_path / "a.wav", errors="replace") as file, pytest.raises(ValueError, match='mode "rb"'):
        read(file)


def test_what_pandas_has_for_missing_is_missing(processor):
    table = pd.DataFrame({"audio": [noise(0.2), np.nan, None], "text": ["so", "so", pd.NA]}, dtype=object)
    table.loc[2, "audio"] = None
    table.at[2, "text"] = "and so"
    batch = processor(audio=table["audio"], text=table["text"])
    assert batch["input_features_mask"].any(1).tolist() == [True, False, False]
    for missing in (float("nan"), np.float32("nan"), pd.NA, pd.NaT):
        batch = processor(audio=[noise(0.2), missing], text=[missing, "so"])
        assert batch["attention_mask"].any(1).tolist() == [False, True]
    with pytest.raises(ExampleError, match="Example 1 has neither"):
        processor(audio=[noise(0.2), np.nan], text=["so", pd.NA])


def test_a_batch_in_one_array_is_refused(processor):
    for batch in (np.zeros((8, 4000), np.float32), torch.zeros(4000, 16)):
        with pytest.raises(ValueError, match="a batch: give a list of"):
            processor(audio=batch)
    assert read(np.zeros((6, 4000), np.float32)).shape == (4000,)  # 5.1


def test_gsm_in_wav_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(2, rate=8000), 8000, subtype="GSM610")
    with soundfile.SoundFile(tmp_path / "a.wav") as file:
        expected = file.read(file.frames, dtype="float32")
    for form in (tmp_path / "a.wav", (tmp_path / "a.wav").read_bytes()):
        samples = read_recording(form, 8000, 8000)
        np.testing.assert_array_equal(samples, expected)
    span = read_recording({"path": str(tmp_path / "a.wav"), "start": 0.5, "end": 1}, 8000, 8000)
    np.testing.assert_array_equal(span, expected[4000:8000])
    np.testing.assert_array_equal(np.concatenate([*stream_file(str(tmp_path / "a.wav"), 8000, None)]), expected)


# ── spans ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_span_of_any_form_is_that_of_its_samples(tmp_path):
    samples = noise(3)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    path = str(tmp_path / "a.wav")
    for form in ({"path": path}, {"bytes": (tmp_path / "a.wav").read_bytes()}, {"array": samples}):
        np.testing.assert_array_equal(read({**form, "start": 0.5, "end": 1.25}), samples[8000:20_000])
        np.testing.assert_array_equal(read({**form, "start": 2.5, "end": None}), samples[40_000:])
        np.testing.assert_array_equal(read({**form, "end": 0.5}), samples[:8000])
        for span, message in (
            ((2, 1), "is empty"),
            ((3, 4), "exceeds the recording, which is 3 s long"),
            (("a", 1), "'a'"),
        ):
            with pytest.raises(ValueError, match=message):
                read({**form, "start": span[0], "end": span[1]})


@pytest.mark.parametrize("suffix", ["ogg", "mp3"])
def test_spans_of_compressed_files_are_where_they_should_be(tmp_path, suffix):
    soundfile.write(tmp_path / f"a.{suffix}", noise(6), RATE)
    whole, _ = soundfile.read(tmp_path / f"a.{suffix}", dtype="float32")
    span, rate = read_file(str(tmp_path / f"a.{suffix}"), 2.3, 4.1)
    assert rate == RATE
    np.testing.assert_allclose(span[0], whole[round(2.3 * RATE) : round(4.1 * RATE)], atol=1e-5)


def test_a_long_span_is_streamed(tmp_path):
    samples = noise(25)
    soundfile.write(tmp_path / "a.wav", np.stack([samples, -0.5 * samples], axis=1), RATE, subtype="FLOAT")
    span = {"path": str(tmp_path / "a.wav"), "start": 1.5, "end": 24.0}
    assert long_file(span, 20) and not long_file(span, 23) and not long_file({**span, "end": 2}, 20)
    for channel, expected in ((None, 0.25 * samples), (0, samples), (1, -0.5 * samples)):
        streamed = np.concatenate([*stream_file(span, RATE, channel)])
        np.testing.assert_allclose(streamed, expected[24_000:384_000], atol=1e-7)
    assert [one["start"] for one in read_channels({"array": np.zeros((2, 9)), "start": 1}, RATE)] == [1, 1]


# ── levels ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def odd(audio) -> list[str]:
    said = []
    read(audio, warn=said.append)
    return said


def test_samples_far_beyond_full_scale_are_said(tmp_path, processor):
    integers = (noise(0.5) * 2**15).astype(np.int16)
    floats = np.frombuffer(integers.tobytes(), np.int16).astype(np.float32)  # without / 32768
    soundfile.write(tmp_path / "a.wav", floats, RATE, subtype="FLOAT")
    for form in (floats, tmp_path / "a.wav"):
        assert len(odd(form)) == 1 and "divide int16 by 32768" in odd(form)[0]
    for form in (integers, noise(0.5), 20 * noise(0.5).clip(-0.1, 0.1)):
        assert odd(form) == []
    with pytest.warns(UserWarning, match=r"audio\[1\] .*a.wav.*far above full scale"):
        processor(audio=[noise(0.5), tmp_path / "a.wav"])


def test_channels_that_are_each_others_inverse_are_said(tmp_path, processor):
    left = noise(0.5)
    soundfile.write(tmp_path / "a.wav", np.stack([left, -left], axis=1), RATE, subtype="FLOAT")
    for form in (np.stack([left, -left]), np.stack([left, -0.95 * left]), tmp_path / "a.wav"):
        assert len(odd(form)) == 1 and 'channels="split"' in odd(form)[0]
    for form in (
        np.stack([left, left]),
        np.stack([left, noise(0.5, seed=1)]),
        np.stack([left, 0 * left]),
        np.zeros((2, 9)),
    ):
        assert odd(form) == []
    with pytest.warns(UserWarning, match=r"audio\[0\] .*inverse to each other"):
        processor(audio=str(tmp_path / "a.wav"))
    said = []
    list(stream_file(str(tmp_path / "a.wav"), RATE, None, said.append))
    assert len(said) == 1
    list(stream_file(str(tmp_path / "a.wav"), RATE, 0, said.append))  # one channel is heard as it is
    assert len(said) == 1


# ── what is cut, and what is reckoned ───────────────────────────────────────────────────────────────────────────────


def corpus_of(**columns) -> Corpus:
    return Corpus("mine", {"test": Dataset.from_dict(columns)}, (1, 7))


def test_texts_that_are_cut_are_counted(processor):
    limit = processor.tokenizer.model_max_length
    word = processor.tokenizer("so so so so", add_special_tokens=False)["input_ids"]
    texts = ["so", None, "so " * limit, "x" * (limit - 9), "so " * (limit // max(1, len(word)))]
    counted = sum(len(processor.tokenizer(text, verbose=False)["input_ids"]) > limit for text in texts if text)
    assert 1 <= counted < 4
    corpus = note_cropped(corpus_of(duration=[31.0, 30.0, None, 2.0, 2.0], text=texts), processor)
    assert corpus.caveats == [
        "1 of 4 recordings is longer than 30 s: only the first 30 s are used",
        f"{counted} of 4 texts {'is' if counted == 1 else 'are'} cut at {limit} tokens: only the beginning is used",
    ]
    with pytest.warns(UserWarning, match=f"1 of 2 texts were cut at {limit} tokens"):
        processor(text=["so", "so " * limit])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processor(text=["so", "so and so"])


def test_states_of_several_dtypes_are_padded_in_one_that_holds_them_all():
    half, whole = torch.ones(2, 3, 4, dtype=torch.float16), torch.full((2, 5, 4), 1e6)
    for rows in ((half, whole), (whole, None, half)):
        batch, _ = pad_rows(list(rows), dim=-2)
        assert batch.dtype == torch.float32 and batch.max() == 1e6
    assert pad_rows([half, None], dim=-2)[0].dtype == torch.float16
    collate = MMERCollator(real_input_processor(), tasks(["so"], ["so"]))
    rows = [{"utterance_id": name, "audio_hidden_states": states} for name, states in (("a", half), ("b", whole))]
    assert collate(rows)["audio_hidden_states"].max() == 1e6


def test_what_is_not_heard_takes_no_space(tmp_path, processor, monkeypatch):
    rows = Dataset.from_dict(
        {
            "utterance_id": ["a", "b"],
            "audio": ["a.wav", "b.wav"],
            "start": [None, None],
            "end": [None, None],
            "text": [None, None],
            "duration": [3600.0, 20.0],
            "audio_states": ["a", "b"],
            "text_states": [None, None],
        }
    )
    model = MMERForEmotionRecognition(real_input_config())
    features = FeatureCache(tmp_path, model.base_model, processor)
    groups = {modality: missing_groups(features, [rows], modality, 8) for modality in ("audio", "text")}
    assert [entry.length for group in groups["audio"] for entry in group] == [1001, 1501]
    states, width = model.base_model.embedders["audio"].states_shape
    needed = (1001 + 1501) * states * width * 2
    free = {"bytes": needed * 2}
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": free["bytes"]}))
    require_disk_space(features, model.base_model, groups)
    free["bytes"] = needed
    with pytest.raises(ValueError, match="Choose another folder"):
        require_disk_space(features, model.base_model, groups)
    capped = with_lengths(rows.select_columns(["duration", "text"]), 4, processor)
    assert capped["frames"][:] == [1501, 1001] and capped["length"][:] == [376, 251]
