"""The statistics of a corpus (`corpora/describe.py`) as Markdown tables, one column per split, and as a plot."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..corpora.describe import LONG, OVER
from ..lettering import printable
from ..model.tasks import CLASS_TASKS
from .plots import SIZE, save
from .tables import ABSENT, markdown_item, markdown_table

SHARED = ("speakers", "texts", "recordings")
MOST_SPEAKERS = 10  # listed in the report; corpus.json has all
MOST_BROKEN = 20


def corpus_report(figures: Mapping[str, Any]) -> str:
    """The whole report, without sections that would be empty."""
    sections = {
        "Rows": rows_table(figures),
        **{task.capitalize(): labels_table(figures, task) for task in CLASS_TASKS},
        "Votes for emotions": votes_table(figures),
        "Dimensions, on the scale {:g} to {:g}".format(*figures["label_scale"]): dimensions_table(figures),
        "Durations, in seconds": durations_table(figures),
        "Speakers": speakers_table(figures),
        "In more than one split": shared_table(figures),
        "Broken recordings": broken_list(figures),
        "Caveats": "\n".join(map(markdown_item, figures["caveats"])),
        "Notices": "\n".join(map(markdown_item, figures["notices"])),
    }
    facts = [f"- {fact.capitalize()}: {figures[fact]}" for fact in ("license", "language") if fact in figures]
    parts = [f"# Corpus {figures['corpus']}", *(["\n".join(facts)] if facts else [])]
    parts += [f"## {title}\n\n{text}" for title, text in sections.items() if text]
    return "\n\n".join(parts)


def rows_table(figures: Mapping[str, Any]) -> str:
    """Rows by modality, hours of audio, and number of speakers."""

    def column(part: Mapping[str, Any]) -> dict[str, str]:
        modalities = {held_name(held): f"{n:,}" for held, n in part["modalities"].items()}
        return {
            "rows": f"{part['rows']:,}",
            **modalities,
            "hours of audio": decimal(part["duration"].get("hours")),
            "speakers": f"{part['speakers']:,}",
            "rows without a speaker": f"{part['rows_without_speaker']:,}",
        }

    return split_table(figures, column)


def held_name(held: str) -> str:
    """What rows hold, as `audio_text` or `audio_only` in the figures, in words."""
    return held.replace("_only", " alone").replace("_", " + ")


def labels_table(figures: Mapping[str, Any], task: str) -> str:
    """Number of rows of each class, the most frequent first; empty if no row is labelled."""
    names = figures["all"][task]["labels"]

    def column(part: Mapping[str, Any]) -> dict[str, str]:
        counts = {name: part[task]["labels"].get(name, 0) for name in names}
        return {name: f"{n:,}" for name, n in counts.items()} | {"unlabelled": f"{part[task]['unlabelled']:,}"}

    return split_table(figures, column) if names else ""


def votes_table(figures: Mapping[str, Any]) -> str:
    """Rows with votes, the votes for each class and the agreement of raters; empty if there are no votes."""
    if "emotion_votes" not in figures["all"]:
        return ""
    names = figures["all"]["emotion_votes"]["labels"]

    def column(part: Mapping[str, Any]) -> dict[str, str]:
        votes = part.get("emotion_votes", {"rows": 0, "labels": {}})
        counts = {name: f"{votes['labels'].get(name, 0):,g}" for name in names}
        return {
            "rows": f"{votes['rows']:,}",
            **counts,
            "Krippendorff's alpha": decimal(votes.get("krippendorff_alpha")),
        }

    return split_table(figures, column)


def dimensions_table(figures: Mapping[str, Any]) -> str:
    """Statistics by dimension and split; empty if no row is labelled."""
    rows = [
        [dimension, split, f"{values['n']:,}", *(decimal(values.get(name)) for name in ("min", "mean", "max", "std"))]
        for dimension in figures["all"]["dimensions"]
        for split, part in parts_of(figures).items()
        if (values := part["dimensions"][dimension])["n"]
    ]
    header = ["dimension", "split", "n", "min", "mean", "max", "standard deviation"]
    return markdown_table(header, rows) if rows else ""


def durations_table(figures: Mapping[str, Any]) -> str:
    """Statistics, then the histogram; empty if no recording has a duration."""
    if not figures["all"]["duration"]["n"]:
        return ""
    bins = bin_names(figures)

    def column(part: Mapping[str, Any]) -> dict[str, str]:
        duration = part["duration"]
        statistics = {name: decimal(duration.get(name)) for name in ("min", "median", "mean", "max")}
        counts = bin_counts(part, len(bins)) or [0] * len(bins)
        of_bins = {f"n from {name}": f"{n:,}" for name, n in zip(bins, counts, strict=True)}
        return {"n": f"{duration['n']:,}"} | statistics | of_bins | {f"n over {LONG}": f"{duration.get(OVER, 0):,}"}

    return split_table(figures, column)


def speakers_table(figures: Mapping[str, Any]) -> str:
    """The speakers with most rows, and the number of others; empty if no speaker is known."""
    speakers = figures["speakers"]
    if not speakers:
        return ""
    rows = [
        [speaker["speaker"], *(f"{speaker['rows'].get(split, 0):,}" for split in figures["splits"])]
        for speaker in speakers[:MOST_SPEAKERS]
    ]
    more = len(speakers) - MOST_SPEAKERS
    rest = f"\n\nand {more:,} more speakers" if more > 0 else ""
    return markdown_table(["rows of", *figures["splits"]], rows) + rest


def shared_table(figures: Mapping[str, Any]) -> str:
    """What each pair of splits has in common, and in how many rows; empty if there is only one split."""
    rows = [
        [f"{one} and {other}", *(shared_by(figures["shared"][what], one, other) for what in SHARED)]
        for one, other in itertools.combinations(figures["splits"], 2)
    ]
    return markdown_table(["in both", *SHARED], rows) if rows else ""


def broken_list(figures: Mapping[str, Any]) -> str:
    """The number of recordings with each fault, and the first of their rows; empty if there are no recordings."""
    broken = figures["broken"]
    n_audio = figures["all"]["modalities"]["audio_text"] + figures["all"]["modalities"]["audio_only"]
    if not n_audio:
        return ""
    if not broken:
        return f"None of {n_audio:,}: each was read to its end."
    kinds = Counter(row["kind"] for row in broken)
    lines = [f"{len(broken):,} of {n_audio:,}: {', '.join(f'{n:,} {kind}' for kind, n in kinds.items())}.", ""]
    for row in broken[:MOST_BROKEN]:
        fault = f"{row['kind']}, {row['detail']}" if row["detail"] else row["kind"]
        lines.append(f"- {row['utterance_id']} ({row['split']}): {fault}: {row['audio']}")
    more = len(broken) - MOST_BROKEN
    return "\n".join(lines + ([f"- and {more:,} more"] if more > 0 else []))


def split_table(figures: Mapping[str, Any], column: Callable[[Mapping[str, Any]], dict[str, str]]) -> str:
    """A table with one column per split and one for all splits. `column` maps statistics to a dict, line → cell."""
    columns = {name: column(part) for name, part in parts_of(figures).items()}
    rows = [[line, *(cells[line] for cells in columns.values())] for line in column(figures["all"])]
    return markdown_table(["", *columns], rows)


def parts_of(figures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The statistics of each split and, if there are several, of all together."""
    return figures["splits"] | ({"all": figures["all"]} if len(figures["splits"]) > 1 else {})


def shared_by(items: Sequence[Mapping[str, Any]], one: str, other: str) -> str:
    rows = [item["rows"][one] + item["rows"][other] for item in items if {one, other} <= item["rows"].keys()]
    return f"{len(rows):,} ({sum(rows):,} rows)" if rows else "0"


def bin_names(figures: Mapping[str, Any]) -> list[str]:
    """The names of the histogram's bins up to the last that is not empty."""
    histogram = figures["all"]["duration"]["histogram"]
    starts = histogram["from"]
    names = [f"{start} to {end}" for start, end in itertools.pairwise(starts)] + [f"{starts[-1]} and more"]
    return names[: max(i for i, n in enumerate(histogram["counts"], start=1) if n)]


def bin_counts(part: Mapping[str, Any], n_bins: int) -> list[int]:
    """The counts of the first bins; empty if there is no histogram."""
    return part["duration"].get("histogram", {"counts": []})["counts"][:n_bins]


def decimal(value: float | None) -> str:
    return ABSENT if value is None else f"{value:,.2f}"


def plot_corpus(path: Path, figures: Mapping[str, Any]) -> None:
    """Plot rows, classes, durations and dimensions, as far as the corpus has them. Colours are splits; in the first
    panel, shades are modalities."""
    whole = figures["all"]
    panels = [plot_rows]
    panels += [plot_emotions] if whole["emotion"]["labels"] else []
    panels += [plot_durations] if whole["duration"]["n"] else []
    panels += [plot_dimensions] if any(values["n"] for values in whole["dimensions"].values()) else []
    figure = Figure(figsize=((SIZE + 0.4) * len(panels) + 1, SIZE), layout="constrained")
    for plot, panel in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        plot(panel, figures)
    if len(panels) > 1:
        colours = [Patch(color=f"C{i}", label=split) for i, split in enumerate(figures["splits"])]
        figure.legend(handles=colours, loc="outside center right")
    save(figure, path)


def plot_rows(panel, figures: Mapping[str, Any]) -> None:
    splits, below = figures["splits"], [0] * len(figures["splits"])
    for i, held in enumerate(kinds := figures["all"]["modalities"]):
        counts = [part["modalities"][held] for part in splits.values()]
        shade = f"{0.3 + 0.5 * i / max(1, len(kinds) - 1):.2f}"
        panel.bar(list(splits), counts, bottom=below, color=shade, label=held_name(held))
        below = [sum(pair) for pair in zip(below, counts, strict=True)]
    panel.set(title="rows")
    panel.tick_params("x", rotation=45)
    panel.legend(fontsize="small")


def plot_emotions(panel, figures: Mapping[str, Any]) -> None:
    names = list(figures["all"]["emotion"]["labels"])
    counts = {s: [part["emotion"]["labels"].get(name, 0) for name in names] for s, part in figures["splits"].items()}
    grouped_bars(panel, [printable(name) for name in names], counts)
    panel.set(title="emotion, share of labelled rows")


def plot_durations(panel, figures: Mapping[str, Any]) -> None:
    names = bin_names(figures)
    grouped_bars(panel, names, {split: bin_counts(part, len(names)) for split, part in figures["splits"].items()})
    panel.set(title="seconds, share of recordings")


def plot_dimensions(panel, figures: Mapping[str, Any]) -> None:
    """Mean and standard deviation as a bar, and the range as a line."""
    dimensions = list(figures["all"]["dimensions"])
    width = 0.8 / len(figures["splits"])
    for i, part in enumerate(figures["splits"].values()):
        spreads = [(x + i * width, values) for x, d in enumerate(dimensions) if (values := part["dimensions"][d])["n"]]
        if not spreads:
            continue
        places = [x for x, _ in spreads]
        means, deviations = ([values[name] for _, values in spreads] for name in ("mean", "std"))
        panel.vlines(places, *([values[name] for _, values in spreads] for name in ("min", "max")), color=f"C{i}")
        panel.errorbar(places, means, deviations, fmt="o", elinewidth=5, color=f"C{i}")
    panel.set_xticks([x + 0.4 - width / 2 for x in range(len(dimensions))], dimensions)
    panel.set(title="dimensions", ylim=figures["label_scale"])


def grouped_bars(panel, names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> None:
    """For each name one bar per split, its share of the counts of the split."""
    width = 0.8 / len(counts)
    for i, of_split in enumerate(counts.values()):
        if of_split:
            shares = [n / max(1, sum(of_split)) for n in of_split]
            panel.bar([x + i * width for x in range(len(names))], shares, width, color=f"C{i}")
    panel.set_xticks([x + 0.4 - width / 2 for x in range(len(names))], names, rotation=45, ha="right")
