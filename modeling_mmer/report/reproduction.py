"""The report of `mmer reproduce`: the paper's tables from measured runs, as Markdown and as an HTML page."""

import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from ..files import write_text
from .better import comparison
from .budget import budgets, costs
from .cells import Cell, Section, plain
from .grids import Grid
from .reproduction_plots import plot_affect, plot_curves, plot_layer_weights, plot_similarities, plot_ua
from .reproduction_tables import PAPER, choices, published_tables, table_1, table_2, table_3, ua_strips
from .tables import ABSENT, markdown_item


def write_reproduction(folder: Path, grids: Sequence[Grid], corpus: str) -> None:
    """Write `README.md`, `index.html`, the plots and the summaries of the runs to a folder.

    Args:
        folder: the output folder of `mmer reproduce`.
        grids: what the report shows: the grid of the folder, whose full objective is compared with all other systems,
            and any others beside it.
        corpus: its name.
    """
    for grid in grids:
        grid.records.write_summaries()
    strips = ua_strips(grids)
    sections = [
        caveats(grids),
        *table_1(grids, strips, "ua.png" if plot_ua(folder / "ua.png", strips) else None),
        budgets(grids),
        *comparison(grids),
        table_2(grids),
        table_3(grids),
        choices(grids),
        left_out(grids),
        *pictures(folder, grids),
        *published_tables(grids),
        costs(grids),
    ]
    sections = [section for section in sections if section is not None]
    title = f"The paper's tables on {corpus}"
    said = facts(grids)
    write_text(folder / "README.md", "\n\n".join([f"# {title}", *filter(None, [said]), *map(str, sections)]) + "\n")
    write_text(folder / "index.html", page(title, said, sections))


def facts(grids: Sequence[Grid]) -> str:
    """What all figures are of: utterances and encoders. Empty if no run has told."""
    records = [record for grid in grids for record in grid.records.all if record.settings.get("rows")]
    if not records:
        return ""
    rows, folds = records[0].settings["rows"], grids[0].records.folds
    counts = ", ".join(f"{n:,} {split}" for split, n in rows.items())
    of_folds = "" if folds == {None} else f" in the first of {len(folds)} folds, over which figures are averaged"
    return f"Utterances: {counts}{of_folds}. Frozen encoders: {' and '.join(records[0].encoders)}."


def page(title: str, said: str, sections: Sequence[Section]) -> str:
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    templates.filters["prose"] = prose
    shown = [section for section in sections if section.on_page]
    return templates.get_template("reproduction.html").render(title=title, facts=said, published=PAPER, sections=shown)


def prose(text: str) -> Markup:
    """The little Markdown that texts of sections have, as HTML: `code`, **strong** and *emphasis*."""
    text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text)))
    text = re.sub(r"\*(.+?)\*", r"<em>\1</em>", text)
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", text))


def caveats(grids: Sequence[Grid]) -> Section | None:
    """What changes the meaning of the figures."""
    found = dict.fromkeys(caveat for grid in grids for record in grid.records.all for caveat in record.caveats)
    return Section("Caveats", text="\n".join(map(markdown_item, found))) if found else None


def left_out(grids: Sequence[Grid]) -> Section | None:
    """The seeds that are left out of all figures, and why."""
    body = []
    for grid in grids:
        records = grid.records
        for run in dict.fromkeys(record.run for record in records.all):
            failed = {(r.seed, r.fold): r for r in records.of(run) if not r.measured}
            for seed in records.left_out(run):
                for fold in records.missing_folds(run, seed):
                    record = failed.get((seed, fold))
                    reason = "no record"
                    if record is not None:
                        reason = Cell(divergence(record.failed), f"{grid.prefix}{record.path}")
                    preset = [grid.name] * (len(grids) > 1)
                    body.append([*preset, run, seed, ABSENT if fold is None else fold, reason])
    text = (
        "These runs have no figures. Their seeds, with all folds, are left out of the means, deviations and intervals "
        "above."
    )
    header = [*(["preset"] * (len(grids) > 1)), "run", "seed", "fold", ""]
    return Section("Not counted", text=text, **plain(header, body)) if body else None


def divergence(failed: str) -> str:
    """The beginning of a message of divergence: what was not finite, and at which step."""
    return failed.partition(": training has diverged")[0] + ": diverged"


def pictures(folder: Path, grids: Sequence[Grid]) -> list[Section]:
    """Of the first grid: layer mix, one retrieval group and training curves, as far as they can be drawn."""
    records, tables = grids[0].records, grids[0].tables
    contrasted = [row for row in tables["table1"] if row.name in ("contr", "contr_mae", "standardized")]
    drawn = {
        "affect.png": ("Valence and arousal of the test utterances, as judged", plot_affect, tables["table1"]),
        "layer_weights.png": ("Layer mix (Eq. 1) after training", plot_layer_weights, tables["table1"]),
        "similarities.png": ("One retrieval group: audio against text", plot_similarities, contrasted),
        "training_curves.png": ("Training curves", plot_curves, tables["table1"]),
    }
    of = f", {grids[0].name}" if len(grids) > 1 else ""
    return [
        Section(f"{title}{of}", picture=name)
        for name, (title, plot, rows) in drawn.items()
        if plot(folder / name, records, rows)
    ]
