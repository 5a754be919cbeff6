"""`handler.py` of an export, called as the hub's Inference Endpoints call it."""

import base64
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from packaging.requirements import Requirement
from scorers import DIMENSIONS, RECORDINGS
from transformers import Pipeline

from modeling_mmer import MMERForEmotionRecognition, MMERProcessor
from modeling_mmer.exporting.endpoint import write_endpoint
from modeling_mmer.model.pipeline_mmer import MMERPipeline

TEXT = "I am so glad that we won."
AUDIO = RECORDINGS[0].read_bytes()
BASE64 = base64.b64encode(AUDIO).decode()
# Fails on torch and what needs it, as in an environment without them.
WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('torch', 'transformers', 'modeling_mmer'): raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture(scope="module")
def pipe(saved_model):
    model = MMERForEmotionRecognition.from_pretrained(saved_model).eval()
    processor = MMERProcessor.from_pretrained(saved_model)
    return MMERPipeline(model=model, processor=processor, task="multimodal-emotion-recognition")


@pytest.fixture(scope="module", params=["transformers", "onnx"])
def handler(request, saved_model, tmp_path_factory):
    """The handler of an export in each format, loaded from its file with the path of its folder."""
    if request.param == "onnx":
        folder = request.getfixturevalue("exported_graphs")
    else:
        folder = tmp_path_factory.mktemp("endpoint") / "repository"
        shutil.copytree(saved_model, folder)
        write_endpoint(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "handler", module)
        spec.loader.exec_module(module)
        handler = module.EndpointHandler(path=str(folder))
        assert isinstance(handler.pipe, Pipeline) == (request.param == "transformers")
        yield handler
        for name in ("onnx_endpoint", "onnx_inference"):
            sys.modules.pop(name, None)


@pytest.fixture
def equal(handler):
    """Whether two results have the same labels, and scores to rounding. Graphs hear log-mels that NumPy computed, so
    that theirs is coarser."""
    tolerance = 1e-5 if isinstance(handler.pipe, Pipeline) else 1e-3

    def equal(found: dict, expected: dict) -> bool:
        if "channels" in expected:
            pairs = zip(found["channels"], expected["channels"], strict=True)
            return found.keys() == expected.keys() and all(equal(*pair) for pair in pairs)
        same = all(found[name] == expected[name] for name in ("modalities", "timestamp") if name in expected)
        same &= found.keys() == expected.keys() and found["emotion"]["label"] == expected["emotion"]["label"]
        same &= found["sentiment"]["scores"].keys() == expected["sentiment"]["scores"].keys()
        numbers = [[*of["emotion"]["scores"].values(), *(of[name] for name in DIMENSIONS)] for of in (found, expected)]
        chunks = zip(found.get("chunks", ()), expected.get("chunks", ()), strict=True)
        return same and np.allclose(*numbers, atol=tolerance) and all(equal(*pair) for pair in chunks)

    return equal


def call(seconds: float = 3, rate: int = 22_050) -> bytes:
    """A stereo WAV file: speech on the left channel, and on the right the same backwards, quieter."""
    samples, own_rate = soundfile.read(RECORDINGS[0], dtype="float32")
    left = np.interp(
        np.arange(0, seconds, 1 / rate) % (len(samples) / own_rate), np.arange(len(samples)) / own_rate, samples
    )
    soundfile.write(file := io.BytesIO(), np.stack([left, 0.3 * left[::-1]], axis=1), rate, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize(
    ("inputs", "meant"),
    [
        (AUDIO, {"audio": AUDIO}),
        (BASE64, {"audio": AUDIO}),
        (base64.encodebytes(AUDIO).decode(), {"audio": AUDIO}),  # in lines
        (f"data:audio/ogg;base64,{BASE64}", {"audio": AUDIO}),
        (TEXT, {"text": TEXT}),
        ("Goodness", {"text": "Goodness"}),  # base64 by its letters
        ({"audio": BASE64, "text": TEXT}, {"audio": AUDIO, "text": TEXT}),
        ({"audio": AUDIO}, {"audio": AUDIO}),
        ({"audio": BASE64, "start": 0.5, "end": 1.0}, {"audio": AUDIO, "start": 0.5, "end": 1.0}),
    ],
)
def test_a_request_is_answered_as_by_the_pipeline(handler, equal, pipe, inputs, meant):
    (answer,) = handler({"inputs": inputs})
    assert equal(answer, pipe(meant))
    json.dumps(answer)


@pytest.mark.parametrize(
    ("more", "parameters"),
    [
        ({}, {"top_k": 2, "return_timestamps": True, "chunk_length_s": 0.5}),
        ({"text": TEXT}, {"return_timestamps": True, "chunk_length_s": 1, "stride_length_s": 0.2}),
        ({"text": [TEXT, None]}, {"channels": "split", "chunk_length_s": 2}),
        ({"channel": 1, "start": 0.3, "end": 2.2}, {"top_k": 1}),
    ],
)
def test_parameters_reach_the_pipeline(handler, equal, pipe, more, parameters):
    (answer,) = handler({"inputs": {"audio": base64.b64encode(call()).decode(), **more}, "parameters": parameters})
    expected = pipe({"audio": call(), **more}, **parameters)
    assert equal(answer, expected)
    if "return_timestamps" in parameters:
        assert len(answer["chunks"]) > 2
        assert len(answer["emotion"]["scores"]) == parameters.get("top_k", 4)


def test_a_recording_longer_than_a_window(handler, equal, pipe):
    long = call(seconds=65, rate=8000)
    (answer,) = handler({"inputs": {"audio": long, "text": TEXT}, "parameters": {"return_timestamps": True}})
    assert len(answer["chunks"]) == 3 and equal(answer, pipe({"audio": long, "text": TEXT}, return_timestamps=True))


def test_several_inputs_are_answered_each_for_itself(handler, equal, pipe):
    answers = handler({"inputs": [TEXT, {"text": " "}, BASE64]})
    assert equal(answers[0], pipe({"text": TEXT})) and equal(answers[2], pipe({"audio": AUDIO}))
    assert "neither audio nor text" in answers[1]["error"]


def test_samples_are_taken_as_numbers(handler, equal, pipe):
    samples = np.sin(np.arange(8000) / 20).round(4)
    (answer,) = handler({"inputs": {"audio": samples.tolist(), "sampling_rate": 16000}})
    assert equal(answer, pipe({"audio": samples.astype(np.float32), "sampling_rate": 16000}))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, 'Give {"inputs"'),
        ({"inputs": []}, 'Give {"inputs"'),
        ("text", 'Give {"inputs"'),
        ({"inputs": TEXT, "parameters": {"num_workers": 8}}, "not num_workers"),
        ({"inputs": TEXT, "parameters": [1]}, "as a dict"),
        ({"inputs": TEXT, "parameters": {"top_k": 0}}, "top_k"),
        ({"inputs": 7}, "cannot be a int"),
        ({"inputs": {"audo": BASE64}}, "audo"),
        ({"inputs": b"no sound"}, "cannot be decoded"),
        ({"inputs": {"audio": base64.b64encode(b"no sound").decode()}}, "cannot be decoded"),
        ({"inputs": {"audio": ["a.wav", "b.wav"]}}, "as numbers"),
        ({"inputs": {"audio": [0.1, 0.2], "sampling_rate": 0}}, "sampling rate of 0"),
        ({"inputs": {"audio": [0.1, float("nan")]}}, "not finite"),
        ({"inputs": {"audio": [3, 200]}}, "the scale of int"),
        ({"inputs": {"audio": AUDIO, "start": 100}}, "exceeds the recording"),
        ({"inputs": {"audio": AUDIO, "start": 1, "end": 0.5}}, "start must be before end"),
        ({"inputs": {"audio": AUDIO, "channel": 2}}, "there is no channel 2"),
        ({"inputs": {"text": 7}}, "text cannot be a int"),
        ({"inputs": AUDIO, "parameters": {"channels": "both"}}, '"mix" or "split"'),
        ({"inputs": AUDIO, "parameters": {"channels": "split"}}, "only one channel"),
        ({"inputs": AUDIO, "parameters": {"chunk_length_s": 31}}, "takes at most 30 s"),
        ({"inputs": AUDIO, "parameters": {"chunk_length_s": 1, "stride_length_s": 0.5}}, "must be greater"),
        ({"inputs": AUDIO, "parameters": {"chunk_length_s": "long"}}, "seconds"),
    ],
)
def test_what_cannot_be_answered_is_an_error_in_words(handler, data, says):
    (answer,) = handler(data)
    assert answer.keys() == {"error"} and says in answer["error"]


@pytest.mark.parametrize("form", [str, lambda path: {"path": path}, lambda path: f"data:audio/ogg,{path}"])
def test_a_request_cannot_read_files_of_the_server_or_call_others(handler, form):
    for place in (str(RECORDINGS[0]), "/etc/passwd", "http://localhost:1/call.wav"):
        (answer,) = handler({"inputs": {"audio": form(place)}})
        assert answer.keys() == {"error"} and ("base64" in answer["error"])


def test_the_snippet_of_the_guide_runs_as_written(saved_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "handler", raising=False)
    shutil.copytree(saved_model, "exported")
    write_endpoint(tmp_path / "exported")
    shutil.copy(RECORDINGS[0], "call.wav")
    (snippet,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/publish.md").read_text(), re.DOTALL)
    exec(snippet, {})
    assert capsys.readouterr().out.startswith("['audio', 'text'] {'label': ")


def test_the_snippet_of_the_guide_of_servers_runs_for_both_formats(handler, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    snippet = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/serve.md").read_text(), re.DOTALL)[-1]
    assert 'folder = "exported"' in snippet
    shutil.copy(RECORDINGS[0], "call.wav")
    exec(snippet.replace('"exported"', repr(str(Path(sys.modules["handler"].__file__).parent)), 1), {})
    assert re.fullmatch(r"\['audio', 'text'\] \w+\n", capsys.readouterr().out)


def test_the_snippet_of_the_graphs_runs_without_torch(exported_graphs, tmp_path):
    """In the folder, as its README says, in a process that has only what its requirements name."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_TORCH)
    (snippet,) = re.findall(r"```python\n(.*?)```", (exported_graphs / "README.md").read_text(), re.DOTALL)
    shutil.copy(RECORDINGS[0], tmp_path / "call.opus")
    more = f"print(handler({{'inputs': open({str(tmp_path / 'call.opus')!r}, 'rb').read()}})[0]['modalities'])"
    environment = {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", f"{snippet}\n{more}"]
    done = subprocess.run(command, cwd=exported_graphs, env=environment, capture_output=True, text=True, timeout=300)
    text, audio = done.stdout.splitlines() or [done.stderr, ""]
    assert text.startswith("[{'modalities': ['text'], 'emotion': {'label': ") and audio == "['audio']"


@pytest.mark.parametrize("name", ["requirements.txt", "onnx_requirements.txt"])
def test_the_packages_of_an_endpoint_are_those_of_the_project(name):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    ours = {Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["onnx"]]}
    lines = (REPOSITORY / "modeling_mmer/exporting" / name).read_text().splitlines()
    of_transformers = {Requirement(line) for line in lines if line.startswith("tokenizers")}  # which brings it
    assert lines and {Requirement(line) for line in lines} - of_transformers <= ours
