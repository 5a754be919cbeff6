"""Imports between the folders of the package go one way, and the files of a checkpoint import no others."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "modeling_mmer"
# From the top of the house down: a room imports those below it, and nothing above.
ROOMS = (
    *("commands", "space", "exporting", "reproduction", "baselines", "training", "report", "plots", "scoring"),
    *("features", "evaluation"),
    *("corpora", "lettering", "files", "precision", "redaction", "registration", "model"),
)
TRAVELS_WITH = {"torch", "transformers", "numpy", "huggingface_hub"}
DECODERS = {"soundfile", "soxr"}  # of waveforms and windows, where they read files


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a tree but those for type checkers alone."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"):
            yield from running(child)


def imports(file: Path) -> set[tuple[str, str]]:
    """(package, module) of everything that a file imports when it runs: our own modules by their dotted path below the
    package, which has the name ""."""
    package = file.relative_to(PACKAGE).parent.parts
    found = set()
    for node in running(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(alias.name.partition(".")[0], "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module.partition(".")[0], ""))
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - (node.level - 1)]
            base = ".".join([*above, *([node.module] if node.module else [])])
            named = {".".join(filter(None, (base, alias.name))) for alias in node.names}
            found |= {("", name if name in MODULES else base) for name in named}
    return found


def own(file: Path) -> set[str]:
    return {module for package, module in imports(file) if not package}


def room_of(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_is_in_a_room():
    assert {room_of(module) for module in MODULES} == {*ROOMS, "", "__main__"}


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) in ROOMS])
def test_imports_run_downwards(module):
    allowed = {"", *ROOMS[ROOMS.index(room_of(module)) :]}
    assert {room_of(other) for other in own(MODULES[module])} <= allowed


@pytest.mark.parametrize("module", [m for m in MODULES if room_of(m) == "model"])
def test_what_travels_is_flat_and_needs_few_libraries(module):
    assert {room_of(other) for other in own(MODULES[module])} <= {"model"}
    assert MODULES[module].parent == PACKAGE / "model"
    libraries = {package for package, _ in imports(MODULES[module]) if package} - set(sys.stdlib_module_names)
    assert libraries <= TRAVELS_WITH | (DECODERS if module in ("model.waveforms", "model.windows") else set())


def test_corpora_know_no_model():
    """What they share with it is how sound is read, what a hub name is, and what the tasks are called."""
    known = set().union(*(own(MODULES[m]) for m in MODULES if room_of(m) == "corpora"))
    shared = {"model.levels", "model.waveforms", "model.hub_names", "model.tasks"}
    assert {m for m in known if room_of(m) == "model"} <= shared


def test_no_two_modules_import_each_other_in_a_circle():
    reached = {module: own(MODULES[module]) - {"", module} for module in MODULES}
    while True:
        further = {
            m: set().union(others, *(reached[o] for o in others if o in reached)) for m, others in reached.items()
        }
        if further == reached:
            break
        reached = further
    assert [module for module, others in reached.items() if module in others] == []
