"""The Dockerfile, read: it copies what there is and what the package needs, and starts and checks `mmer space`.

`tests/space/test_space_container.py` builds and runs it.
"""

import fnmatch
import json
import re
import tomllib
from pathlib import Path

from conftest import REPOSITORY
from dockerfiles import DOCKERFILE, instructions

from modeling_mmer.commands.space import build_parser

TEXT = DOCKERFILE.read_text(encoding="utf-8")
FOUND = instructions(TEXT)


def of(name: str) -> list[str]:
    return [rest for found, rest in FOUND if found == name]


def copied() -> list[str]:
    default = dict(argument.split("=", 1) for argument in of("ARG"))
    words = [word for rest in of("COPY") for word in rest.split()[:-1] if not word.startswith("--")]
    return [re.sub(r"\$\{(\w+)\}", lambda name: default[name[1]], word) for word in words]


def test_lines_are_joined_and_comments_are_none_of_its_instructions():
    assert instructions("# a\nRUN a \\\n    # not run\n    && b\n\nUSER c\n") == [("RUN", "a && b"), ("USER", "c")]


def test_what_it_copies_exists_and_is_sent_to_the_builder():
    """The last line of .dockerignore that matches decides."""
    lines = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    for source in [*copied(), "runs/mine"]:
        assert source.startswith("runs/") or (REPOSITORY / source).exists(), source
        matching = [line for line in lines if fnmatch.fnmatch(source.split("/")[0], line.lstrip("!"))]
        assert matching[-1].startswith("!"), source


def test_it_copies_all_that_installing_the_package_reads():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    folders = {"modeling_mmer", *project["tool"]["setuptools"]["package-dir"].values()}
    files = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"}
    there = copied()
    assert all(any(Path(need).is_relative_to(source) for source in there) for need in files | folders)


def test_it_names_no_host():
    """Packages come by name from whatever index the builder uses."""
    assert re.findall(r"\w+://[^\s/:']+", TEXT) == ["http://127.0.0.1"]
    assert of("FROM") == ["${BASE}"] and "BASE=python:3.11-slim" in of("ARG")


def test_it_serves_as_a_user_without_rights():
    names = [name for name, _ in FOUND]
    assert of("USER") == ["mmer"] and names.index("USER") < names.index("ENTRYPOINT")
    command, *options = json.loads(of("ENTRYPOINT")[0])[1:]  # a list: signals reach the server, and no shell
    started = build_parser().parse_args(options)
    assert command == "space" and started.host == "0.0.0.0" and of("EXPOSE") == [str(started.port)]
    program = json.loads(of("HEALTHCHECK")[0].partition("CMD")[2])[-1]
    assert f"http://127.0.0.1:{started.port}/" in program and compile(program, "health", "exec")
