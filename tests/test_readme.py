"""What the README says runs: its Python as written, its commands with options that exist."""

import re
import shlex

import pytest
from conftest import REPOSITORY, run
from test_remote import elsewhere

from modeling_mmer.commands.arguments import (
    CorpusArguments,
    ModelArguments,
    RunArguments,
    SourceArguments,
    StartArguments,
    parse,
)
from modeling_mmer.commands.corpus import DescriptionArguments
from modeling_mmer.commands.eval import EvaluationArguments
from modeling_mmer.commands.export import ExportArguments
from modeling_mmer.commands.reproduce import ARGUMENTS as REPRODUCE_ARGUMENTS

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


def test_the_python_of_the_readme_runs(trained):
    folder, _ = trained
    snippet, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert '"runs/demo"' in snippet
    done = run("-c", snippet.replace('"runs/demo"', repr(str(folder))))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(re.fullmatch(r"\w+ arousal \d\.\d on \[1(\.0)?, 7(\.0)?\]", line) for line in lines)


@pytest.mark.slow
def test_the_pipeline_of_the_readme_runs_where_the_package_is_not(trained, tmp_path):
    folder, _ = trained
    _, snippet = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for path in ("runs/demo", "modeling_mmer/corpora"):
        assert f'"{path}' in snippet
    snippet = snippet.replace("runs/demo", str(folder)).replace('"modeling_mmer/', f'"{REPOSITORY}/modeling_mmer/')
    first, audio, both = elsewhere(snippet, folder=tmp_path).splitlines()
    assert first.count(":") == 5 and "score" in first
    assert re.fullmatch(r"\['audio'\] \w+ \d\.\d", audio) and re.fullmatch(r"\['audio', 'text'\] \w+ \d\.\d", both)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_readme_have_options_that_exist(command, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    words = shlex.split(command, comments=True)
    if words[0] == "source":
        assert words[1] == ".venv/bin/activate" and ".venv/installed" in (REPOSITORY / "Makefile").read_text()
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    elif "train.py" in words:
        options = words[words.index("train.py") + 1 :]
        parse((CorpusArguments, StartArguments, ModelArguments, RunArguments), options, "train.py")
    elif "reproduce.py" in words or words[:2] == ["mmer", "reproduce"]:
        (grid, *_, run_arguments) = parse(REPRODUCE_ARGUMENTS, words[2:], "mmer reproduce")
        assert set(grid.only or ()) <= {"table1"} and run_arguments.output_dir.startswith("runs/")
    elif words[:2] == ["mmer", "export"]:
        parse((ExportArguments,), words[3:], "mmer export")
    elif words[:3] == ["mmer", "corpus", "describe"]:
        parse((SourceArguments, DescriptionArguments), words[3:], "mmer corpus describe")
    else:
        assert words[:2] == ["python", "eval.py"] and not words[2].startswith("-")
        parse((CorpusArguments, EvaluationArguments), words[3:], "eval.py")


def test_every_file_of_the_tree_exists_and_every_module_is_in_it():
    (tree,) = re.findall(r"```\n(train\.py.*?)```", README, re.DOTALL)
    named = set(re.findall(r"[\w/]+\.(?:py|yaml)|\w+/", tree))
    for name in named - {"yaml"}:
        folders = (
            "",
            "docs",
            "modeling_mmer",
            "modeling_mmer/commands",
            "modeling_mmer/corpora",
            "modeling_mmer/report",
        )
        assert any((REPOSITORY / folder / name).exists() for folder in folders), name
    for module in (REPOSITORY / "modeling_mmer").glob("*.py"):
        assert module.name in named | {"__init__.py"}, module.name
