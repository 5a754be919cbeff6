"""Prints pip constraints (`name==version` lines) for the lowest versions that pyproject.toml allows, with the test
extra.

It runs before anything is installed, so it needs only Python.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest_versions(project: dict) -> list[str]:
    """The constraints, in the order of pyproject.toml.

    Raises:
        ValueError: a requirement has no lower bound.
    """
    found = {}
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        name, version = re.match(r"([\w.-]+)(?:.*?>=\s*([\w.]+))?", requirement).groups()
        if version is None:
            raise ValueError(
                f"{requirement} has no lowest version: give it the lowest that `make test-oldest` passes with."
            )
        found.setdefault(name, f"{name}=={version}")
    return [*found.values()]


if __name__ == "__main__":
    try:
        print(*lowest_versions(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]), sep="\n")
    except ValueError as error:
        sys.exit(str(error))
