"""Plots of measured results: confusion matrices and training curves. Equal figures give equal PNG files."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from transformers import TrainerCallback

from ..files import write_bytes
from ..lettering import find_fonts, printable
from ..model.configuration_mmer import MMERConfig
from .tables import by_combination, combination_name

SIZE = 3.2  # height and width of a panel, in inches


def plot_confusion(path: Path, results_for_split: Mapping[str, Any]) -> bool:
    """Plot one confusion matrix per combination, coloured by the share of each reference. False if there is none."""
    figures = by_combination(results_for_split)
    matrices = {name: matrix for name, f in figures.items() if (matrix := f.get("confusion_matrix"))}
    if not matrices:
        return False
    figure = Figure(figsize=(SIZE * len(matrices), SIZE + 0.4), layout="constrained")
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    for panel, (combination, matrix) in zip(panels, matrices.items(), strict=True):
        labels, rows = matrix["labels"], matrix["rows"]
        shares = [[count / max(1, sum(row)) for count in row] for row in rows]
        panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for y, row in enumerate(rows):
            for x, count in enumerate(row):
                panel.text(x, y, count, ha="center", va="center", color="white" if shares[y][x] > 0.5 else "black")
        names = [printable(label) for label in labels]
        panel.set_xticks(range(len(labels)), names, rotation=45, ha="right")
        panel.set_yticks(range(len(labels)), names)
        panel.set(title=combination_name(combination), xlabel="predicted")
    panels[0].set_ylabel("reference")
    save(figure, path)
    return True


def plot_training(path: Path, log_history: Sequence[Mapping[str, float]], config: MMERConfig) -> bool:
    """Plot the loss and its terms over steps, and UA and mean CCC over epochs. False if there is no log."""
    steps = [entry for entry in log_history if "loss" in entry]
    evaluations = [entry for entry in log_history if "eval_loss" in entry]
    if not steps and not evaluations:
        return False
    figure = Figure(figsize=(3 * SIZE, SIZE), layout="constrained")
    losses, recall, concordance = figure.subplots(1, 3)
    for name in ("loss", "loss_supervised", "loss_mae", "loss_contrastive"):
        _line(losses, [(entry["step"], entry[name]) for entry in steps if name in entry], name)
    for combination in config.combinations:
        name, ua = combination_name(combination), f"eval_{combination}_ua"
        ccc = [f"eval_{combination}_{dimension}_ccc" for dimension in config.dimensions]
        _line(recall, [(entry["epoch"], entry[ua]) for entry in evaluations if ua in entry], name)
        present = [(entry["epoch"], [entry[key] for key in ccc if key in entry]) for entry in evaluations]
        _line(concordance, [(epoch, sum(values) / len(values)) for epoch, values in present if values], name)
    losses.set(title="training loss", xlabel="step", yscale="log")
    recall.set(title="validation UA", xlabel="epoch")
    concordance.set(title="validation CCC, mean", xlabel="epoch")
    for panel in (losses, recall, concordance):
        if panel.lines:
            panel.legend(fontsize="small")
    save(figure, path)
    return True


class CurvesCallback(TrainerCallback):
    """Updates `training_curves.png` in the output folder after each evaluation."""

    def on_evaluate(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            plot_training(Path(args.output_dir, "training_curves.png"), state.log_history, kwargs["model"].config)


def _line(panel, points: list[tuple[float, float]], label: str) -> None:
    if points:
        panel.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 30 else None)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically, with additional fonts where its texts need them."""
    find_fonts(figure)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=80, metadata={"Software": None})
    write_bytes(path, picture.getvalue())
