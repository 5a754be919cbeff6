"""The notebook `docs/quickstart.ipynb` runs from its first cell to its last, offline, with real encoders by name."""

import importlib.util
import os
import re
from pathlib import Path

import nbformat
import pytest
from conftest import REPOSITORY, real_path
from hub import offline, put
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

NOTEBOOK = REPOSITORY / "docs" / "quickstart.ipynb"
NAMES = {
    "openai/whisper-base": "whisper-base-encoder",
    "openai/whisper-tiny.en": "whisper-tiny-en-encoder",
    "sentence-transformers/all-MiniLM-L6-v2": "minilm",
}


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_kept_without_outputs_for_any_kernel(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5 and not [cell.id for cell in code if cell.outputs or cell.execution_count is not None]


def test_the_package_is_installed_where_it_is_missing_and_only_there(notebook, monkeypatch):
    install = TransformerManager().transform_cell(next(cell.source for cell in notebook.cells if cell.id == "install"))
    called = []

    class Shell:
        def run_line_magic(self, *words):
            called.append(words)

    names = {"get_ipython": Shell}
    exec(install, names)
    assert not called
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="set REPOSITORY above"):
        exec(install, names)
    exec(install.replace('REPOSITORY = ""', 'REPOSITORY = "https://hub.example/mmer"'), names)
    assert called == [("pip", "install --quiet git+{REPOSITORY}")]


@pytest.mark.slow
def test_it_runs(notebook, tmp_path, monkeypatch):
    folders = {name: real_path("models", folder) for name, folder in NAMES.items()}
    for name, folder in folders.items():
        put(tmp_path / "hub", name, folder)
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path / "work")}})
    with offline(tmp_path / "hub"):
        client.execute()  # raises what a cell raises

    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    voice, words, both, scale = printed(outputs["pipeline"]).splitlines()
    for line, name in ((voice, "voice"), (words, "words: happiness"), (both, "both")):
        assert line.startswith(name) and re.fullmatch(r"\w+: \w+ [01]\.\d\d, arousal [1-5]\.\d", line)
    assert scale == "Dimensions are from 1.0 to 5.0."
    assert "image/png" in outputs["scorer"][-1].data
    timeline = outputs["turns"][-1].data["text/html"]
    assert timeline.startswith("<svg") and "6 rows" in timeline
    accuracy = dict(re.findall(r"(\w+): UA (0\.\d\d) over \d+ rows", printed(outputs["results"])))
    assert accuracy.keys() == {"audio", "text", "audio_text"} and float(accuracy["audio_text"]) > 0.35  # chance is 0.25
    assert "'scores'" in outputs["results"][-1].data["text/plain"]
    assert Path(tmp_path, "work/quickstart/model/README.md").is_file()


def printed(outputs) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
