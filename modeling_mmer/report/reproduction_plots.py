"""Plots of `mmer reproduce`: UA by row, layer weights, one retrieval group, training curves."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..model.configuration_mmer import COMBINATIONS
from ..plots import plot_plane
from .grids import FULL, System
from .plots import SIZE, save
from .records import Records
from .strips import LEGEND, Strip, Strips, axis_of
from .tables import combination_name

LINES = {
    "interval": {"color": "#1F5FA8", "linewidth": 1.6},
    "floor": {"color": "#C2571A", "linewidth": 1.2},
    "chance": {"color": "#777777", "linewidth": 1.2, "linestyle": ":"},
}


def plot_ua(path: Path, strips: Strips) -> bool:
    """Plot the UA of each system and combination as a dot with its interval, between lines for chance and for the floor
    of its grid. False if none was measured."""
    if not strips:
        return False
    save(draw_ua(strips), path)
    return True


def draw_ua(strips: Strips) -> Figure:
    lines = lines_of(strips)
    picture = Figure(figsize=(3 * SIZE, 0.28 * len(lines) + 1.2), layout="constrained")
    panels = picture.subplots(1, len(COMBINATIONS), sharey=True)
    axis = axis_of(chain(*strips.values()))
    for i, (panel, combination) in enumerate(zip(panels, COMBINATIONS, strict=True)):
        for y, (_, system) in enumerate(lines):
            if system is not None and (strip := strips[system][i]) is not None:
                draw_strip(panel, y, strip)
        panel.set(title=combination_name(combination), xlabel="UA (%)", xlim=(100 * axis.low, 100 * axis.high))
        panel.set_xticks([100 * tick for tick in axis.ticks])
        panel.grid(axis="y", color="#EEEEEE", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(lines)), [title for title, _ in lines])
    panels[0].set_ylim(len(lines) - 0.5, -0.5)
    for label, (_, system) in zip(panels[0].get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if system is None else "normal")
    marks = [Line2D([], [], **LINES[name], label=label) for name, label in LEGEND.items()]
    marks[0].set(marker="o", markersize=5)
    picture.legend(handles=marks, loc="outside lower right", ncols=3, fontsize="small", frameon=False)
    return picture


def lines_of(strips: Strips) -> list[tuple[str, System | None]]:
    """What stands on each line: a system, or the name of a grid above its systems if there are several grids."""
    grids = list(dict.fromkeys(system.grid for system in strips))
    lines: list[tuple[str, System | None]] = []
    for grid in grids:
        lines += [(grid.name, None)] * (len(grids) > 1)
        lines += [(system.title, system) for system in strips if system.grid is grid]
    return lines


def draw_strip(panel: Axes, y: int, strip: Strip) -> None:
    for name, value in strip.lines.items():
        panel.plot([100 * value] * 2, [y - 0.5, y + 0.5], **LINES[name], zorder=1)
    if strip.interval is not None:
        panel.plot([100 * bound for bound in strip.interval], [y, y], **LINES["interval"], zorder=2)
    panel.plot(100 * strip.value, y, "o", color=LINES["interval"]["color"], markersize=5, zorder=3)


def plot_affect(path: Path, records: Records, rows: Sequence) -> bool:
    """Plot valence and arousal of the test utterances as the full objective judges them from audio and text, with the
    first seed, coloured by the emotion that it recognises. False if the corpus has no labels of them to learn from."""
    combination = [*COMBINATIONS][-1]
    run = next((row.runs[combination] for row in rows if row.name == FULL), None)
    counted = records.counted(run) if run else []
    table = records.predictions(run, counted[0].seed) if counted else None
    measured = counted[0].splits["test"].get(combination, {}) if counted else {}
    if table is None or not {"valence_ccc", "arousal_ccc"} <= {*measured}:
        return False
    table = table[table["combination"] == combination]
    scale = counted[0].settings.get("label_scale")
    save(plot_plane(table.to_dict("records"), tuple(scale) if scale else None), path)
    return True


def plot_layer_weights(path: Path, records: Records, rows: Sequence) -> bool:
    """Plot w^m of Eq. 1 after training, for the first seed of each row with one model. False if there is none."""
    named = {row.title: set(row.runs.values()) for row in rows}
    found = {title: records.counted(*names) for title, names in named.items() if len(names) == 1}
    weights = {title: of_run[0].layer_weights for title, of_run in found.items() if of_run and of_run[0].layer_weights}
    if not weights:
        return False
    modalities = list(dict.fromkeys(modality for of_row in weights.values() for modality in of_row))
    picture = Figure(figsize=(len(modalities) * SIZE + 2, SIZE), layout="constrained")
    panels = picture.subplots(1, len(modalities), sharey=True, squeeze=False)[0]
    for panel, modality in zip(panels, modalities, strict=True):
        for title, of_row in weights.items():
            panel.plot(of_row.get(modality, []), marker=".", label=title)
        panel.set(title=modality, xlabel="encoder state", ylim=(0, None))
    panels[0].set_ylabel("weight")
    picture.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    save(picture, path)
    return True


def plot_similarities(path: Path, records: Records, rows: Sequence) -> bool:
    """Plot the inner products of one retrieval group, each audio row scaled to its own range. False if none."""
    found = {row.title: records.counted(row.runs["audio_text"]) for row in rows}
    matrices = {title: of_run[0].similarities for title, of_run in found.items() if of_run and of_run[0].similarities}
    if not matrices:
        return False
    picture = Figure(figsize=(0.8 * SIZE * len(matrices), SIZE), layout="constrained")
    panels = picture.subplots(1, len(matrices), squeeze=False)[0]
    for panel, (title, matrix) in zip(panels, matrices.items(), strict=True):
        panel.imshow([normalized(of_audio) for of_audio in matrix], cmap="viridis")
        panel.set(title=fill(title, 24), xlabel="text", ylabel="audio", xticks=[], yticks=[])
        panel.title.set_fontsize("small")
    save(picture, path)
    return True


def normalized(values: list[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / ((high - low) or 1) for value in values]


def plot_curves(path: Path, records: Records, rows: Sequence) -> bool:
    """Plot supervised loss and validation score over epochs, for the first seed of each run. False if none."""
    found = {name: records.counted(name) for row in rows for name in row.runs.values()}
    logs = {name: of_run[0].log for name, of_run in found.items() if of_run and of_run[0].log}
    if not logs:
        return False
    picture = Figure(figsize=(2 * SIZE + 3, SIZE + 0.6), layout="constrained")
    panels = picture.subplots(1, 2)
    for style, (name, log) in enumerate(logs.items()):
        for panel, name_in_log in zip(panels, ("loss_supervised", "eval_score"), strict=True):
            points = [(entry["epoch"], entry[name_in_log]) for entry in log if name_in_log in entry]
            if points:
                line = "-" if style < 10 else "--"
                panel.plot(*zip(*points, strict=True), line, color=f"C{style % 10}", label=name, linewidth=1)
    panels[0].set(title="supervised loss, training", xlabel="epoch")
    panels[1].set(title="score, validation", xlabel="epoch")
    picture.legend(*panels[1].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    save(picture, path)
    return True
