"""What the README says runs: its Python as written, its commands with options that exist."""

import re
import shlex

import pytest
from conftest import REPOSITORY, run

from modeling_mmer.commands.arguments import (
    CorpusArguments,
    ModelArguments,
    RunArguments,
    StartArguments,
    parse,
)
from modeling_mmer.commands.eval import EvaluationArguments

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


def test_the_python_of_the_readme_runs(trained):
    folder, _ = trained
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert '"runs/demo"' in snippet
    done = run("-c", snippet.replace('"runs/demo"', repr(str(folder))))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(re.fullmatch(r"\w+ arousal \d\.\d on \[1(\.0)?, 7(\.0)?\]", line) for line in lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_readme_have_options_that_exist(command, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    elif "train.py" in words:
        options = words[words.index("train.py") + 1 :]
        parse((CorpusArguments, StartArguments, ModelArguments, RunArguments), options, "train.py")
    else:
        assert words[:2] == ["python", "eval.py"] and not words[2].startswith("-")
        parse((CorpusArguments, EvaluationArguments), words[3:], "eval.py")


def test_every_file_of_the_tree_exists_and_every_module_is_in_it():
    (tree,) = re.findall(r"```\n(train\.py.*?)```", README, re.DOTALL)
    named = set(re.findall(r"[\w/]+\.(?:py|yaml)|\w+/", tree))
    for name in named - {"yaml"}:
        found = [REPOSITORY / name, REPOSITORY / "modeling_mmer" / name, REPOSITORY / "modeling_mmer/commands" / name]
        assert any(path.exists() for path in found), name
    for module in (REPOSITORY / "modeling_mmer").glob("*.py"):
        assert module.name in named | {"__init__.py"}, module.name
