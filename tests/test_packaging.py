"""The installed package: its name, its command, and what an import loads and registers."""

import ast
import os
import re
import tomllib
from pathlib import Path

import pytest
from conftest import REPOSITORY, run

import modeling_mmer

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def our_texts():
    """Every text of the repository, hidden folders and what runs write aside."""
    for folder, folders, names in os.walk(REPOSITORY):
        folders[:] = [name for name in folders if name == ".ci" or not name.startswith((".", "runs"))]
        for path in (Path(folder) / name for name in names):
            if path.suffix in ("", ".cff", ".html", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"):
                yield path, path.read_text(encoding="utf-8")


def test_nothing_sends_anyone_to_another_project_of_the_name():
    """`mmer` on the package index is somebody else's."""
    assert PROJECT["name"] == "modeling-mmer" and PROJECT["scripts"].keys() == {"mmer"}
    extras = [requirement for some in PROJECT["optional-dependencies"].values() for requirement in some]
    assert not [requirement for requirement in extras if re.match(r"mmer\b", requirement)]
    installs = re.compile(r"\b(?:pip3?|uv add|pipx?)\b[^\n`]*?(?<![-\w./])mmer(?![-\w./])|(?<![-\w./])mmer\[")
    texts = {str(path.relative_to(REPOSITORY)): text for path, text in our_texts()}
    assert {"README.md", "pyproject.toml", "modeling_mmer/corpora/cmu_mosei.py"} < texts.keys()
    for name, text in texts.items():
        if name != "tests/test_packaging.py":
            assert not (found := installs.search(text)), (name, found[0])
    for text in ("pip install mmer", 'pip install -U "mmer[mosei]"', "`mmer[test]`"):
        assert installs.search(text)
    for text in ("pip install modeling-mmer", "pip install . and then `mmer train`", "modeling-mmer[test]"):
        assert not installs.search(text)


def test_the_command_and_its_help_do_without_torch():
    program = """if True:
        import sys
        import modeling_mmer
        from importlib.metadata import EntryPoint
        assert "torch" not in sys.modules and "transformers" not in sys.modules
        try:
            EntryPoint("mmer", sys.argv.pop(), "console_scripts").load()()
        finally:
            assert "torch" not in sys.modules and "transformers" not in sys.modules
    """
    by_entry_point = run("-c", program, "--help", PROJECT["scripts"]["mmer"], fresh=True)
    by_module = run("-m", "modeling_mmer", "--help", fresh=True)
    for done in (by_entry_point, by_module):
        assert done.returncode == 0 and not done.stderr, done.stderr
    assert by_entry_point.stdout == by_module.stdout and "usage: mmer COMMAND" in by_module.stdout


def test_every_public_name_is_there_and_known_to_type_checkers():
    for name in modeling_mmer.__all__:
        assert getattr(modeling_mmer, name).__name__ == name
        assert name in dir(modeling_mmer)
    tree = ast.parse((REPOSITORY / "modeling_mmer/__init__.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == {"import_module", "TYPE_CHECKING", *modeling_mmer.__all__}
    with pytest.raises(AttributeError, match="MMERTypo"):
        _ = modeling_mmer.MMERTypo


@pytest.mark.parametrize(
    "imports",
    ["from modeling_mmer import MMERConfig", "import transformers.models.auto.modeling_auto, modeling_mmer"],
)
def test_transformers_knows_mmer_after(imports):
    program = f"""if True:
        {imports}
        from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, AutoProcessor
        from transformers.pipelines import PIPELINE_REGISTRY
        from transformers.models.auto.processing_auto import processor_class_from_name
        config = AutoConfig.for_model("mmer")
        names = AutoModel._model_mapping[type(config)], AutoModelForAudioClassification._model_mapping[type(config)]
        print(*(name.__name__ for name in names), processor_class_from_name("MMERProcessor").__name__)
        assert "multimodal-emotion-recognition" in PIPELINE_REGISTRY.get_supported_tasks()
    """
    done = run("-c", program, fresh=True)
    assert done.stdout.split() == ["MMERModel", "MMERForEmotionRecognition", "MMERProcessor"], done.stderr
