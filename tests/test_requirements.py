"""The versions installed by `make test-oldest` and `make test` are allowed by pyproject.toml."""

import importlib.util
import tomllib

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
REQUIREMENTS = {
    requirement.name: requirement.specifier
    for line in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    for requirement in [Requirement(line)]
}


def lowest_versions(project: dict) -> list[str]:
    spec = importlib.util.spec_from_file_location("lowest_versions", REPOSITORY / "scripts/lowest_versions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.lowest_versions(project)


def test_each_is_the_lowest_that_is_allowed():
    lowest = dict(line.split("==") for line in lowest_versions(PROJECT))
    assert lowest.keys() == REQUIREMENTS.keys() and {"torch", "transformers", "pytest"} < lowest.keys()
    for name, version in lowest.items():
        assert REQUIREMENTS[name].contains(version) and f">={version}" in str(REQUIREMENTS[name])


def test_a_requirement_without_a_lowest_version_is_refused():
    project = {"dependencies": ["a>=1.5,<2", "b[c] >= 3"], "optional-dependencies": {"test": ["a>=1.5"]}}
    assert lowest_versions(project) == ["a==1.5", "b==3"]
    project["dependencies"].append("numpy")
    with pytest.raises(ValueError, match="numpy has no lowest version"):
        lowest_versions(project)


def test_the_tested_versions_are_allowed_and_cover_all_requirements():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    tested = dict(line.lower().replace("_", "-").split("==") for line in lines if not line.startswith("#"))
    for name, specifier in REQUIREMENTS.items():
        assert specifier.contains(tested[name]), name
