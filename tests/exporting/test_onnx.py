"""`mmer export --format onnx`: graphs that equal the model for any lengths, and a script that needs no torch."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import randomize, real_input_config, tiny_config
from scorers import RECORDINGS

from modeling_mmer import MMERForEmotionRecognition, MMERProcessor
from modeling_mmer.commands import main
from modeling_mmer.exporting import graphs, onnx_folder
from modeling_mmer.model.pipeline_mmer import MMERPipeline

onnxruntime = pytest.importorskip("onnxruntime")
soundfile = pytest.importorskip("soundfile")

TEXT = "I did not expect this at all."
FIELDS = {"emotion": "logits", "sentiment": "sentiment_logits"}
# Fails on torch and what needs it, as in an environment without them.
WITHOUT_TORCH = """
import sys
REFUSED = 'torch', 'transformers', 'modeling_mmer', 'soundfile'
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in REFUSED: raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
"""


def run_export(model: Path, folder: Path, *options: str) -> Path:
    main(["export", str(model), "--output_dir", str(folder), "--format", "onnx", *options])
    return folder


@pytest.fixture(scope="module")
def pipe(saved_model):
    model = MMERForEmotionRecognition.from_pretrained(saved_model).eval()
    processor = MMERProcessor.from_pretrained(saved_model)
    return MMERPipeline(model=model, processor=processor, task="multimodal-emotion-recognition")


@pytest.fixture(scope="module")
def script(exported_graphs):
    """`onnx_inference.py` of the folder, as a module of this process."""
    spec = importlib.util.spec_from_file_location("onnx_inference", exported_graphs / "onnx_inference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """31.5 s of speech, stereo, at 16 kHz: longer than a window."""
    heard = [soundfile.read(path, dtype="float32")[0] for path in RECORDINGS]
    whole = np.tile(np.concatenate(heard), 40)[: round(31.5 * 16000)]
    return np.stack([whole, 0.25 * whole], axis=1)


def write_wav(path: Path, samples: np.ndarray, subtype: str = "PCM_16", rate: int = 16000) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def batches(
    modalities: tuple[str, ...], mels: int = 8, words: int = 600, frames: int = 700, tokens: int = 60, count: int = 20
):
    """Random inputs of random shapes; the first has one row of one frame and one token, the second the longest."""
    random = np.random.default_rng(5)
    for number in range(count):
        rows = (1, 2)[number] if number < 2 else int(random.integers(1, 6))
        batch = {}
        for modality in modalities:
            top = frames if modality == "audio" else tokens
            longest = (1, top)[number] if number < 2 else int(random.integers(1, top + 1))
            lengths = np.append(random.integers(1, longest + 1, rows - 1), longest)
            mask = (np.arange(longest) < lengths[:, None]).astype(np.int64)
            if modality == "audio":
                batch["input_features"] = random.standard_normal((rows, mels, longest)).astype(np.float32)
                batch["input_features_mask"] = mask
            else:
                batch["input_ids"] = np.where(mask == 1, random.integers(3, words, (rows, longest)), 1)
                batch["attention_mask"] = mask
        yield batch


def differences(model, folder: Path, name: str, **shapes) -> list[float]:
    """The largest difference between graph and model of each batch."""
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    outputs, found = [output.name for output in session.get_outputs()], []
    assert outputs == ["emotion", "sentiment", "valence", "arousal", "dominance"]
    for batch in batches(model.config.combinations[name], **shapes):
        with torch.no_grad():
            expected = model(**{key: torch.from_numpy(value) for key, value in batch.items()})
        expected = [expected[FIELDS.get(task, task)] for task in outputs]
        expected = [values.softmax(-1) if values.dim() == 2 else values for values in expected]
        of_graph = session.run(None, batch)
        assert [values.shape for values in of_graph] == [tuple(values.shape) for values in expected]
        pairs = zip(of_graph, expected, strict=True)
        found.append(max(float(np.abs(ours - theirs.numpy()).max()) for ours, theirs in pairs))
    return found


def numbers(result: dict) -> list[float]:
    scores = [value for task in ("emotion", "sentiment") for _, value in sorted(result[task]["scores"].items())]
    return [*scores, result["valence"], result["arousal"], result["dominance"]]


# ── the graphs ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["audio", "text", "audio_text"])
def test_a_graph_equals_the_model_for_random_lengths(exported_graphs, pipe, name):
    found = differences(pipe.model, exported_graphs, name)
    assert len(found) == 20 and max(found) < 1e-4


def test_other_choices_of_the_config_have_equal_graphs_too(tmp_path):
    """Whisper's full window, pooled tokens, standardised states, a choice of states, a BERT, sinusoids."""
    choices = {
        "audio_context": "full",
        "readout": "attention",
        "state_normalization": "standardize",
        "state_heads": True,
    }
    choices |= {"audio_layers": [0, 2], "text_layers": [1], "position_type": "sinusoidal", "audio_stride": 3}
    torch.manual_seed(1)
    model = randomize(MMERForEmotionRecognition(tiny_config(text="bert", **choices)))
    for embedder in model.model.embedders.values():
        embedder.standardizer.mean.normal_()
        embedder.standardizer.std.uniform_(0.5, 2)
        embedder.standardizer.calibrated.fill_(True)
    graphs.write_graphs(model, tmp_path)
    for name in model.config.combinations:
        assert max(differences(model, tmp_path, name, words=50, count=8, frames=100, tokens=40)) < 1e-4


def test_the_graphs_share_their_weights(exported_graphs, pipe):
    """Each encoder is in two graphs and once on the disk."""
    needed = sum(4 * p.numel() for p in pipe.model.model.encoders.parameters())
    assert 0.5 * needed < (exported_graphs / "weights.bin").stat().st_size < 1.2 * needed
    assert sorted(path.name for path in exported_graphs.iterdir() if path.is_file()) == [
        *("README.md", "audio.onnx", "audio_text.onnx", "config.json", "handler.py", "mel_filters.npy"),
        *("onnx_endpoint.py", "onnx_inference.py", "requirements.txt", "text.onnx", "tokenizer.json", "weights.bin"),
    ]


def test_int8_weights_are_smaller_and_close(saved_model, exported_graphs, pipe, tmp_path, capsys):
    measured = {"corpus": "ravdess", "split": "test", "combinations": {"audio": {"float32": 0.75, "int8": 0.7}}}
    model = shutil.copytree(saved_model, tmp_path / "model")
    (model / "int8.json").write_text(json.dumps(measured))
    (model / "README.md").write_text("---\nlicense: cc-by-nc-sa-4.0\nmodel-index: []\n---\n# A model\n")
    (model / "LICENSE").write_text("terms")
    folder = run_export(model, tmp_path / "int8", "--int8")
    assert "int8" in capsys.readouterr().out
    assert (folder / "weights.bin").stat().st_size < 0.75 * (exported_graphs / "weights.bin").stat().st_size
    for name in pipe.model.config.combinations:
        found = differences(pipe.model, folder, name, frames=200)
        assert 1e-4 < max(found) < 0.5
    card = (folder / "README.md").read_text()
    assert "75.0% → 70.0% from audio" in card and "license: cc-by-nc-sa-4.0" in card and "model-index" not in card
    assert (folder / "LICENSE").read_text() == "terms"
    readme = (exported_graphs / "README.md").read_text()
    assert "float32" in readme and not re.search(r"\{\{|\{\w+\}", readme)


# ── the script ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_script_answers_as_the_pipeline_without_torch(exported_graphs, pipe, samples, tmp_path):
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(WITHOUT_TORCH)
    recording = write_wav(tmp_path / "call.wav", samples)
    for inputs in ({"audio": str(recording)}, {"text": TEXT}, {"audio": str(recording), "text": TEXT}):
        words = [*([inputs["audio"]] if "audio" in inputs else []), *(["--text", TEXT] if "text" in inputs else [])]
        done = subprocess.run(
            [sys.executable, str(exported_graphs / "onnx_inference.py"), *words],
            env={"PYTHONPATH": str(tmp_path / "hidden"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        answer, expected = json.loads(done.stdout), pipe(inputs)
        assert answer["modalities"] == expected["modalities"] == list(inputs)
        assert answer["emotion"]["label"] == expected["emotion"]["label"]
        assert list(answer["sentiment"]["scores"]) == list(expected["sentiment"]["scores"])
        np.testing.assert_allclose(numbers(answer), numbers(expected), atol=1e-3)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
def test_the_script_reads_samples_of_any_width(script, samples, tmp_path, subtype):
    path = write_wav(tmp_path / "call.wav", samples[:4000], subtype)
    np.testing.assert_allclose(script.read_wav(path), soundfile.read(path)[0].mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("length", [1, 159, 160, 161, 16000, 479_900, 480_000])
def test_the_script_hears_the_features_of_the_processor(script, pipe, samples, length):
    mono = np.ascontiguousarray(samples[1000 : 1000 + length, 0])
    expected = pipe.processor.encode_audio([mono])["input_features"][0].numpy()
    np.testing.assert_allclose(script.log_mel(mono), expected, atol=1e-4)


def test_the_script_cuts_long_texts_as_the_processor_does(script, pipe):
    text = "I did not expect this. " * 100
    result = script.judge(text=text)
    np.testing.assert_allclose(numbers(result), numbers(pipe({"text": text})), atol=1e-3)


def test_the_script_says_what_it_cannot_judge(script, samples, tmp_path):
    with pytest.raises(ValueError, match="8000 Hz and the model hears 16000 Hz: ffmpeg"):
        script.read_wav(write_wav(tmp_path / "slow.wav", samples[:1000], rate=8000))
    with pytest.raises(wave.Error):
        script.read_wav(write_wav(tmp_path / "floats.wav", samples[:1000], "FLOAT"))
    for nothing in ({}, {"text": "  "}, {"samples": np.zeros(0, np.float32)}):
        with pytest.raises(ValueError, match="neither may be empty"):
            script.judge(**nothing)


def test_the_script_is_short():
    lines = (Path(onnx_folder.__file__).with_name("onnx_inference.py")).read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 60


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_graphs_that_differ_are_not_kept(saved_model, tmp_path, monkeypatch, capsys):
    def spoilt(model, folder):
        with torch.no_grad():
            model.heads["emotion"][-1].bias[0] += 0.01
        graphs.write_graph(model, ("text",), folder / "text.onnx")
        with torch.no_grad():
            model.heads["emotion"][-1].bias[0] -= 0.01

    monkeypatch.setattr(onnx_folder, "write_graphs", spoilt)
    monkeypatch.setattr(MMERForEmotionRecognition, "served", ("text",))
    with pytest.raises(SystemExit) as end:
        run_export(saved_model, tmp_path / "out")
    assert end.value.code == 1 and "outputs of text.onnx differ from the model's" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_options_that_do_not_go_together_are_refused(saved_model, tmp_path, monkeypatch, capsys):
    cases = [
        (["--int8"], "give --format onnx too"),
        (["--format", "onnx", "--dtype", "bfloat16", "--inference_only"], "leave out --inference_only --dtype"),
    ]
    for options, says in cases:
        with pytest.raises(SystemExit) as end:
            main(["export", str(saved_model), "--output_dir", str(tmp_path / "new"), *options])
        assert end.value.code == 1 and says in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SystemExit):
        run_export(saved_model, tmp_path / "new")
    assert 'pip install "modeling-mmer[onnx]"' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_models_without_log_mels_have_no_graphs():
    with pytest.raises(ValueError, match="audio, text and a hubert encoder"):
        graphs.require_exportable(tiny_config(audio="hubert-group"))
    graphs.require_exportable(real_input_config())
