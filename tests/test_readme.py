"""The README and the guides in `docs/`: their Python code runs, their commands have valid options, and their links are
valid."""

import argparse
import re
import shlex
from pathlib import Path

import pytest
from conftest import REPOSITORY, run
from dockerfiles import DOCKERFILE, instructions
from isolated import elsewhere

from modeling_mmer.commands.arguments import ModelArguments, StartArguments, parse
from modeling_mmer.commands.corpus import DescriptionArguments
from modeling_mmer.commands.eval import EvaluationArguments
from modeling_mmer.commands.export import ExportArguments
from modeling_mmer.commands.predict import parse_options
from modeling_mmer.commands.predicting import format_of
from modeling_mmer.commands.reproduce import ARGUMENTS as REPRODUCE_ARGUMENTS
from modeling_mmer.commands.space import build_parser as space_parser
from modeling_mmer.training.arguments import CorpusArguments, RunArguments, SourceArguments

PAGES = {
    str(page.relative_to(REPOSITORY)): page.read_text(encoding="utf-8")
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
}
USE = PAGES["docs/use.md"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


COMMANDS = sorted({line for page in PAGES.values() for block in blocks(page, "sh") for line in block.splitlines()})


def test_the_first_page_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 150


def test_the_classes_run_as_written(trained):
    folder, _ = trained
    *_, snippet = blocks(USE, "python")
    assert '"runs/demo"' in snippet
    done = run("-c", snippet.replace('"runs/demo"', repr(str(folder))))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(re.fullmatch(r"\w+ arousal \d\.\d on \[1(\.0)?, 7(\.0)?\]", line) for line in lines)


def test_the_scorer_runs_as_written(trained):
    snippet, *_ = blocks(USE, "python")
    done = run("-c", snippet.replace('"runs/demo"', repr(str(trained[0]))))
    assert done.returncode == 0, done.stderr
    both, text, absent = done.stdout.splitlines()
    assert re.fullmatch(r"\['audio', 'text'\] \w+ ", both) and re.fullmatch(r"\['text'\] \w+ ", text)
    assert absent.startswith("[] None the file does not exist")


def without_the_package(snippet: str, trained: Path, folder: Path) -> list[str]:
    """What a snippet prints in a process that has the trained model, and not the package."""
    for path in ("runs/demo", "modeling_mmer/corpora"):
        assert f'"{path}' in snippet
    snippet = snippet.replace("runs/demo", str(trained)).replace('"modeling_mmer/', f'"{REPOSITORY}/modeling_mmer/')
    return elsewhere(snippet, folder=folder).splitlines()


@pytest.mark.slow
def test_the_pipelines_run_where_the_package_is_not(trained, tmp_path):
    (first_page,), (_, guide, _) = blocks(PAGES["README.md"], "python"), blocks(USE, "python")
    audio, text, both = without_the_package(first_page, trained[0], tmp_path)
    for line, modalities in ((audio, "'audio'"), (text, "'text'"), (both, "'audio', 'text'")):
        assert re.fullmatch(rf"\[{modalities}\] \w+ \d\.\d", line)
    first, audio, both = without_the_package(guide, trained[0], tmp_path)
    assert first.count(":") == 5 and "score" in first
    assert re.fullmatch(r"\['audio'\] \w+ \d\.\d", audio) and re.fullmatch(r"\['audio', 'text'\] \w+ \d\.\d", both)


def check_docker(command: str, words: list[str]) -> None:
    """Arguments, places and port are those of the Dockerfile; what follows the image are options of `mmer space`."""
    found = instructions(DOCKERFILE.read_text())
    parser = argparse.ArgumentParser(exit_on_error=False)
    for option in ("-t", "--build-arg", "-p", "-v", "-e", "--gpus", "--tmpfs", "--cap-drop"):
        parser.add_argument(option, action="append", default=[])
    for option in ("--rm", "--read-only"):
        parser.add_argument(option, action="store_true")
    known, rest = parser.parse_known_args(words)
    if command == "build":
        arguments = {rest.partition("=")[0] for name, rest in found if name == "ARG"}
        assert {given.partition("=")[0] for given in known.build_arg} <= arguments and rest == ["."]
        return
    ports = [rest for name, rest in found if name == "EXPOSE"]
    assert command == "run" and known.rm and [port.split(":")[1] for port in known.p] == ports
    assert {place.split(":")[1] for place in known.v} <= {"/model", "/cache"}
    assert {name.partition("=")[0] for name in known.e} <= {"MMER_MODEL", "HF_HUB_OFFLINE"}
    image, *options = rest
    assert image.startswith("mmer")
    space_parser().parse_args(options)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_options_that_exist(command, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    words = shlex.split(command, comments=True)
    if words[0] == "source":
        assert words[1] == ".venv/bin/activate" and ".venv/installed" in (REPOSITORY / "Makefile").read_text()
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    elif "predict" in words:
        options = parse_options(words[words.index("predict") + 1 :])
        assert not options.output or format_of(Path(options.output), options.format)
    elif "train.py" in words or words[:2] == ["mmer", "train"]:
        options = words[words.index("train.py" if "train.py" in words else "train") + 1 :]
        parse((CorpusArguments, StartArguments, ModelArguments, RunArguments), options, "train.py")
    elif "reproduce.py" in words or words[:2] == ["mmer", "reproduce"]:
        (grid, *_, run_arguments) = parse(REPRODUCE_ARGUMENTS, words[2:], "mmer reproduce")
        assert set(grid.only or ()) <= {"table1", "probe", "shared", "contr_mae"}
        assert run_arguments.output_dir.startswith("runs/")
    elif words == ["python", "train_faces.py"]:
        assert "`train_faces.py`" in PAGES["docs/add_a_modality.md"]
    elif words[0] == "python" and words[1].endswith("/onnx_inference.py"):
        assert words[2:] in (["call.wav"], ["call.wav", "--text", "I want my money back."])
    elif words[:2] == ["mmer", "export"]:
        parse((ExportArguments,), words[3:], "mmer export")
    elif words[:2] == ["mmer", "space"]:
        space_parser().parse_args(words[2:])
    elif words[0] == "docker":
        check_docker(words[1], words[2:])
    elif words[:2] == ["pip", "install"]:
        (package,) = words[2:]
        extra = re.fullmatch(r"modeling-mmer\[(\w+)\]", package)[1]
        assert re.search(rf"^{extra} = \[", (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    elif words[:3] == ["mmer", "corpus", "describe"]:
        parse((SourceArguments, DescriptionArguments), words[3:], "mmer corpus describe")
    else:
        assert words[:2] in (["python", "eval.py"], ["mmer", "eval"]) and not words[2].startswith("-")
        parse((CorpusArguments, EvaluationArguments), words[3:], "eval.py")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)]+)\)", PAGES[page]) + re.findall(r'src="([^"]+)"', PAGES[page])
    for link in links:
        if not link.startswith("http"):
            assert (REPOSITORY / page).parent.joinpath(link.partition("#")[0]).exists(), link


def test_the_picture_is_drawn_from_the_config(tmp_path):
    drawn = run("scripts/draw_model.py", str(tmp_path / "model.svg"))
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "model.svg").read_text() == (REPOSITORY / "docs" / "model.svg").read_text()


PACKAGE = REPOSITORY / "modeling_mmer"
ROOMS = [PACKAGE, *(folder for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file())]


def test_every_file_of_the_tree_exists_and_every_module_is_in_it():
    (tree,) = blocks(PAGES["docs/layout.md"], "")
    named = set(re.findall(r"[\w/]+\.(?:py|yaml)|\w+/", tree))
    for name in named - {"yaml"}:
        folders = (*ROOMS, REPOSITORY, REPOSITORY / "docs", REPOSITORY / "benchmarks")
        assert any((folder / name).exists() for folder in folders), name
    every_file_is_named = [room for room in ROOMS if room.name not in ("baselines", "report", "corpora")]
    for module in (file for room in every_file_is_named for file in room.glob("*.py")):
        assert module.name in named | {"__init__.py"}, module.name
