"""The paper's tables from measured runs, and its own figures.

Each number links to the summary of its run (`runs/NAME.json`), which lists the record of each seed. Where several grids
are shown, each has a group of rows in every table.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, starmap, zip_longest

from . import published
from .better import result
from .cells import CCC, COLLAPSE, RETRIEVAL, UA, UA_OF_INPUTS, Cell, Column, Group, Section, plain
from .comparison import interval
from .grids import FLOOR, FULL, Grid, System
from .records import Figure
from .strips import LEGEND, Strip, Strips, axis_of
from .tables import ABSENT

TABLE_1, TABLE_3 = [*UA, *CCC], [*RETRIEVAL, *UA]
CHOICES = [*UA, *(column for column in CCC if column.combination == UA[-1].combination), *RETRIEVAL]
PUBLISHED = {
    "table1": ("Model", published.TABLE_1, TABLE_1),
    "table2": ("MAE target", published.TABLE_2, COLLAPSE),
    "table3": ("", published.TABLE_3, TABLE_3),
}
PAPER = f"figures of the paper, on {published.CORPUS} with Whisper medium and RoBERTa large"
Rows = list[tuple[System, list[Cell]]]


def table_1(grids: Sequence[Grid], strips: Strips, picture: str | None) -> list[Section]:
    """UA with what it costs, and CCC."""
    body = figure_rows(grids, "table1", UA_OF_INPUTS)
    sections = [ua_table(grids, body, strips, picture)] if body else []
    text = (
        "CCC of valence, arousal and dominance from audio (a), text (t) and both. The best value of a column is bold."
    )
    ccc = figures_section(
        "Table 1: concordance of the dimensions", text, "Model", CCC, grids, figure_rows(grids, "table1", CCC)
    )
    return sections + [ccc] * (ccc is not None)


def ua_table(grids: Sequence[Grid], body: Rows, strips: Strips, picture: str | None) -> Section:
    means = {system: mean_ua(system) for system, _ in body}
    highest = max((mean for mean in means.values() if mean is not None), default=None)
    rows = []
    for system, (title, *cells) in body:
        cells = [replace(cell, strip=strip) for cell, strip in zip(cells, strips[system], strict=True)]
        mean, count = means[system], system.grid.records.parameters(system.runs)
        shown = ABSENT if mean is None else f"{100 * mean:.1f}"
        more = [ABSENT if count is None else f"{count:,}", str(system.row.models), seeds_of(system)]
        rows.append((system, [title, *cells, Cell(shown, strong=mean == highest is not None), *map(Cell, more)]))
    text = (
        "UA in %: mean ± standard deviation over seeds, on the test split. The best value of a "
        "column is bold. Parameters: those trained in all models of a row. Models: how many a deployment for all "
        "combinations needs."
    )
    header = ["Model", *(column.header for column in UA_OF_INPUTS), "mean", "parameters", "models", "seeds"]
    axes = dict.fromkeys(range(1, 1 + len(UA)), axis_of(chain(*strips.values())))
    return Section(
        "Table 1: unweighted accuracy", result(grids), text, header, grouped(grids, rows), axes, LEGEND, picture
    )


def mean_ua(system: System) -> float | None:
    """UA averaged over the combinations; None if one was not measured."""
    figures = [system.figure(column.figure, column.combination) for column in UA]
    return sum(figure.mean for figure in figures) / len(figures) if all(figures) else None


def ua_strips(grids: Sequence[Grid]) -> Strips:
    """The UA of the systems of Table 1 that have any."""
    strips = {system: strips_of(system) for grid in grids for system in grid.systems("table1")}
    return {system: of_system for system, of_system in strips.items() if any(of_system)}


def strips_of(system: System) -> list[Strip | None]:
    """The UA of a system from each combination, with its interval, the UA of the floor of its grid, and chance."""
    floor = system.grid.system(FLOOR)
    strips = []
    for column in UA:
        figure = system.figure(column.figure, column.combination)
        if figure is None:
            strips.append(None)
            continue
        around = interval(system, column.combination, "emotion")
        of_floor = floor and floor.figure(column.figure, column.combination)
        lines = {"chance": system.grid.chance(), "floor": of_floor and of_floor.mean}
        strips.append(
            Strip(
                figure.mean,
                around and (figure.mean + around[0], figure.mean + around[1]),
                {name: value for name, value in lines.items() if value is not None},
            )
        )
    return strips


def table_2(grids: Sequence[Grid]) -> Section | None:
    text = (
        "The largest pair-wise Euclidean distance between the embeddings of an utterance at the input and output of "
        f"the shared transformer, averaged over {utterances_of(grids)} random test utterances. Small values indicate "
        "collapse."
    )
    body = figure_rows(grids, "table2", COLLAPSE, best=False)
    return figures_section("Table 2: target of the masked autoencoder", text, "MAE target", COLLAPSE, grids, body)


def utterances_of(grids: Sequence[Grid]) -> str:
    """The number of utterances that distances are averaged over, or its range over runs."""
    collapses = [
        record.splits["test"].get("collapse", {})
        for grid in grids
        for row in grid.tables["table2"]
        for record in grid.records.counted(row.runs["audio"])
    ]
    counts = {distances["n"] for collapse in collapses for distances in collapse.values()}
    return " to ".join(str(n) for n in sorted({min(counts), max(counts)})) if counts else "0"


def table_3(grids: Sequence[Grid]) -> Section | None:
    text = "Retrieval among N = 32 (chance: 3.1 %) and UA. All rows but the first use the contrastive term."
    body = figure_rows(grids, "table3", TABLE_3)
    return figures_section("Table 3: positions and g", text, "", TABLE_3, grids, body)


def choices(grids: Sequence[Grid]) -> Section | None:
    """The rows of choices for which an alternative was trained."""

    def choice(system: System) -> tuple[str, str]:
        return system.grid.name, system.title.partition(":")[0]

    systems = [system for grid in grids for system in grid.systems("choices")]
    tried = {choice(s) for s in systems if s.row.name != FULL and s.grid.records.of(s.row.name)}
    body = [row for row in figure_rows(grids, "choices", CHOICES, best=False) if choice(row[0]) in tried]
    text = "The full objective with one choice changed at a time."
    return figures_section("Choices around the full objective", text, "", CHOICES, grids, body)


def figures_section(
    title: str, text: str, first: str, columns: Sequence[Column], grids: Sequence[Grid], body: Rows
) -> Section | None:
    """A section of rows of figures, without the columns that no row has; None if there are no rows."""
    if not body:
        return None
    present = [any(cells[1 + i].text != ABSENT for _, cells in body) for i in range(len(columns))]
    header = [first, *(column.header for column, there in zip(columns, present, strict=True) if there)]
    rows = [
        (system, [title, *(cell for cell, there in zip(cells, present, strict=True) if there)])
        for system, (title, *cells) in body
    ]
    return Section(title, text=text, header=header, groups=grouped(grids, rows))


def grouped(grids: Sequence[Grid], rows: Rows) -> list[Group]:
    """The rows of each grid under its name, if there are several."""
    groups = [(grid.name, [cells for system, cells in rows if system.grid is grid]) for grid in grids]
    return [Group(name if len(grids) > 1 else "", cells) for name, cells in groups if cells]


def figure_rows(grids: Sequence[Grid], table: str, columns: Sequence[Column], best: bool = True) -> Rows:
    """The rows of a table that have any figure, each with its cells: the title, and one cell per column."""
    systems = [system for grid in grids for system in grid.systems(table)]
    figures = {system: [system.figure(column.figure, column.combination) for column in columns] for system in systems}
    highest = [highest_of(of_column) for of_column in zip(*figures.values(), strict=True)]
    rows = []
    for system, of_system in figures.items():
        if any(of_system):
            cells = [
                figure_cell(system, table, column, figure, best and figure is not None and figure.mean == high, grids)
                for figure, column, high in zip(of_system, columns, highest, strict=True)
            ]
            is_ours = table == "table1" and system.row.name == FULL and system.grid is grids[0]
            rows.append((system, [Cell(system.title, strong=is_ours), *cells]))
    return rows


def highest_of(figures: Sequence[Figure | None]) -> float | None:
    """The highest mean of a column; None if all are equal."""
    means = {figure.mean for figure in figures if figure}
    return max(means) if len(means) > 1 else None


def figure_cell(
    system: System, table: str, column: Column, figure: Figure | None, best: bool, grids: Sequence[Grid]
) -> Cell:
    """A figure and, in the rows of the paper's preset, what the paper has."""
    beside = next((grid for grid in grids if grid.name == "paper"), grids[0])
    paper = published_figure(table, system.row.name, column) if system.grid is beside else None
    if figure is None:
        return Cell(ABSENT, published=paper)
    shown = column.shown(figure.mean, figure.mean)
    if figure.deviation is not None:
        shown += f" ± {column.shown(figure.deviation, figure.mean)}"
    return Cell(shown, system.link(figure.run), best, paper)


def published_figure(table: str, row: str, column: Column) -> str | None:
    _, figures, columns = PUBLISHED.get(table, ("", {}, []))
    values = dict(zip((of.figure for of in columns), figures.get(row, ()), strict=False))
    value = values.get(column.figure)
    return None if value is None else published_text(value, column)


def published_text(value: float | None, column: Column) -> str:
    return ABSENT if value is None else f"{value:{column.published}}"


def seeds_of(system: System) -> str:
    """The number of seeds, the lowest if the runs of a row differ, and the seeds that are left out."""
    records = system.grid.records
    fewest = min((records.seeds(run) for run in system.runs), key=len)
    left_out = sorted({seed for run in system.runs for seed in records.left_out(run)})
    return f"{len(fewest)}" + (f", without {', '.join(map(str, left_out))}" if left_out else "")


def published_tables(grids: Sequence[Grid]) -> list[Section]:
    """The paper's own figures, in the same layout. The page prints them small beside those that were measured."""
    text = f"{PAPER[0].upper() + PAPER[1:]}. Not measured here."
    sections = []
    for name, (first, figures, columns) in PUBLISHED.items():
        body = [
            [row.title, *starmap(published_text, zip_longest(figures[row.name], columns))]
            for row in grids[0].tables[name]
            if row.name in figures
        ]
        table = plain([first, *(column.header for column in columns)], body)
        sections.append(Section(f"Published: Table {name[-1]}", text=text, **table, on_page=False))
    return sections
