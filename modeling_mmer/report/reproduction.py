"""The report of `mmer reproduce`: the paper's tables from measured runs, as Markdown and HTML.

Each number links to the summary of its run (`runs/NAME.json`), which lists the record of each seed. The paper's own
figures are in separate tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, starmap, zip_longest
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader

from ..files import write_text
from ..model.configuration_mmer import COMBINATIONS, MODALITIES
from ..model.tasks import DIMENSIONS
from . import published
from .comparison import TASKS, compare
from .records import Figure, Records
from .reproduction_plots import plot_curves, plot_layer_weights, plot_similarities, plot_ua
from .tables import ABSENT, markdown_item, markdown_table

Unit = Literal["percent", "decimal", "distance"]


@dataclass(frozen=True)
class Column:
    """A column of figures.

    Args:
        figure: its flat name in a record, such as `audio_ua`.
        header: the header of the column.
        unit: of its values.
        combination: the combination whose run of a row has the figure.
        published: format specification of the paper's own values.
    """

    figure: str
    header: str
    unit: Unit = "percent"
    combination: str = "audio"
    published: str = ".1f"

    def shown(self, value: float, like: float) -> str:
        """A value with the number of digits of `like`."""
        if self.unit == "percent":
            return f"{100 * value:.1f}"
        return f"{value:.3f}" if self.unit == "decimal" else f"{value:.1f}" if abs(like) >= 1 else f"{value:.2g}"


INPUTS = {name: " + ".join(m[0] for m in modalities) for name, modalities in COMBINATIONS.items()}
UA = [Column(f"{c}_ua", f"UA % {i}", combination=c) for c, i in INPUTS.items()]
CCC = [
    Column(f"{c}_{dimension}_ccc", f"{dimension[:3].capitalize()}. {i}", "decimal", c, ".3f")
    for dimension in DIMENSIONS
    for c, i in INPUTS.items()
]
RETRIEVAL = [Column(f"retrieval_{m}_to_{other}", f"Retr. {m[0]} %") for m, other in permutations(MODALITIES, 2)]
TABLE_1 = [*UA, *CCC]
TABLE_2 = [
    Column(f"collapse_{m}_{place}", f"{m[0]} {place}", "distance", published="#.2g")
    for m in MODALITIES
    for place in ("input", "output")
]
TABLE_3 = [*RETRIEVAL, *UA]
FULLEST = [*COMBINATIONS][-1]
CHOICES = [*UA, *(column for column in CCC if column.combination == FULLEST), *RETRIEVAL]
COMPARED = "contr_mae"  # the row that the others are compared with


@dataclass(frozen=True)
class Cell:
    """A cell: its text, its link, and whether it is printed in bold."""

    text: str
    link: str | None = None
    best: bool = False

    def __str__(self) -> str:  # Markdown
        text = f"**{self.text}**" if self.best else self.text
        return f"[{text}]({self.link})" if self.link else text


@dataclass(frozen=True)
class Section:
    """A section of the report: title, text, and a table or a picture."""

    title: str
    text: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    picture: str | None = None


def write_reproduction(folder: Path, tables: Mapping[str, Sequence], corpus: str) -> None:
    """Write `README.md`, `index.html`, the plots and the summaries of the runs to a folder.

    Args:
        folder: the output folder of `mmer reproduce`.
        tables: `table1`, `table2`, `table3`, `choices` → their rows (`systems.Row`).
        corpus: its name.
    """
    records = Records(folder)
    records.write_summaries()
    sections = [
        caveats(records),
        table_1(records, tables["table1"]),
        comparison(records, tables["table1"]),
        table_2(records, tables["table2"]),
        table_3(records, tables["table3"]),
        choices(records, tables["choices"]),
        left_out(records),
        *pictures(folder, records, tables),
        *published_tables(tables),
        costs(records),
    ]
    sections = [section for section in sections if section is not None]
    title = f"The paper's tables on {corpus}"
    write_text(folder / "README.md", markdown(title, sections))
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    page = templates.get_template("reproduction.html").render(title=title, sections=sections)
    write_text(folder / "index.html", page)


def markdown(title: str, sections: Sequence[Section]) -> str:
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.title}", section.text]
        parts.append(markdown_table(section.header, section.rows) if section.rows else "")
        parts.append(f"![{section.title}]({section.picture})" if section.picture else "")
    return "\n\n".join(part for part in parts if part) + "\n"


def headers(columns: Sequence[Column]) -> list[str]:
    return [column.header for column in columns]


def caveats(records: Records) -> Section | None:
    """What changes the meaning of the figures."""
    found = dict.fromkeys(caveat for record in records.all for caveat in record.caveats)
    return Section("Caveats", "\n".join(map(markdown_item, found))) if found else None


def table_1(records: Records, rows: Sequence) -> Section | None:
    body = figure_rows(records, rows, TABLE_1)
    if not body:
        return None
    for row, cells in body:
        runs = list(dict.fromkeys(row.runs.values()))
        count = records.parameters(runs)
        cells += [ABSENT if count is None else f"{count:,}", row.models, seeds_of(records, runs)]
    text = (
        "Mean ± standard deviation over seeds, on the test split. The best value of a column is bold. Parameters: "
        "those trained in all models of a row. Models: how many a deployment for all combinations needs."
    )
    header = ["Model", *headers(TABLE_1), "parameters", "models", "seeds"]
    return Section("Table 1: systems", text, header, [cells for _, cells in body])


def table_2(records: Records, rows: Sequence) -> Section | None:
    text = (
        "The largest pair-wise Euclidean distance between the embeddings of an utterance at the input and output of "
        f"the shared transformer, averaged over {utterances_of(records, rows)} random test utterances. Small values "
        "indicate collapse."
    )
    body = figure_rows(records, rows, TABLE_2, best=False)
    return figures_section("Table 2: target of the masked autoencoder", text, "MAE target", TABLE_2, body)


def utterances_of(records: Records, rows: Sequence) -> str:
    """The number of utterances that distances are averaged over, or its range over runs."""
    collapses = [
        record.splits["test"].get("collapse", {}) for row in rows for record in records.counted(row.runs["audio"])
    ]
    counts = {distances["n"] for collapse in collapses for distances in collapse.values()}
    return " to ".join(str(n) for n in sorted({min(counts), max(counts)})) if counts else "0"


def table_3(records: Records, rows: Sequence) -> Section | None:
    text = "Retrieval among N = 32 (chance: 3.1 %) and UA. All rows but the first use the contrastive term."
    return figures_section("Table 3: positions and g", text, "", TABLE_3, figure_rows(records, rows, TABLE_3))


def choices(records: Records, rows: Sequence) -> Section | None:
    """The rows of choices for which an alternative was trained."""
    tried = {row.title.partition(":")[0] for row in rows if row.name != COMPARED and records.of(row.name)}
    rows = [row for row in rows if row.title.partition(":")[0] in tried]
    text = "The full objective with one choice changed at a time."
    body = figure_rows(records, rows, CHOICES, best=False)
    return figures_section("Choices around the full objective", text, "", CHOICES, body)


def figures_section(
    title: str, text: str, first: str, columns: Sequence[Column], body: Sequence[tuple[Any, list[Any]]]
) -> Section | None:
    """A section of rows of figures; None if there are none."""
    return Section(title, text, [first, *headers(columns)], [cells for _, cells in body]) if body else None


def figure_rows(
    records: Records, rows: Sequence, columns: Sequence[Column], best: bool = True
) -> list[tuple[Any, list[Any]]]:
    """The rows that have any figure, each with its cells: the title, and one cell per column."""
    figures = [[records.figure(row.runs[column.combination], column.figure) for column in columns] for row in rows]
    highest = [
        max((figure.mean for figure in of_column if figure), default=None) for of_column in zip(*figures, strict=True)
    ]
    return [
        (
            row,
            [
                row.title,
                *(
                    figure_cell(figure, column, best and figure is not None and figure.mean == high)
                    for figure, column, high in zip(of_row, columns, highest, strict=True)
                ),
            ],
        )
        for row, of_row in zip(rows, figures, strict=True)
        if any(of_row)
    ]


def figure_cell(figure: Figure | None, column: Column, best: bool) -> Cell:
    if figure is None:
        return Cell(ABSENT)
    shown = column.shown(figure.mean, figure.mean)
    if figure.deviation is not None:
        shown += f" ± {column.shown(figure.deviation, figure.mean)}"
    return Cell(shown, f"runs/{figure.run}.json", best)


def seeds_of(records: Records, runs: Sequence[str]) -> str:
    """The number of seeds, the lowest if the runs of a row differ, and the seeds that are left out."""
    fewest = min((records.seeds(run) for run in runs), key=len)
    left_out = sorted({seed for run in runs for seed in records.left_out(run)})
    return f"{len(fewest)}" + (f", without {', '.join(map(str, left_out))}" if left_out else "")


def left_out(records: Records) -> Section | None:
    """The seeds that are left out of all figures, and why."""
    body = []
    for run in dict.fromkeys(record.run for record in records.all):
        failed = {(r.seed, r.fold): r for r in records.of(run) if not r.measured}
        for seed in records.left_out(run):
            for fold in records.missing_folds(run, seed):
                record = failed.get((seed, fold))
                reason = "no record" if record is None else Cell(divergence(record.failed), str(record.path))
                body.append([run, seed, ABSENT if fold is None else fold, reason])
    text = (
        "These runs have no figures. Their seeds, with all folds, are left out of the means, deviations and intervals "
        "above."
    )
    return Section("Not counted", text, ["run", "seed", "fold", ""], body) if body else None


def divergence(failed: str) -> str:
    """The beginning of a message of divergence: what was not finite, and at which step."""
    return failed.partition(": training has diverged")[0] + ": diverged"


def comparison(records: Records, rows: Sequence) -> Section | None:
    """The full objective compared with each other row: the difference and its interval."""
    full = next((row for row in rows if row.name == COMPARED), None)
    if full is None or not records.of(COMPARED):
        return None
    body = []
    for row in rows:
        seeds = sorted(set.intersection(*(set(records.seeds(run)) for run in (COMPARED, *row.runs.values()))))
        if row is full or not seeds:
            continue
        cells = [
            difference_cell(
                compare(records, full.runs, row.runs, combination, task, seeds), task, row.runs[combination]
            )
            for task in TASKS
            for combination in COMBINATIONS
        ]
        body.append([row.title, *cells, len(seeds)])
    text = (
        f"{full.title} minus the row, with the 95 % interval of a paired bootstrap over the test utterances (2,000 "
        "resamples, averaged over the seeds that both have). Bold: the interval excludes zero. A positive value means "
        "that the full objective is better than the row."
    )
    header = [f"{full.title} minus", *headers(TABLE_1), "seeds"]
    return Section("Better than?", text, header, body) if body else None


def difference_cell(difference: tuple[float, float, float] | None, task: str, run: str) -> Cell:
    if difference is None:
        return Cell(ABSENT)
    value, low, high = (100 * d for d in difference) if task == "emotion" else difference
    digits = 1 if task == "emotion" else 2
    text = f"{value:+.{digits}f} ({low:+.{digits}f}, {high:+.{digits}f})"
    return Cell(text, f"runs/{run}.json", best=low > 0 or high < 0)


def pictures(folder: Path, records: Records, tables: Mapping[str, Sequence]) -> list[Section]:
    contrasted = [row for row in tables["table1"] if row.name in ("contr", "contr_mae", "standardized")]
    drawn = {
        "ua.png": ("UA of each row", plot_ua, tables["table1"]),
        "layer_weights.png": ("Layer mix (Eq. 1) after training", plot_layer_weights, tables["table1"]),
        "similarities.png": ("One retrieval group: audio against text", plot_similarities, contrasted),
        "training_curves.png": ("Training curves", plot_curves, tables["table1"]),
    }
    return [
        Section(title, picture=name)
        for name, (title, plot, rows) in drawn.items()
        if plot(folder / name, records, rows)
    ]


def published_tables(tables: Mapping[str, Sequence]) -> list[Section]:
    """The paper's own figures, in the same layout."""
    text = f"Figures of the paper, on {published.CORPUS} with Whisper medium and RoBERTa large. Not measured here."
    of_tables = (
        ("table1", "Model", published.TABLE_1, TABLE_1),
        ("table2", "MAE target", published.TABLE_2, TABLE_2),
        ("table3", "", published.TABLE_3, TABLE_3),
    )
    sections = []
    for name, first, figures, columns in of_tables:
        body = [
            [row.title, *starmap(published_cell, zip_longest(figures[row.name], columns))]
            for row in tables[name]
            if row.name in figures
        ]
        sections.append(Section(f"Published: Table {name[-1]}", text, [first, *headers(columns)], body))
    return sections


def published_cell(value: float | None, column: Column) -> str:
    return ABSENT if value is None else f"{value:{column.published}}"


def costs(records: Records) -> Section | None:
    """The time that the runs took, and their records."""
    if not records.all:
        return None
    machines = {(*record.machine["devices"], record.machine["threads"]) for record in records.all}
    kinds = ", ".join(sorted(f"{' and '.join(devices)} ({threads} threads)" for *devices, threads in machines))
    commands = "\n".join(f"    {command}" for command in dict.fromkeys(record.command for record in records.all))
    text = (
        f"{len(records.all)} runs took {records.seconds() / 3600:.1f} h in total on {kinds}, with cached encoder "
        f"states. Commands:\n\n{commands}"
    )
    body = [
        [
            record.run,
            record.seed,
            ABSENT if record.fold is None else record.fold,
            ABSENT if record.epochs is None else f"{record.epochs:.0f}",
            f"{sum(record.seconds.values()):.0f}",
            f"{record.trainable_parameters:,}",
            Cell("record" if record.measured else "diverged", str(record.path)),
        ]
        for record in records.all
    ]
    header = ["run", "seed", "fold", "epochs", "seconds", "trained parameters", ""]
    return Section("Runs", text, header, body)
