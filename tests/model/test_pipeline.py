"""The pipeline: all forms of input, in any batch, give the outputs of the model. Long recordings are scored in windows,
in bounded memory."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import soxr
import torch
from conftest import REPOSITORY, randomize, real_input_config, real_input_processor
from datasets import Dataset
from transformers import pipeline

import modeling_mmer
from modeling_mmer import MMERForEmotionRecognition
from modeling_mmer.model.windows import cut_windows, in_blocks, stream_file

TASK = "multimodal-emotion-recognition"
RATE = 16_000
SENTENCE = "I am so glad that we won the game."


def build_pipe(**overrides):
    torch.manual_seed(0)
    model = randomize(MMERForEmotionRecognition(real_input_config(**overrides)))
    with torch.no_grad():  # dimensions within their scale, beyond which they would all be shown as its end
        for dimension in ("valence", "arousal", "dominance"):
            model.heads[dimension][-1].weight.mul_(0.05)
    return pipeline(TASK, model=model, processor=real_input_processor())


@pytest.fixture(scope="module")
def pipe():
    return build_pipe()


def noise(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Noise whose loudness wanders, so that no two stretches of it are alike."""
    generator = np.random.default_rng(seed)
    count = round(seconds * rate)
    loudness = np.interp(np.arange(count), np.linspace(0, count, 50), generator.uniform(0.01, 0.3, 50))
    return (loudness * generator.standard_normal(count)).astype(np.float32)


def flat(output) -> list[float]:
    """All numbers of an output, in an order of their own."""
    if isinstance(output, dict):
        return [number for key in sorted(output) for number in flat(output[key])]
    if isinstance(output, list | tuple):
        return [number for item in output for number in flat(item)]
    return [output] if isinstance(output, int | float) else []


def assert_close(found, expected, atol=1e-5):
    assert flat(found) == pytest.approx(flat(expected), abs=atol)
    assert len(flat(expected)) > 0


def of_model(pipe, audio, text) -> dict[str, np.ndarray]:
    """The model's own answer to one utterance, without the pipeline."""
    with torch.no_grad():
        output = pipe.model(**pipe.processor(audio=audio, text=text))
    probabilities = {"emotion": output.logits.softmax(-1), "sentiment": output.sentiment_logits.softmax(-1)}
    return {k: v[0].numpy() for k, v in probabilities.items()} | {
        d: output[d][0].item() for d in ("valence", "arousal", "dominance")
    }


def assert_is(output, expected, config):
    for task in ("emotion", "sentiment"):
        labels = getattr(config, f"{task}_labels")
        assert output[task]["scores"] == pytest.approx(dict(zip(labels, expected[task], strict=True)), abs=1e-5)
        assert output[task]["label"] == labels[int(expected[task].argmax())]
        assert output[task]["score"] == pytest.approx(expected[task].max(), abs=1e-5)
    for dimension in ("valence", "arousal", "dominance"):
        assert output[dimension] == pytest.approx(expected[dimension], abs=1e-4)


# ── inputs ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> list[dict]:
    """Audio only, text only and both; files of four kinds, arrays at four rates, stereo."""
    folder = tmp_path_factory.mktemp("recordings")
    inputs = [{"text": SENTENCE}, {"text": "no", "audio": None}]
    for seed, suffix in enumerate(("wav", "flac", "ogg", "mp3")):
        path = folder / f"recording.{suffix}"
        stereo = np.stack([noise(1.3 + seed, seed, 44_100), noise(1.3 + seed, seed + 10, 44_100)], axis=1)
        soundfile.write(path, stereo, 44_100)
        inputs += [{"audio": str(path)}, {"audio": path.read_bytes(), "text": "It rains."}]
    for seed, rate in enumerate((8_000, 16_000, 44_100, 48_000)):
        inputs.append({"audio": noise(0.7 + seed, seed, rate), "sampling_rate": rate})
        inputs.append({"audio": {"array": noise(2, seed, rate), "sampling_rate": rate}, "text": SENTENCE[: 8 * seed]})
    inputs += [{"audio": np.stack([noise(1), noise(1, 1)])}, {"audio": torch.tensor(noise(0.1)), "text": "a"}]
    return inputs


def test_a_mixed_list_gives_each_input_what_the_model_gives_it(pipe, mixed):
    outputs = pipe(mixed)
    assert len(outputs) == len(mixed)
    json.dumps(outputs)
    for given, output in zip(mixed, outputs, strict=True):
        audio, text = given.get("audio"), given.get("text") or None
        if "sampling_rate" in given:
            audio = {"array": audio, "sampling_rate": given["sampling_rate"]}
        assert output["modalities"] == ["audio"] * (audio is not None) + ["text"] * (text is not None)
        assert_is(output, of_model(pipe, audio, text), pipe.model.config)


def test_the_size_of_batches_changes_nothing(pipe, mixed):
    for batch_size in (2, 8):
        assert_close(pipe(mixed, batch_size=batch_size), pipe(mixed, batch_size=1))
    one = pipe(mixed[-1])
    assert_close(pipe(mixed[::-1], batch_size=8)[0], one)
    assert_close(pipe(**mixed[-1]), one)


def test_generators_and_data_sets_are_read_as_they_come(pipe, mixed):
    some = [{"audio": {"bytes": mixed[3]["audio"], "path": None}, "text": None}, {"audio": None, "text": SENTENCE}]
    expected = pipe(some)
    assert_close(list(pipe((item for item in some), batch_size=2)), expected)
    assert_close(list(pipe(Dataset.from_list([{**item, "label": 1} for item in some]))), expected)
    assert_close(list(pipe((item for item in some), num_workers=1, batch_size=2)), expected)


def test_class_weights_of_training_change_no_output(pipe):
    weighted = build_pipe(emotion_class_weights=[1.0, 2.0, 0.5, 1.0])
    assert_close(weighted({"text": SENTENCE}), pipe({"text": SENTENCE}))


def test_top_k_keeps_the_likeliest(pipe):
    output, full = pipe({"text": SENTENCE}, top_k=2), pipe({"text": SENTENCE})
    assert list(output["emotion"]["scores"].items()) == list(full["emotion"]["scores"].items())[:2]
    scores = list(full["emotion"]["scores"].values())
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1)
    assert list(full["emotion"]["scores"])[0] == full["emotion"]["label"]


def test_half_precision_gives_nearly_the_same(pipe, bfloat16_attention, tmp_path):
    pipe.save_pretrained(tmp_path)
    half = pipeline(TASK, model=str(tmp_path), dtype=torch.bfloat16, trust_remote_code=True)
    assert half.model.dtype == torch.bfloat16
    given = {"audio": noise(2), "text": SENTENCE}
    found, expected = half(given), pipe(given)
    assert found["emotion"]["scores"] == pytest.approx(expected["emotion"]["scores"], abs=0.05)


def test_the_pipeline_of_the_package_runs_no_code_of_the_checkpoint(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert list(tmp_path.glob("*.py"))
    own = modeling_mmer.pipeline(str(tmp_path))
    assert type(own) is modeling_mmer.MMERPipeline and type(own.model) is MMERForEmotionRecognition
    assert_close(own({"text": SENTENCE}), pipe({"text": SENTENCE}))


@pytest.mark.parametrize(
    ("given", "options", "says"),
    [
        ({"text": " "}, {}, "neither audio nor text"),
        ({"audio": None}, {}, "neither audio nor text"),
        ("a sentence", {}, "give a dict"),
        ({"audio": "no/such.wav"}, {}, "no/such.wav.*file does not exist"),
        ({"audio": b"not audio"}, {}, "cannot be decoded"),
        ({"text": "a"}, {"top_k": 0}, "top_k"),
        ({"text": "a"}, {"channels": "left"}, "channels"),
        ({"audio": noise(1)}, {"chunk_length_s": 31}, "takes at most 30 s"),
        ({"audio": noise(1)}, {"chunk_length_s": 10, "stride_length_s": 5}, "stride_length_s"),
        ({"audio": noise(1)}, {"chunk_length_s": 0}, "greater than 0"),
        ({"audio": noise(1)}, {"channels": "split"}, "one channel"),
        ({"audio": "no/such.wav"}, {"channels": "split"}, "no/such.wav.*an existing file"),
        ({"text": 3}, {}, "text cannot be a int"),
        ({"text": ["I won.", "Yes."]}, {}, "segment 0 of the text"),
        ({"audio": np.stack([noise(1)] * 2), "text": "who?"}, {"channels": "split"}, "a list of 2 texts"),
    ],
)
def test_bad_input_is_named(pipe, given, options, says):
    with pytest.raises(ValueError, match=says):
        pipe([{"text": "fine"}, given], **options)


def test_of_no_inputs_there_are_no_outputs(pipe):
    assert pipe([]) == pipe.embed([]) == []


def test_an_error_says_which_input_it_was(pipe):
    with pytest.raises(ValueError, match="Input 2"):
        pipe([{"text": "a"}, {"text": "b"}, {}], batch_size=2)


@pytest.mark.parametrize(
    "given",
    [
        {"audio": np.zeros(RATE, np.float32)},
        {"audio": np.zeros(RATE, np.float32), "text": "a"},
        {"audio": noise(0.1)},
        {"audio": np.zeros(1, np.float32)},
        {"text": "a"},
        {"audio": noise(0.1), "text": ""},
    ],
    ids=["silence", "silence and a letter", "0.1 s", "one sample", "a letter", "no word"],
)
def test_the_least_there_can_be_is_judged(pipe, given):
    output = pipe(given)
    assert np.isfinite(flat(output)).all()
    assert output["modalities"] == [modality for modality in ("audio", "text") if len(given.get(modality, ""))]


# ── windows ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stride", [0, 7, 49])
@pytest.mark.parametrize("length", [1, 99, 100, 101, 102, 199, 200, 1234])
@pytest.mark.parametrize("block", [1, 64, 10_000])
def test_windows_cover_a_recording_without_gap_or_sliver(length, stride, block):
    samples = np.arange(length, dtype=np.float32)
    windows = list(cut_windows(in_blocks(samples, block), 100, stride))
    assert [w.start for w in windows] == [0, *(w.stop for w in windows[:-1])] and windows[-1].stop == length
    for index, window in enumerate(windows):
        assert len(window.samples) == min(length, 100)
        first = int(window.samples[0])
        assert window.samples.tolist() == list(range(first, first + len(window.samples)))
        assert first <= window.start < window.stop <= first + len(window.samples)
        if 0 < index < len(windows) - 1:
            assert window.start - first >= stride and first + 100 - window.stop == stride
    assert len(windows) == 1 + max(0, -(-(length - 100) // (100 - 2 * stride)))


def test_each_chunk_is_the_judgement_of_its_own_stretch_and_the_whole_is_their_mean(pipe):
    audio = noise(25, seed=5)
    output = pipe({"audio": audio}, chunk_length_s=10, stride_length_s=1, return_timestamps=True, batch_size=2)
    spans = [(0, 10, 0, 9), (8, 18, 9, 17), (15, 25, 17, 25)]  # read from, to; answers from, to
    assert [chunk["timestamp"] for chunk in output["chunks"]] == [span[2:] for span in spans]
    alone = [of_model(pipe, audio[a * RATE : b * RATE], None) for a, b, *_ in spans]
    for chunk, expected in zip(output["chunks"], alone, strict=True):
        assert_is(chunk, expected, pipe.model.config)
    mean = {task: np.average([e[task] for e in alone], axis=0, weights=[9, 8, 8]) for task in alone[0]}
    assert_is(output, mean, pipe.model.config)
    assert "chunks" not in pipe({"audio": audio}, chunk_length_s=10)


def test_text_without_times_belongs_to_the_whole_and_text_with_times_to_its_windows(pipe):
    audio = noise(20, seed=6)
    options = {"chunk_length_s": 10, "return_timestamps": True}
    first, second = audio[: 10 * RATE], audio[10 * RATE :]

    whole = pipe({"audio": audio, "text": SENTENCE}, **options)
    for chunk, part in zip(whole["chunks"], (first, second), strict=True):
        assert chunk["modalities"] == ["audio"]
        assert_is(chunk, of_model(pipe, part, None), pipe.model.config)
    both = [of_model(pipe, part, SENTENCE) for part in (first, second)]
    assert_is(whole, {task: np.mean([b[task] for b in both], axis=0) for task in both[0]}, pipe.model.config)

    segments = [{"text": " I won.", "timestamp": (0.0, 4.0)}, {"text": " Really?", "timestamp": (9.0, 12.0)}]
    timed = pipe({"audio": audio, "text": [*segments, {"text": " Yes.", "timestamp": (13.0, None)}]}, **options)
    expected = [of_model(pipe, first, "I won. Really?"), of_model(pipe, second, "Really? Yes.")]
    for chunk, of_both in zip(timed["chunks"], expected, strict=True):
        assert chunk["modalities"] == ["audio", "text"]
        assert_is(chunk, of_both, pipe.model.config)


def test_text_alone_has_no_chunks(pipe):
    output = pipe({"text": [{"text": "I won.", "timestamp": (0, 1)}, {"text": "Yes.", "timestamp": (1, 2)}]})
    assert_is(output, of_model(pipe, None, "I won. Yes."), pipe.model.config)
    assert pipe({"text": SENTENCE}, return_timestamps=True)["chunks"] == []


def test_a_text_that_is_cut_is_said_to_be(pipe, caplog):
    pipe({"text": SENTENCE})
    assert "cut" not in caplog.text
    pipe({"text": SENTENCE * 40})
    assert "was cut to" in caplog.text


@pytest.mark.parametrize("source_rate", [16_000, 44_100, 8_000])
def test_a_streamed_file_is_the_file_read_whole(source_rate, tmp_path):
    samples = 0.5 * np.stack([noise(47, 1, source_rate), noise(47, 2, source_rate)], axis=1)
    soundfile.write(tmp_path / "long.flac", samples, source_rate, subtype="PCM_24")
    for channel, expected in ((None, samples.mean(1)), (1, samples[:, 1])):
        streamed = np.concatenate(list(stream_file(str(tmp_path / "long.flac"), RATE, channel)))
        whole = soxr.resample(expected, source_rate, RATE, quality="soxr_hq")
        assert abs(len(streamed) - len(whole)) <= 1
        shortest = min(len(streamed), len(whole))
        np.testing.assert_allclose(streamed[:shortest], whole[:shortest], atol=1e-4)


def test_a_long_file_gives_what_its_samples_give(pipe, tmp_path):
    audio = noise(70, seed=3)
    soundfile.write(tmp_path / "long.wav", audio, RATE, subtype="FLOAT")
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, RATE, format="WAV", subtype="FLOAT")
    expected = pipe({"audio": audio}, return_timestamps=True, stride_length_s=2)
    assert len(expected["chunks"]) == 3
    for form in (str(tmp_path / "long.wav"), buffer.getvalue(), {"bytes": buffer.getvalue(), "path": None}):
        assert_close(pipe({"audio": form}, return_timestamps=True, stride_length_s=2, batch_size=3), expected)


HOUR = """
import resource, sys
sys.path[:0] = ["tests", "tests/model"]
import torch
torch.set_num_threads(1)
import test_pipeline
pipe = test_pipeline.build_pipe()
pipe({"audio": test_pipeline.noise(65)}, batch_size=4)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
chunks = pipe({"audio": sys.argv[1]}, batch_size=4, return_timestamps=True)["chunks"]
print(len(chunks), chunks[-1]["timestamp"][1], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_an_hour_is_judged_in_bounded_memory(tmp_path):
    """At 16 kHz an hour is 230 MB of samples; what is held at once is four windows, which a minute took as well."""
    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        for minute in range(60):
            file.write(noise(60, minute, 8_000))
    done = subprocess.run(
        [sys.executable, "-c", HOUR, str(path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    count, end, kilobytes = done.stdout.split()
    assert int(count) == 120 and float(end) == pytest.approx(3600, abs=0.01)
    assert int(kilobytes) < 100_000


# ── channels ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_channels_are_mixed_or_judged_one_by_one(pipe, tmp_path):
    left, right = noise(40, 1), noise(40, 2)
    soundfile.write(tmp_path / "call.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    for call in (np.stack([left, right]), str(tmp_path / "call.wav")):
        assert_close(pipe({"audio": call}), pipe({"audio": (left + right) / 2}), atol=1e-4)
        texts = ["Good morning.", None]
        output = pipe([{"text": "x"}, {"audio": call}], channels="mix", batch_size=2)[1]
        assert "channels" not in output
        split = pipe({"audio": call, "text": texts}, channels="split", batch_size=3, return_timestamps=True)
        expected = [
            pipe({"audio": c, "text": t}, return_timestamps=True) for c, t in zip((left, right), texts, strict=True)
        ]
        assert_close(split["channels"], expected)
        assert [c["modalities"] for c in split["channels"]] == [["audio", "text"], ["audio"]]


# ── embeddings and retrieval ────────────────────────────────────────────────────────────────────────────────────────


def test_embeddings_are_those_that_the_contrastive_term_compares(pipe):
    audio = noise(2)
    embedded = pipe.embed([{"audio": audio, "text": SENTENCE}, {"text": "no"}], batch_size=2)
    with torch.no_grad():
        output = pipe.model(**pipe.processor(audio=audio, text=SENTENCE), return_combinations=True)
    np.testing.assert_allclose(embedded[0]["audio"], output.audio_embeds[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(embedded[0]["text"], output.text_embeds[0].numpy(), atol=1e-5)
    assert set(embedded[1]) == {"text"}
    long = noise(20, 4)
    halves = [pipe.embed({"audio": half})["audio"] for half in (long[: 10 * RATE], long[10 * RATE :])]
    np.testing.assert_allclose(pipe.embed({"audio": long}, chunk_length_s=10)["audio"], np.mean(halves, 0), atol=1e-5)


def test_retrieval_ranks_by_the_dot_product(pipe):
    texts = ["I won.", "It rains.", SENTENCE, "no"]
    query = {"audio": noise(2)}
    embedded = pipe.embed([query, *({"text": t} for t in texts)])
    scores = [float(embedded[0]["audio"] @ e["text"]) for e in embedded[1:]]
    ranked = pipe.retrieve(query, texts, batch_size=3)
    assert [r["index"] for r in ranked] == sorted(range(4), key=lambda k: -scores[k])
    assert [r["score"] for r in ranked] == pytest.approx(sorted(scores, reverse=True), abs=1e-5)
    assert [r["index"] for r in pipe.retrieve(query, texts, top_k=2)] == [r["index"] for r in ranked[:2]]
    (best,) = pipe.retrieve({"text": "no"}, [noise(1)])
    assert best["index"] == 0
    with pytest.raises(ValueError, match="either audio"):
        pipe.retrieve({"audio": noise(1), "text": "a"}, texts)


def test_without_its_contrastive_head_a_model_says_so():
    pipe = build_pipe()
    pipe.model.contrastive_head = None
    pipe({"text": SENTENCE}, return_timestamps=True)
    for ask in (lambda: pipe.embed({"text": "a"}), lambda: pipe.retrieve({"text": "a"}, [noise(1)])):
        with pytest.raises(ValueError, match="exported without its contrastive head"):
            ask()
