"""The report of `mmer reproduce`: the paper's tables from measured runs, as Markdown and as one HTML page.

Every number links to the summary of its run (`runs/NAME.json`), which names the record of each seed. Published figures
stand in tables of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from ..files import write_text
from . import published
from .comparison import TASKS, compare
from .records import Figure, Records
from .reproduction_plots import plot_curves, plot_layer_weights, plot_similarities, plot_ua
from .tables import ABSENT, COMBINATIONS, DIMENSIONS, markdown_item, markdown_table

INPUTS = ("a", "t", "a + t")
TABLE_1_COLUMNS = [(c, "ua") for c in COMBINATIONS] + [(c, f"{d}_ccc") for d in DIMENSIONS for c in COMBINATIONS]
TABLE_1_HEADER = [f"{name} {i}" for name in ("UA %", "Val.", "Aro.", "Dom.") for i in INPUTS]
TABLE_2_FIGURES = [f"collapse_{m}_{place}" for m in ("audio", "text") for place in ("input", "output")]
TABLE_2_HEADER = ["a input", "a output", "t input", "t output"]
TABLE_3_FIGURES = ["retrieval_audio_to_text", "retrieval_text_to_audio", *(f"{c}_ua" for c in COMBINATIONS)]
TABLE_3_HEADER = ["Retr. a %", "Retr. t %", *(f"UA % {i}" for i in INPUTS)]
CHOICES_FIGURES = [
    *(f"{c}_ua" for c in COMBINATIONS),
    *(f"audio_text_{d}_ccc" for d in DIMENSIONS),
    *TABLE_3_FIGURES[:2],
]
CHOICES_HEADER = [*TABLE_1_HEADER[:3], "Val. a + t", "Aro. a + t", "Dom. a + t", "Retr. a %", "Retr. t %"]
COMPARED = "contr_mae"  # the row that the others are held against


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, where it links to, and whether it is the best of its column."""

    text: str
    link: str | None = None
    best: bool = False

    def __str__(self) -> str:  # Markdown
        text = f"**{self.text}**" if self.best else self.text
        return f"[{text}]({self.link})" if self.link else text


@dataclass(frozen=True)
class Section:
    """A title, sentences, and a table or a picture."""

    title: str
    text: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    picture: str | None = None


def write_reproduction(folder: Path, tables: Mapping[str, Sequence], corpus: str, caveats: Sequence[str] = ()) -> None:
    """Write `README.md`, `index.html`, the pictures and the summaries of the runs into a folder.

    Args:
        folder: where `mmer reproduce` left its runs.
        tables: `table1`, `table2`, `table3`, `choices` → their rows (`systems.Row`).
        corpus: its name.
        caveats: what changes the meaning of figures measured on it.
    """
    records = Records(folder)
    records.write_summaries()
    sections = [
        caveats_section(caveats),
        table_1(records, tables["table1"]),
        comparison(records, tables["table1"]),
        table_2(records, tables["table2"]),
        table_3(records, tables["table3"]),
        choices(records, tables["choices"]),
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


# -------------------------------------------------------------------------------------------------------------- tables
def caveats_section(caveats: Sequence[str]) -> Section | None:
    """What changes the meaning of the figures below it."""
    return Section("Caveats", "\n".join(map(markdown_item, caveats))) if caveats else None


def table_1(records: Records, rows: Sequence) -> Section | None:
    names = [f"{combination}_{name}" for combination, name in TABLE_1_COLUMNS]
    inputs = [combination for combination, _ in TABLE_1_COLUMNS]
    figures = [
        [records.figure(row.runs[combination], name) for combination, name in zip(inputs, names, strict=True)]
        for row in rows
    ]
    body = figure_rows(rows, figures, names)
    if not body:
        return None
    shown = [row for row, of_row in zip(rows, figures, strict=True) if any(of_row)]
    for row, cells in zip(shown, body, strict=True):
        runs = list(row.runs.values())
        count = records.parameters(runs)
        cells += [ABSENT if count is None else f"{count:,}", row.models, seeds_of(records, runs)]
    text = (
        "Mean ± standard deviation over seeds, on the test split; the best of a column is bold. Parameters are those "
        "that are trained, of all models of a row together; models, those that a deployment for all combinations needs."
    )
    header = ["Model", *TABLE_1_HEADER, "parameters", "models", "seeds"]
    return Section("Table 1: systems", text, header, body)


def table_2(records: Records, rows: Sequence) -> Section | None:
    figures = [[records.figure(row.runs["audio"], name) for name in TABLE_2_FIGURES] for row in rows]
    body = figure_rows(rows, figures, TABLE_2_FIGURES, best=False)
    text = (
        "The largest pair-wise Euclidean distance among an utterance's embeddings at the shared transformer's input "
        "and output, averaged over 300 random test utterances. Small values tell of collapse."
    )
    return (
        Section("Table 2: target of the masked autoencoder", text, ["MAE target", *TABLE_2_HEADER], body)
        if body
        else None
    )


def table_3(records: Records, rows: Sequence) -> Section | None:
    figures = [[records.figure(row.runs["audio"], name) for name in TABLE_3_FIGURES] for row in rows]
    body = figure_rows(rows, figures, TABLE_3_FIGURES)
    text = "Retrieval among N = 32 (chance: 3.1 %) and UA, all with the contrastive term but the first."
    return Section("Table 3: positions and g", text, ["", *TABLE_3_HEADER], body) if body else None


def choices(records: Records, rows: Sequence) -> Section | None:
    """The rows of which some value other than the options' own was tried."""
    tried = {row.title.partition(":")[0] for row in rows if row.name != COMPARED and records.of(row.name)}
    rows = [row for row in rows if row.title.partition(":")[0] in tried]
    figures = [[records.figure(row.name, name) for name in CHOICES_FIGURES] for row in rows]
    body = figure_rows(rows, figures, CHOICES_FIGURES, best=False)
    text = "The full objective with one choice changed at a time."
    return Section("Choices around the full objective", text, ["", *CHOICES_HEADER], body) if body else None


def figure_rows(
    rows: Sequence, figures: Sequence[Sequence[Figure | None]], names: Sequence[str], best: bool = True
) -> list[list]:
    """A line for each row of which anything was measured: its title, and a cell for each figure."""
    highest = [max((figure.mean for figure in column if figure), default=None) for column in zip(*figures, strict=True)]
    lines = []
    for row, of_row in zip(rows, figures, strict=True):
        if any(of_row):
            cells = [
                figure_cell(figure, name, best and figure is not None and figure.mean == high)
                for figure, name, high in zip(of_row, names, highest, strict=True)
            ]
            lines.append([row.title, *cells])
    return lines


def figure_cell(figure: Figure | None, name: str, best: bool) -> Cell:
    if figure is None:
        return Cell(ABSENT)
    shown = number(figure.mean, name)
    if figure.deviation is not None:
        shown += f" ± {number(figure.deviation, name, like=figure.mean)}"
    return Cell(shown, f"runs/{figure.run}.json", best)


def number(value: float, name: str, like: float | None = None) -> str:
    """UA and retrieval in percent, CCC and distances as they are, with the digits that suit a value `like` it."""
    if name.endswith("ccc"):
        return f"{value:.3f}"
    if name.startswith("collapse"):
        return f"{value:.1f}" if abs(value if like is None else like) >= 1 else f"{value:.2g}"
    return f"{100 * value:.1f}"


def seeds_of(records: Records, runs: Sequence[str]) -> str:
    """How many seeds; the fewest, where the runs of a row differ."""
    fewest = min((records.seeds(run) for run in dict.fromkeys(runs)), key=len)
    return str(len(fewest))


def comparison(records: Records, rows: Sequence) -> Section | None:
    """The full objective against every other row: the difference, and its interval."""
    mine = next((row for row in rows if row.name == COMPARED), None)
    if mine is None or not records.of(COMPARED):
        return None
    body = []
    for row in rows:
        seeds = sorted(set.intersection(*(set(records.seeds(run)) for run in (COMPARED, *row.runs.values()))))
        if row is mine or not seeds:
            continue
        cells = [
            difference_cell(
                compare(records.folder, mine.runs, row.runs, combination, task, seeds), task, row.runs[combination]
            )
            for task in TASKS
            for combination in COMBINATIONS
        ]
        body.append([row.title, *cells, len(seeds)])
    text = (
        f"{mine.title} minus the row, with the 95 % interval of a paired bootstrap over the test utterances (2,000 "
        "resamples; seeds that both have, averaged). Bold: the interval leaves out zero. A positive figure says that "
        "the full objective is better than the row."
    )
    header = [f"{mine.title} against", *TABLE_1_HEADER, "seeds"]
    return Section("Better than?", text, header, body) if body else None


def difference_cell(difference: tuple[float, float, float] | None, task: str, run: str) -> Cell:
    if difference is None:
        return Cell(ABSENT)
    value, low, high = (100 * d for d in difference) if task == "emotion" else difference
    digits = 1 if task == "emotion" else 2
    text = f"{value:+.{digits}f} ({low:+.{digits}f}, {high:+.{digits}f})"
    return Cell(text, f"runs/{run}.json", best=low > 0 or high < 0)


# ---------------------------------------------------------------------------------------------------------- the others
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
    """The paper's own figures, in its layout."""
    text = f"From the paper, on {published.CORPUS} with Whisper-medium and RoBERTa-large: not measured here."
    of_tables = (
        ("table1", published.TABLE_1, ["Model", *TABLE_1_HEADER], [".1f"] * 3 + [".3f"] * 9),
        ("table2", published.TABLE_2, ["MAE target", *TABLE_2_HEADER], ["#.2g"] * 4),
        ("table3", published.TABLE_3, ["", *TABLE_3_HEADER], [".1f"] * 5),
    )
    sections = []
    for name, figures, header, formats in of_tables:
        body = [
            [row.title, *(ABSENT if v is None else f"{v:{f}}" for v, f in zip(figures[row.name], formats, strict=True))]
            for row in tables[name]
            if row.name in figures
        ]
        sections.append(Section(f"Published: Table {name[-1]}", text, header, body))
    return sections


def costs(records: Records) -> Section | None:
    """What the runs took, and every record behind the tables."""
    if not records.all:
        return None
    machines = {tuple(record["machine"]["devices"]) + (record["machine"]["threads"],) for record in records.all}
    kinds = ", ".join(sorted(f"{' and '.join(devices)} ({threads} threads)" for *devices, threads in machines))
    commands = "\n".join(f"    {command}" for command in dict.fromkeys(record["command"] for record in records.all))
    text = (
        f"{len(records.all)} runs took {records.seconds() / 3600:.1f} h, added up, on {kinds}, with the states of the "
        f"encoders in a cache. Commands:\n\n{commands}"
    )
    body = [
        [
            record["run"],
            record["seed"],
            ABSENT if record["fold"] is None else record["fold"],
            "–" if record["epochs"] is None else f"{record['epochs']:.0f}",
            f"{sum(record['seconds'].values()):.0f}",
            f"{record['trainable_parameters']:,}",
            Cell(
                "diverged" if "failed" in record else "record",
                f"runs/{record['run']}-seed-{record['seed']}" + fold_suffix(record) + ".json",
            ),
        ]
        for record in records.all
    ]
    header = ["run", "seed", "fold", "epochs", "seconds", "trained parameters", ""]
    return Section("Runs", text, header, body)


def fold_suffix(record: Mapping[str, Any]) -> str:
    return "" if record["fold"] is None else f"-fold-{record['fold']}"
