"""Results of `mmer predict` on the terminal."""

from typing import Any

from ..model.configuration_mmer import MMERConfig

RELEASED = (
    "Model: the one that comes with the package. It estimates how speech and words come across, not what a person "
    "feels; not for decisions about people."
)


def one_result(row: dict[str, Any], config: MMERConfig, model: str | None) -> str:
    """A result in full: each task with its probabilities."""
    lines = [title(row)]
    for task in config.tasks:
        if task.is_class and row[f"{task.name}_{task.labels[0]}"] is not None:
            scores = sorted(((row[f"{task.name}_{label}"], label) for label in task.labels), reverse=True)
            listed = "  ".join(f"{label} {score:.2f}" for score, label in scores)
            lines.append(f"  {task.name:10} {row[task.name] or '(not sure)':12} {listed}")
    numbers = [f"{t.name} {row[t.name]:.1f}" for t in config.tasks if not t.is_class and row[t.name] is not None]
    if numbers:
        low, high = config.label_scale
        lines.append(f"  {'  '.join(numbers)}  (from {low:g} to {high:g})")
    lines.append(RELEASED if model is None else f"Model: {model}")
    return "\n".join(lines)


def title(row: dict[str, Any]) -> str:
    """What was judged: its name, length and modalities, or what is wrong with it."""
    name = row["id"] if row["audio"] is None or row["audio"] in row["id"] else f"{row['id']} ({row['audio']})"
    if row["error"]:
        return f"{name}: {row['error']}"
    about = [f"{row['seconds']:.1f} s"] if row["seconds"] is not None else []
    about += [" and ".join(row["modalities"])] if row["modalities"] else []
    about += ["no speech"] if row["speech"] is False else []
    return f"{name}  ({', '.join(about)})"


def line(row: dict[str, Any], config: MMERConfig) -> str:
    """A result in one line."""
    span = f" {row['start']:.1f}-{row['end']:.1f} s" if None not in (row["start"], row["end"]) else ""
    name = f"{row['id']}{span}"
    if row["error"]:
        return f"{name}  error: {row['error']}"
    if row["emotion_score"] is None:
        return f"{name}  no speech"
    numbers = "  ".join(f"{d} {row[d]:.1f}" for d in config.dimensions)
    return f"{name}  {row['emotion'] or '(not sure)'} {row['emotion_score']:.2f}  {numbers}"
