"""What the full objective is better than: a sentence, and the differences with their intervals."""

from collections.abc import Sequence
from functools import cache

from ..model.configuration_mmer import COMBINATIONS
from .cells import CCC, UA_OF_INPUTS, Cell, Group, Section
from .comparison import TASKS, Difference, compare
from .grids import FLOOR, FULL, Grid, System
from .strips import Strip, axis_of
from .tables import ABSENT

TOGETHER = (*COMBINATIONS,)
VERDICTS = {"better": "is better than", "level": "cannot be told apart from", "worse": "is worse than"}


def result(grids: Sequence[Grid]) -> str:
    """One sentence: what the full objective of the first grid is better and worse than, in UA over all combinations
    together, the largest difference first. Of those that it cannot be told apart from, only the floor is named. Empty
    if there is nothing to compare."""
    full = grids[0].system(FULL)
    found: dict[str, list[tuple[System, Difference]]] = {verdict: [] for verdict in VERDICTS}
    for other in others(grids):
        if difference := difference_of(full, other, TOGETHER, "emotion"):
            found[difference.verdict].append((other, difference))
    parts = [
        f"**{VERDICTS[verdict]}** {named(of_verdict, grids, verdict)}"
        for verdict, of_verdict in found.items()
        if of_verdict
    ]
    subject = full and name_of(full, grids)
    return f"In UA over audio, text and both together, {subject} {'; it '.join(parts)}." if parts else ""


def named(compared: Sequence[tuple[System, Difference]], grids: Sequence[Grid], verdict: str) -> str:
    """An enumeration of systems with their differences in points."""
    shown = [pair for pair in compared if verdict != "level" or pair[0].row.name == FLOOR]
    names = [
        f"{name_of(system, grids)} ({signed(100 * difference.value, 1)})"
        for system, difference in sorted(shown, key=lambda pair: -abs(pair[1].value))
    ]
    if rest := len(compared) - len(shown):
        names.append(f"{rest} {'other' if names else 'system'}{'s' * (rest > 1)}")
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def name_of(system: System, grids: Sequence[Grid]) -> str:
    return f"*{system.title}*" + (f" of {system.grid.name}" if len(grids) > 1 else "")


def others(grids: Sequence[Grid]) -> list[System]:
    """The systems of Table 1 that have seeds in common with the full objective of the first grid."""
    full = grids[0].system(FULL)
    systems = [system for grid in grids for system in grid.systems("table1")]
    return [system for system in systems if full and system != full and common_seeds(full, system)]


def common_seeds(one: System, other: System) -> list[int]:
    return sorted({*one.seeds()} & {*other.seeds()})


@cache
def difference_of(one: System, other: System, combinations: tuple[str, ...], task: str) -> Difference | None:
    return compare(one, other, combinations, task, common_seeds(one, other))


def comparison(grids: Sequence[Grid]) -> list[Section]:
    """The full objective minus each other row of Table 1, with intervals: UA, and CCC if there are any."""
    full, systems = grids[0].system(FULL), others(grids)
    if not systems:
        return []
    text = (
        f"{name_of(full, grids)} minus the row, with the 95 % interval of a paired bootstrap over the test utterances "
        "(2,000 resamples, averaged over the seeds that both have). Bold: the interval excludes zero. A positive value "
        "means that the full objective is better than the row."
    )
    first = f"{full.title} minus"
    ua = {s: [together_cell(full, s), *(single_cell(full, s, c, "emotion") for c in COMBINATIONS)] for s in systems}
    header = [first, "UA, all together", *(f"UA, {column.header}" for column in UA_OF_INPUTS), "seeds"]
    drawn = [cells[0].strip for cells in ua.values() if cells[0].strip]
    axes = {1: axis_of(drawn)} if drawn else {}
    sections = [Section("Better than?", text=text, header=header, groups=in_groups(grids, full, ua), axes=axes)]
    ccc = {s: [single_cell(full, s, c, task) for task in TASKS[1:] for c in COMBINATIONS] for s in systems}
    if any(cell.text != ABSENT for cells in ccc.values() for cell in cells):
        header = [first, *(column.header for column in CCC), "seeds"]
        groups = in_groups(grids, full, ccc)
        sections.append(Section("Better than? CCC", text="As above.", header=header, groups=groups, folded=True))
    return sections


def in_groups(grids: Sequence[Grid], full: System, cells: dict[System, list[Cell]]) -> list[Group]:
    """Rows of cells under the name of their grid, with the number of seeds at the end."""
    groups = []
    for grid in grids:
        rows = [
            [Cell(system.title), *of_system, Cell(str(len(common_seeds(full, system))))]
            for system, of_system in cells.items()
            if system.grid is grid
        ]
        groups.append(Group(grid.name if len(grids) > 1 else "", rows))
    return [group for group in groups if group.rows]


def together_cell(full: System, other: System) -> Cell:
    """The difference in UA over all combinations, with a strip around zero."""
    difference = difference_of(full, other, TOGETHER, "emotion")
    if difference is None:
        return Cell(ABSENT)
    strip = Strip(difference.value, (difference.low, difference.high), {"zero": 0.0})
    return Cell(in_words(difference, "emotion"), strong=difference.verdict != "level", strip=strip)


def single_cell(full: System, other: System, combination: str, task: str) -> Cell:
    difference = difference_of(full, other, (combination,), task)
    if difference is None:
        return Cell(ABSENT)
    link = other.link(other.row.runs[combination])
    return Cell(in_words(difference, task), link, strong=difference.verdict != "level")


def in_words(difference: Difference, task: str) -> str:
    """`+1.9 (+0.2, +3.5)`: points of UA, or CCC."""
    scale, digits = (100, 1) if task == "emotion" else (1, 2)
    value, low, high = (signed(scale * x, digits) for x in (difference.value, difference.low, difference.high))
    return f"{value} ({low}, {high})"


def signed(value: float, digits: int) -> str:
    """With a plus or a minus sign, which is as wide."""
    return f"{value:+.{digits}f}".replace("-", "−")
