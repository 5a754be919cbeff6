"""Plots of `mmer reproduce`: UA by row, layer weights, one retrieval group, training curves."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from matplotlib.figure import Figure

from ..model.configuration_mmer import COMBINATIONS
from .plots import SIZE, save
from .records import Records
from .tables import combination_name


def plot_ua(path: Path, records: Records, rows: Sequence) -> bool:
    """Plot the UA of each row and combination, with the deviation over seeds. False if none was measured."""
    figures = {
        row.title: [records.figure(row.runs[combination], f"{combination}_ua") for combination in COMBINATIONS]
        for row in rows
    }
    figures = {title: of_row for title, of_row in figures.items() if any(of_row)}
    if not figures:
        return False
    picture = Figure(figsize=(3 * SIZE, 0.35 * len(figures) + 1.2), layout="constrained")
    panels = picture.subplots(1, len(COMBINATIONS), sharey=True)
    titles = list(figures)[::-1]
    for i, (panel, combination) in enumerate(zip(panels, COMBINATIONS, strict=True)):
        for y, title in enumerate(titles):
            if (figure := figures[title][i]) is not None:
                panel.barh(y, 100 * figure.mean, xerr=100 * (figure.deviation or 0), color=f"C{i}")
        panel.set(title=combination_name(combination), xlabel="UA (%)", xlim=(0, 100))
    panels[0].set_yticks(range(len(titles)), titles)
    save(picture, path)
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
