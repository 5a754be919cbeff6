"""`handler.py` of an export, called as the hub's Inference Endpoints call it."""

import base64
import importlib.util
import json
import re
import shutil
import sys
import tomllib

import numpy as np
import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement
from scorers import RECORDINGS

from modeling_mmer import MMERForEmotionRecognition, MMERProcessor
from modeling_mmer.exporting.endpoint import write_endpoint
from modeling_mmer.model.pipeline_mmer import MMERPipeline

TEXT = "I am so glad that we won."
AUDIO = RECORDINGS[0].read_bytes()
BASE64 = base64.b64encode(AUDIO).decode()


@pytest.fixture(scope="module")
def pipe(saved_model):
    model = MMERForEmotionRecognition.from_pretrained(saved_model).eval()
    processor = MMERProcessor.from_pretrained(saved_model)
    return MMERPipeline(model=model, processor=processor, task="multimodal-emotion-recognition")


@pytest.fixture(scope="module")
def handler(saved_model, tmp_path_factory):
    """The handler of a copy of an export, loaded from its file with the path of its folder."""
    folder = tmp_path_factory.mktemp("endpoint") / "repository"
    shutil.copytree(saved_model, folder)
    write_endpoint(folder)
    spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["handler"] = module
    spec.loader.exec_module(module)
    yield module.EndpointHandler(path=str(folder))
    del sys.modules["handler"]


def equal(found: dict, expected: dict) -> bool:
    """Whether two results have the same labels, and scores to rounding."""
    scores = [list(result["emotion"]["scores"].values()) + [result["arousal"]] for result in (found, expected)]
    same = found["emotion"]["label"] == expected["emotion"]["label"] and found["modalities"] == expected["modalities"]
    return same and np.allclose(*scores, atol=1e-5)


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
def test_a_request_is_answered_as_by_the_pipeline(handler, pipe, inputs, meant):
    (answer,) = handler({"inputs": inputs})
    assert equal(answer, pipe(meant))
    json.dumps(answer)


def test_parameters_reach_the_pipeline(handler, pipe):
    parameters = {"top_k": 2, "return_timestamps": True, "chunk_length_s": 0.5}
    (answer,) = handler({"inputs": BASE64, "parameters": parameters})
    expected = pipe({"audio": AUDIO}, **parameters)
    assert len(answer["emotion"]["scores"]) == 2 and len(answer["chunks"]) == len(expected["chunks"]) > 1


def test_several_inputs_are_answered_each_for_itself(handler, pipe):
    answers = handler({"inputs": [TEXT, {"text": " "}, BASE64]})
    assert equal(answers[0], pipe({"text": TEXT})) and equal(answers[2], pipe({"audio": AUDIO}))
    assert "neither audio nor text" in answers[1]["error"]


def test_samples_are_taken_as_numbers(handler, pipe):
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


def test_the_packages_of_an_endpoint_are_those_of_the_project():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    ours = {Requirement(line) for line in project["dependencies"]}
    lines = (REPOSITORY / "modeling_mmer/exporting/requirements.txt").read_text().splitlines()
    assert lines and {Requirement(line) for line in lines} <= ours
