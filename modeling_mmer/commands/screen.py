"""Results of `mmer predict` on the terminal."""

import shutil

from ..model.configuration_mmer import MMERConfig
from ..scoring.answers import Row
from ..scoring.drawing import draw_table, draw_timeline

RELEASED = (
    "Model: the one that comes with the package. It estimates how speech and words come across, not what a person "
    "feels; not for decisions about people."
)


def in_full(results: list[Row], rows: list[Row], config: MMERConfig, model: str | None) -> str:
    """The results of one recording or text: each task with its probabilities, or a table of its turns or windows; and
    its timeline.

    Args:
        results: of the recording, or of its turns or channels.
        rows: the same over time.
        model: the name that was given.
    """
    width = shutil.get_terminal_size((100, 24)).columns
    lines = [one_result(results[0], config)] if len(results) == 1 else []
    lines += [draw_table(rows, width)] if len(rows) > 1 else []
    if any(row["seconds"] is not None for row in rows):
        lines.append(draw_timeline(rows, width))
    return "\n\n".join([*lines, RELEASED if model is None else f"Model: {model}"])


def one_result(row: Row, config: MMERConfig) -> str:
    """A result with all probabilities, the likeliest first."""
    lines = [title(row)]
    for task in config.tasks:
        if task.is_class and row[f"{task.name}_{task.classes[0]}"] is not None:
            scores = sorted(((row[f"{task.name}_{label}"], label) for label in task.classes), reverse=True)
            listed = "  ".join(f"{label} {score:.2f}" for score, label in scores)
            lines.append(f"  {task.name:10} {row[task.name] or '(not sure)':12} {listed}")
    numbers = [f"{t.name} {row[t.name]:.1f}" for t in config.tasks if not t.is_class and row[t.name] is not None]
    if numbers:
        low, high = config.label_scale
        lines.append(f"  {'  '.join(numbers)}  (from {low:g} to {high:g})")
    return "\n".join(lines)


def title(row: Row) -> str:
    """What was judged: its name, length and modalities, or what is wrong with it."""
    name = row["id"] if row["audio"] is None or row["audio"] in row["id"] else f"{row['id']} ({row['audio']})"
    if row["error"]:
        return f"{name}: {row['error']}"
    about = [f"{row['seconds']:.1f} s"] if row["seconds"] is not None else []
    about += [" and ".join(row["modalities"])] if row["modalities"] else []
    about += ["no speech"] if row["speech"] is False else []
    return f"{name}  ({', '.join(about)})"


def line(row: Row, config: MMERConfig) -> str:
    """A result in one line."""
    span = f" {row['start']:.1f}-{row['end']:.1f} s" if None not in (row["start"], row["end"]) else ""
    name = f"{row['id']}{span}"
    if row["error"]:
        return f"{name}  error: {row['error']}"
    if row["emotion_score"] is None:
        return f"{name}  no speech"
    numbers = "  ".join(f"{d} {row[d]:.1f}" for d in config.dimensions)
    return f"{name}  {row['emotion'] or '(not sure)'} {row['emotion_score']:.2f}  {numbers}"
