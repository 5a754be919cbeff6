"""Draw the gradients of the loss terms over a run: `python scripts/draw_gradients.py runs/mine docs/gradients.svg`.

The run needs `--log_gradients`. Its trainer_state.json holds the means between log lines. On the left is how hard each
weighted term pulls at the shared transformer, on the right whether it pulls where the supervised term does.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

COLOURS = {"supervised": "#9a6700", "mae": "#0969da", "contrastive": "#8250df"}
NAMES = {"supervised": "supervised", "mae": "masked autoencoder", "contrastive": "contrastive"}
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "mmer", "font.size": 9, "axes.spines.top": False}


def draw(log: Sequence[dict[str, float]], file: Path) -> None:
    """Write the picture of a log as SVG.

    Raises:
        ValueError: no gradient was logged.
    """
    if not any(name.startswith("grad_norm_") for entry in log for name in entry):
        raise ValueError("no gradients are in the log: train with --log_gradients N.")
    with matplotlib.rc_context(STYLE | {"axes.spines.right": False}):
        figure = Figure(figsize=(8, 3), layout="constrained")
        norms, cosines = figure.subplots(1, 2)
        for term, colour in COLOURS.items():
            for panel, kind in ((norms, "norm"), (cosines, "cosine")):
                key = f"grad_{kind}_{term}"
                points = [(entry["step"], entry[key]) for entry in log if key in entry]
                if points:
                    panel.plot(*zip(*points, strict=True), color=colour, label=NAMES[term], linewidth=1.2)
        norms.set(title="norm of the gradient of λ · L", xlabel="step", yscale="log")
        largest = max((abs(y) for line in cosines.lines for y in line.get_ydata()), default=1)
        cosines.set(title="cosine with the supervised term", xlabel="step", ylim=(-1.5 * largest, 1.5 * largest))
        cosines.axhline(0, color="#59636e", linewidth=0.8, linestyle=":")
        cosines.text(0.99, 0.97, "together", transform=cosines.transAxes, ha="right", va="top", color="#59636e")
        cosines.text(0.99, 0.03, "apart", transform=cosines.transAxes, ha="right", color="#59636e")
        norms.legend(frameon=False)
        figure.savefig(file, metadata={"Date": None})


def main(arguments: Sequence[str]) -> None:
    run, file = map(Path, arguments)
    draw(json.loads((run / "trainer_state.json").read_text(encoding="utf-8"))["log_history"], file)


if __name__ == "__main__":
    main(sys.argv[1:])
