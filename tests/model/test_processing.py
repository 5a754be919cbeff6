"""The processor: all forms of a recording give the same features, features do not depend on the batch, missing values
are recognised, and errors name the example."""

import base64
import io
import os
import sys
import threading
import warnings
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    PreTrainedTokenizerFast,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from modeling_mmer.model.processing_mmer import ExampleError, MMERProcessor

RATE = 16000


def make_tokenizer(**kwargs) -> PreTrainedTokenizerFast:
    words = ["<s>", "<pad>", "</s>", "<unk>", "i", "am", "so", "happy", "sad"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", model_max_length=6, **kwargs
    )


@pytest.fixture(scope="module")
def processor():
    return MMERProcessor(WhisperFeatureExtractor(), make_tokenizer())


@pytest.fixture(scope="module")
def waveform_processor():
    return MMERProcessor(Wav2Vec2FeatureExtractor(), make_tokenizer())


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def sine(frequency: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def peak_frequency(samples: np.ndarray) -> float:
    return np.abs(np.fft.rfft(samples)).argmax() * RATE / len(samples)


def encoded(samples: np.ndarray, **kwargs) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, kwargs.pop("rate", RATE), **{"format": "WAV", "subtype": "FLOAT", **kwargs})
    return buffer.getvalue()


# Whisper features


@pytest.mark.parametrize("samples", [1, 7, 159, 160, 161, 200, 399, 401, 16000, 16081, 48079])
def test_features_are_the_first_frames_of_the_stock_30_s_window(processor, samples):
    clip = noise(samples)
    ours = processor(audio=clip).input_features[0]
    stock = processor.feature_extractor(clip, sampling_rate=RATE, return_tensors="pt").input_features[0]
    assert ours.shape == (80, -(-samples // 160))
    torch.testing.assert_close(ours, stock[:, : ours.shape[1]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("missing_samples", [0, 1, 199, 200, 399, 401])
def test_features_near_the_end_of_the_window_are_stock_too(processor, missing_samples):
    clip = noise(30 * RATE - missing_samples)
    ours = processor(audio=clip).input_features[0]
    stock = processor.feature_extractor(clip, sampling_rate=RATE, return_tensors="pt").input_features[0]
    torch.testing.assert_close(ours, stock[:, : ours.shape[1]], atol=1e-5, rtol=0)


def test_the_loudness_floor_is_that_of_the_window(processor):
    clip = noise(1600)
    clip[-1] = 1.0  # a click at the very end reaches into frames beyond the clip
    ours = processor(audio=clip).input_features[0]
    stock = processor.feature_extractor(clip, sampling_rate=RATE, return_tensors="pt").input_features[0]
    torch.testing.assert_close(ours, stock[:, :10], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["processor", "waveform_processor"])
def test_a_batch_gives_each_example_what_it_gets_alone(kind, request):
    processor = request.getfixturevalue(kind)
    clips = [noise(n, seed=n) for n in (16000, 1, 5003, 320, 23456)]
    texts = ["i am so happy", "sad", "so", "i am", "am i so sad"]
    batch = processor(audio=clips, text=texts)
    for order in (range(5), (3, 1, 4, 0, 2)):
        shuffled = processor(audio=[clips[i] for i in order], text=[texts[i] for i in order])
        for row, i in enumerate(order):
            for key in batch:
                torch.testing.assert_close(shuffled[key][row], batch[key][i])
    features, features_mask, ids, mask = processor.model_input_names
    for row, (clip, text) in enumerate(zip(clips, texts, strict=True)):
        alone = processor(audio=clip, text=text)
        frames, tokens = alone[features].shape[-1], alone[ids].shape[-1]
        torch.testing.assert_close(batch[features][row, ..., :frames], alone[features][0])
        assert torch.equal(batch[ids][row, :tokens], alone[ids][0])
        assert not batch[features][row, ..., frames:].any()
        assert batch[features_mask][row].tolist() == [1] * frames + [0] * (batch[features].shape[-1] - frames)
        assert batch[mask][row].tolist() == [1] * tokens + [0] * (batch[ids].shape[-1] - tokens)


def test_keys_shapes_and_types(processor):
    batch = processor(audio=[noise(16000), noise(8000)], text=["i am happy", "sad"])
    assert list(batch) == processor.model_input_names
    assert batch.input_features.shape == (2, 80, 100)
    assert batch.input_features.dtype == torch.float32
    assert batch.input_features_mask.shape == (2, 100)
    assert batch.input_ids.tolist() == [[4, 5, 7], [8, 1, 1]]
    assert batch.input_features_mask.dtype == batch.input_ids.dtype == batch.attention_mask.dtype == torch.long


def test_long_recordings_are_cropped_with_one_warning(processor):
    long = noise(31 * RATE)
    with pytest.warns(UserWarning, match="2 of 3 recordings are longer than 30 s") as caught:
        batch = processor(audio=[long, noise(RATE), long[: 30 * RATE + 1]])
    assert len(caught) == 1
    assert batch.input_features_mask.sum(1).tolist() == [3000, 100, 3000]
    torch.testing.assert_close(batch.input_features[0], processor(audio=long[: 30 * RATE]).input_features[0])


def test_the_whole_window_is_not_cropped(processor):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert processor(audio=np.zeros(30 * RATE, np.float32)).input_features_mask.sum() == 3000


# Raw waveforms


def test_waveforms_are_normalised_alone(waveform_processor):
    clips = [noise(16000), 3 + 7 * noise(9000, seed=1)]
    batch = waveform_processor(audio=clips)
    assert list(batch) == waveform_processor.model_input_names[:2] == ["input_values", "input_values_mask"]
    assert batch.input_values_mask.sum(1).tolist() == [16000, 9000]
    for row, clip in enumerate(clips):
        stock = waveform_processor.feature_extractor(clip, sampling_rate=RATE, return_tensors="pt").input_values[0]
        torch.testing.assert_close(batch.input_values[row, : len(clip)], stock)


@pytest.mark.parametrize("kind", ["processor", "waveform_processor"])
@pytest.mark.parametrize("samples", [1, 1600, 16000])
def test_silence_has_features_as_any_recording_has(kind, samples, request):
    batch = request.getfixturevalue(kind)(audio=[np.zeros(samples, np.float32), noise(8000)])
    features, mask = (batch[name] for name in list(batch)[:2])
    assert features.isfinite().all() and mask.any(-1).all()


def test_short_waveforms_are_lengthened_with_silence(waveform_processor):
    batch = waveform_processor(audio=[noise(1), noise(399), noise(400), noise(401)])
    assert batch.input_values_mask.sum(1).tolist() == [400, 400, 400, 401]
    raw = MMERProcessor(Wav2Vec2FeatureExtractor(do_normalize=False), waveform_processor.tokenizer)
    assert not raw(audio=noise(399)).input_values[0, 399:].any()


def test_waveforms_have_no_window(waveform_processor):
    assert waveform_processor(audio=noise(31 * RATE)).input_values.shape == (1, 31 * RATE)


# Forms of a recording


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    clip = noise(8000)
    path = tmp_path_factory.mktemp("audio") / "clip.wav"
    path.write_bytes(encoded(clip))
    data = path.read_bytes()
    text = base64.b64encode(data).decode()
    decoder = type("AudioDecoder", (), {})()
    decoder.get_all_samples = lambda: type("Samples", (), {"data": torch.tensor(clip)[None], "sample_rate": RATE})
    return {
        "array": clip,
        "path": path,
        "string": str(path),
        "bytes": data,
        "base64": text,
        "data URI": f"data:audio/wav;base64,{text}",
        "double": clip.astype(np.float64),
        "list": clip.tolist(),
        "tensor": torch.tensor(clip),
        "tensor with channel": torch.tensor(clip, requires_grad=True)[None],
        "channel last": clip[:, None],
        "dict": {"array": clip, "sampling_rate": RATE},
        "dict with path": {"path": "elsewhere.wav", "array": clip, "sampling_rate": RATE},
        "dict of tensor": {"array": torch.tensor(clip), "sampling_rate": torch.tensor(RATE)},
        "datasets bytes": {"bytes": data, "path": "clip.wav"},
        "datasets path": {"bytes": None, "path": str(path)},
        "torchcodec decoder": decoder,
    }


def test_all_forms_of_a_recording_agree(processor, forms):
    expected = processor(audio=forms["array"]).input_features
    for name, form in forms.items():
        torch.testing.assert_close(processor(audio=form).input_features, expected, msg=name)
        torch.testing.assert_close(processor(audio=[form]).input_features, expected, msg=f"[{name}]")
    together = processor(audio=list(forms.values())).input_features
    torch.testing.assert_close(together, expected.expand(len(forms), -1, -1))


def test_a_url_is_fetched(processor, forms, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    serve = partial(SimpleHTTPRequestHandler, directory=forms["path"].parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        assert np.array_equal(processor.read_audio(url + "clip.wav"), forms["array"])
        with pytest.raises(ValueError, match="none.wav.*404"):
            processor(audio=[url + "none.wav"])
        server.shutdown()


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("wav", {"format": "WAV", "subtype": "PCM_16"}),
        ("wav", {"format": "WAV", "subtype": "PCM_24"}),
        ("flac", {"format": "FLAC", "subtype": "PCM_16"}),
        ("ogg", {"format": "OGG", "subtype": "VORBIS"}),
        ("opus", {"format": "OGG", "subtype": "OPUS"}),
        ("mp3", {"format": "MP3", "subtype": "MPEG_LAYER_III"}),
    ],
)
def test_file_formats(processor, tmp_path, suffix, options):
    tone = sine(1000, 0.5, RATE)
    path = tmp_path / f"tone.{suffix}"
    path.write_bytes(encoded(tone, **options))
    samples = processor.read_audio(path)
    assert np.array_equal(samples, processor.read_audio(path.read_bytes()))
    assert abs(len(samples) - len(tone)) < 0.1 * RATE  # lossy encoders pad
    assert abs(peak_frequency(samples) - 1000) < 10


FFMPEG = f"""#!{sys.executable}
import sys, numpy
if not sys.stdin.buffer.read().endswith(b"speech"): sys.exit("Invalid data")
assert sys.argv[sys.argv.index("-ar") + 1] == "{RATE}" and sys.argv[sys.argv.index("-ac") + 1] == "1"
sys.stdout.buffer.write(numpy.linspace(0, 1, 800, dtype=numpy.float32).tobytes())
"""


def test_a_browsers_webm_is_read_where_ffmpeg_is_installed(processor, tmp_path, monkeypatch):
    """ffmpeg is a stand-in here; it is asked for what soundfile does not know, and for nothing else."""
    webm = bytes.fromhex("1a45dfa3") + b"...webm..."
    path = tmp_path / "speech.webm"
    path.write_bytes(webm + b"speech")
    with pytest.raises(ValueError, match="cannot be decoded"):
        processor.read_audio(path)
    script = tmp_path / "ffmpeg"
    script.write_text(FFMPEG)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    text = base64.b64encode(path.read_bytes()).decode()
    for form in (path, path.read_bytes(), text, f"data:audio/webm;base64,{text}"):
        assert np.array_equal(processor.read_audio(form), np.linspace(0, 1, 800, dtype=np.float32))
    for broken in (webm, b"RIFF....WAVE, but it ends in speech"):
        with pytest.raises(ValueError, match="cannot be decoded"):
            processor.read_audio(broken)


def test_integer_pcm_is_scaled_by_its_width(processor, tmp_path):
    levels = np.array([-1, -0.5, 0, 0.25, 0.5])
    for dtype in (np.int8, np.int16, np.int32):
        pcm = (levels * 2.0 ** (8 * dtype().itemsize - 1)).astype(dtype)
        np.testing.assert_array_equal(processor.read_audio(pcm), levels.astype(np.float32))
    np.testing.assert_array_equal(processor.read_audio((128 + 128 * levels).astype(np.uint8)), levels)
    np.testing.assert_array_equal(processor.read_audio([0, 1, 0, -1]), [0, 1, 0, -1])
    pcm = (20000 * sine(300, 0.1, RATE)).astype(np.int16)
    soundfile.write(tmp_path / "pcm.wav", pcm, RATE)
    assert np.array_equal(processor.read_audio(pcm), processor.read_audio(tmp_path / "pcm.wav"))
    assert np.array_equal(processor.read_audio(torch.tensor(pcm)), processor.read_audio(pcm))
    with pytest.raises(ValueError, match="the scale of int64 samples is not known"):
        processor.read_audio(pcm.astype(np.int64))


def test_channels_are_averaged(processor, tmp_path):
    stereo = np.stack([noise(4000, seed=1), noise(4000, seed=2)])  # (channels, samples)
    mean = stereo.mean(0)
    soundfile.write(tmp_path / "stereo.wav", stereo.T, RATE, subtype="FLOAT")
    for form in (stereo, stereo.T, torch.tensor(stereo), {"array": stereo, "sampling_rate": RATE}):
        assert np.array_equal(processor.read_audio(form), mean)
    assert np.array_equal(processor.read_audio(tmp_path / "stereo.wav"), mean)
    five_one = np.stack([noise(4000, seed=n) for n in range(6)], axis=1)
    np.testing.assert_allclose(processor.read_audio(five_one), five_one.mean(1), atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_any_rate_is_resampled(processor, tmp_path, rate):
    tone = sine(1000, 0.5, rate)
    samples = processor.read_audio({"array": tone, "sampling_rate": rate})
    assert len(samples) == np.ceil(len(tone) * RATE / rate)
    assert abs(peak_frequency(samples) - 1000) < 3
    assert abs(np.abs(samples[1000:-1000]).max() - 0.5) < 0.01
    soundfile.write(tmp_path / "tone.wav", tone, rate, subtype="FLOAT")
    assert np.array_equal(processor.read_audio(tmp_path / "tone.wav"), samples)
    assert np.array_equal(processor.read_audio(tone, sampling_rate=rate), samples)
    stereo = np.stack([tone, tone])
    np.testing.assert_allclose(processor.read_audio(stereo, sampling_rate=rate), samples, atol=1e-6)


def test_files_and_dicts_know_their_rate(processor, forms):
    for name in ("path", "bytes", "dict", "datasets bytes"):
        assert np.array_equal(processor.read_audio(forms[name], sampling_rate=48000), forms["array"])
    assert len(processor.read_audio({"array": forms["array"]}, sampling_rate=32000)) == 4000


def test_resampling_without_soxr_names_the_remedy(processor, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "soxr", None)
    with pytest.raises(ImportError, match="pip install soxr"):
        processor(audio=[noise(800)], sampling_rate=8000)
    assert processor(audio=[noise(800)], sampling_rate=RATE).input_features.shape == (1, 80, 5)


# Missing modalities


@pytest.mark.parametrize("kind", ["processor", "waveform_processor"])
def test_a_row_without_a_modality_has_an_empty_mask(kind, request):
    processor = request.getfixturevalue(kind)
    batch = processor(audio=[noise(3200), None, noise(1600)], text=[None, "i am happy", " \n"])
    features, features_mask, ids, mask = processor.model_input_names
    assert batch[features_mask].any(1).tolist() == [True, False, True]
    assert batch[mask].any(1).tolist() == [False, True, False]
    assert not batch[features][1].any()
    assert batch[ids][0].tolist() == batch[ids][2].tolist() == [1, 1, 1]


@pytest.mark.parametrize("nothing", [None, "", "  \t\n", [None], [""]])
def test_a_batch_without_a_modality_lacks_its_keys(processor, nothing):
    assert list(processor(audio=noise(1600), text=nothing)) == processor.model_input_names[:2]


def test_text_alone(processor):
    for audio in (None, [None]):
        batch = processor(audio=audio, text="i am happy")
        assert list(batch) == ["input_ids", "attention_mask"]
        assert batch.input_ids.tolist() == [[4, 5, 7]]


def test_one_audio_and_one_text_are_one_example(processor):
    assert processor(audio=noise(1600), text="so").input_features.shape[0] == 1
    assert processor(audio=noise(1600).tolist(), text=["so"]).input_ids.shape[0] == 1
    assert processor(audio=[noise(1600).tolist(), None], text=["so", "i"]).input_ids.shape[0] == 2


def test_text_is_padded_on_the_right_and_truncated(processor):
    left = MMERProcessor(processor.feature_extractor, make_tokenizer(padding_side="left"))
    batch = left(text=["i " * 20, "sad"])
    assert batch.input_ids.tolist() == [[4] * 6, [8, 1, 1, 1, 1, 1]]
    assert left.tokenizer.padding_side == "left"  # the caller's tokenizer is not changed


def test_a_call_cuts_texts_where_training_does(processor):
    """A `max_length` left over from a tokenizer's own training (MiniLM's has one) is no default of ours."""
    leftover = MMERProcessor(processor.feature_extractor, make_tokenizer(max_length=3))
    words = "i am so happy i am so happy"
    assert leftover(text=words).input_ids.tolist() == [[4, 5, 6, 7, 4, 5]]
    assert torch.equal(leftover(text=words).input_ids, leftover.encode_text([words])["input_ids"])
    assert leftover(text=words, max_length=3).input_ids.tolist() == [[4, 5, 6]]


# Errors


def test_nothing_at_all(processor):
    for empty in ({}, {"audio": None, "text": None}, {"audio": []}, {"audio": [], "text": []}):
        with pytest.raises(ValueError, match="Nothing to process"):
            processor(**empty)


def test_lists_of_different_length(processor):
    with pytest.raises(ValueError, match="`audio` has 2 entries and `text` has 1"):
        processor(audio=[noise(800), None], text="so")


def test_a_row_with_neither_is_named(processor):
    with pytest.raises(ExampleError, match="Example 1 has neither") as caught:
        processor(audio=[noise(800), None, None], text=[None, " ", "so"])
    assert caught.value.index == 1
    with pytest.raises(ExampleError, match="Example 0 has neither"):
        processor(text="")


def bad_recordings(folder) -> dict[str, tuple[object, str]]:
    (folder / "junk.wav").write_bytes(b"this is not audio")
    (folder / "zero.wav").write_bytes(b"")
    (folder / "video.m4a").write_bytes(b"\0\0\0\x18ftypM4A " + b"\0" * 64)
    (folder / "empty.wav").write_bytes(encoded(np.zeros(0, np.float32)))
    (folder / "nan.wav").write_bytes(encoded(np.array([0, np.nan, 0], np.float32)))
    return {
        "missing": (folder / "missing.wav", "missing.wav.*file does not exist.*check the path"),
        "folder": (folder, "file does not exist"),
        "missing in dict": ({"bytes": None, "path": "not/here.wav"}, "not/here.wav.*file does not exist"),
        "junk": (folder / "junk.wav", "junk.wav.*cannot be decoded.*convert"),
        "zero bytes": (str(folder / "zero.wav"), "zero.wav.*cannot be decoded"),
        "unsupported": (folder / "video.m4a", "video.m4a.*cannot be decoded.*convert"),
        "junk bytes": (b"this is not audio", "cannot be decoded"),
        "no bytes": (b"", "cannot be decoded"),
        "junk in dict": ({"bytes": b"junk", "path": "a.wav"}, "a.wav.*cannot be decoded"),
        "empty file": (folder / "empty.wav", "empty.wav.*0 samples"),
        "empty array": (np.zeros(0), "0 samples"),
        "empty stereo": ({"array": np.zeros((0, 2)), "sampling_rate": 44100}, "0 samples"),
        "nan": (np.array([0, np.nan]), "not finite"),
        "infinite": (torch.tensor([0, torch.inf]), "not finite"),
        "nan file": (folder / "nan.wav", "nan.wav.*not finite"),
        "scalar": (np.array(1.0), "shape"),
        "three axes": (np.zeros((2, 2, 8)), "shape"),
        "empty dict": ({}, "give a path"),
        "type": (3.5, "cannot be a float"),
        "boolean": (np.zeros(8, bool), "scale of bool samples is not known"),
        "rate": ({"array": np.zeros(8), "sampling_rate": -1}, "sampling rate of -1"),
    }


def test_bad_recordings_are_errors_that_name_the_example(processor, tmp_path):
    for name, (recording, message) in bad_recordings(tmp_path).items():
        with pytest.raises(ExampleError, match=message) as caught:
            processor(audio=[noise(800), None, recording], text=["so", "so", "so"])
        assert caught.value.index == 2, name
        assert str(caught.value).startswith("audio[2]"), name


def test_long_sources_are_shortened_in_errors(processor):
    with pytest.raises(ExampleError) as caught:
        processor(audio="data:audio/wav;base64," + "A" * 100_000)
    assert len(str(caught.value)) < 500


def test_text_that_is_no_string(processor):
    with pytest.raises(ExampleError, match=r"text\[1\] is a float"):
        processor(text=["so", 3.5])


def test_options_are_honoured_or_refused(processor):
    batch = processor(audio=noise(800), text="so", return_tensors="pt", padding=True, truncation=True)
    assert list(batch) == processor.model_input_names
    with pytest.raises(ValueError, match="padding=False"):
        processor(text="so", padding=False)
    with pytest.raises(ValueError, match="Unknown option `images`"):
        processor(text="so", images=[])


def test_a_max_length_that_leaves_nothing_of_a_text_is_refused(processor):
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="</s>")
    processor = MMERProcessor(processor.feature_extractor, tokenizer)
    for length in (0, 1, 2, -1, "5", 5.5):
        with pytest.raises(ValueError, match=f"max_length={length!r}.* greater than the 2 special tokens"):
            processor(text="so it goes", max_length=length)
    with pytest.warns(UserWarning, match="1 of 1 texts were cut at 3 tokens"):
        assert processor(text="so it goes", max_length=3)["input_ids"].tolist() == [[1, 0, 2]]


def test_parts_that_cannot_work_are_refused(processor):
    with pytest.raises(ValueError, match="SeamlessM4TFeatureExtractor is not supported"):
        MMERProcessor(SeamlessM4TFeatureExtractor(), processor.tokenizer)
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="no padding token"):
        MMERProcessor(processor.feature_extractor, tokenizer)


# Saving


@pytest.mark.parametrize("kind", ["processor", "waveform_processor"])
def test_save_and_load(kind, request, tmp_path):
    processor = request.getfixturevalue(kind)
    processor.save_pretrained(tmp_path)
    loaded = MMERProcessor.from_pretrained(tmp_path)
    inputs = {"audio": [noise(3000), None], "text": ["i am", "so sad"]}
    before, after = processor(**inputs), loaded(**inputs)
    assert list(before) == list(after) == processor.model_input_names
    for key in before:
        torch.testing.assert_close(before[key], after[key])
    assert loaded.batch_decode(after.input_ids[1:]) == ["so sad"]
