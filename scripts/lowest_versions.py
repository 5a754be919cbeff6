"""Prints pip's constraints for the lowest versions that pyproject.toml allows: `name==version`, a line for each.

What the tests need is among them. It runs before anything is installed, so it needs nothing but Python.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lowest_versions(project: dict) -> list[str]:
    """The constraints, in pyproject's order.

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
