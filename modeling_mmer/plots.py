"""Plots of results: emotions along the waveform, the valence–arousal plane, and what each modality says.

Each function takes rows as of `mmer predict` and returns a matplotlib figure, which `save` writes as SVG, PNG or PDF.
In a notebook, `Timeline(rows)` shows itself. `dark=True` draws on a dark background. Emotions have the same colour in
all plots, and are named beside it.
"""

import html
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .corpora.emotions import classes_of
from .files import write_bytes
from .lettering import find_fonts, printable
from .model.tasks import DIMENSIONS
from .scoring.drawing import clock, draw_table, draw_timeline, tick_step
from .scoring.formats import EMOTION_TIER, by_speaker, flat, number, spans_of, times_of

WIDTH, LANE, PANEL = 9.0, 0.42, 1.1  # inches: of a timeline, of a speaker in it, and of its other panels
LABEL_SIZE = 8  # points
COLORS = {  # of Okabe and Ito and their kin, which the colour-blind tell apart, on light and dark
    "anger": "#D55E00",
    "happiness": "#E6A800",
    "excitement": "#F0C94A",
    "sadness": "#3D85C6",
    "fear": "#9467BD",
    "disgust": "#009E73",
    "surprise": "#CC79A7",
    "neutral": "#8C8C8C",
    "calm": "#56B4E9",
    "contempt": "#8C6D31",
    "frustration": "#B5654A",
    "boredom": "#A5B88F",
}
DASHES = ("-", "--", ":", "-.")
OTHER_COLORS = ("#17BECF", "#BCBD22", "#E377C2", "#7F9AA5", "#C49C94", "#98DF8A", "#AEC7E8", "#FF9896")
MODALITIES = {"audio": "what the audio says", "text": "what the text says", "audio_text": "what both say"}

Row = Mapping[str, Any]
Recording = str | Path | tuple[np.ndarray, int]


@contextmanager
def _style(dark: bool) -> Iterator[None]:
    small = {"font.size": LABEL_SIZE + 1, "axes.titlesize": LABEL_SIZE + 2, "svg.hashsalt": "mmer"}
    with matplotlib.style.context("dark_background" if dark else "default"), rc_context(small):
        yield


def colors_of(emotions: Iterable[str]) -> dict[str, str]:
    """A colour for each emotion: that of its class in any spelling, or else one of the others, in order of names."""
    emotions = sorted(set(emotions))
    classes = classes_of(emotions)
    known = {emotion: COLORS[name] for emotion, name in classes.items() if name in COLORS}
    others = [emotion for emotion in emotions if emotion not in known]
    return known | {emotion: OTHER_COLORS[i % len(OTHER_COLORS)] for i, emotion in enumerate(others)}


# ── timeline ────────────────────────────────────────────────────────────────────────────────────────────────────────


def plot_timeline(
    rows: Iterable[Row],
    audio: Recording | None = None,
    label_scale: tuple[float, float] | None = None,
    dark: bool = False,
) -> Figure:
    """The emotions of one recording over time, a lane per speaker, below its waveform and above its dimensions.

    Args:
        audio: a path, or samples (N,) or (channels, N) with their rate; by default the recording that the rows name. If
            it is not there or cannot be read, there is no waveform.
        label_scale: the lowest and highest value of the dimensions.
    """
    rows = list(rows)
    spans = spans_of(rows)
    lanes = by_speaker(spans) or {EMOTION_TIER: []}
    dimensions = [name for name in DIMENSIONS if any(number(row.get(name)) is not None for row in rows)]
    sound = _envelope(audio if audio is not None else _audio_of(rows))
    ends = [end for row in rows if (end := times_of(row)[1]) is not None]
    total = max([*ends, sound[2] if sound else 0.0, 1e-3])
    heights = [PANEL] * bool(sound) + [LANE * len(lanes) + 0.1] + [PANEL] * bool(dimensions)
    with _style(dark):
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.6), layout="constrained")
        panels = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
        if sound:
            _draw_waveform(panels.pop(0), *sound[:2])
        _draw_lanes(panels.pop(0), lanes, total)
        if dimensions:
            _draw_dimensions(panels.pop(0), rows, dimensions, label_scale)
        last = figure.axes[-1]
        last.set_xlim(0, total)
        step = tick_step(total, 8)
        last.set_xticks(np.arange(0, total, step))
        last.xaxis.set_major_formatter(lambda seconds, _: clock(seconds, step < 1))
        last.set_xlabel("time")
    return figure


def _audio_of(rows: Sequence[Row]) -> Recording | None:
    given = {row.get("audio") for row in rows if isinstance(row.get("audio"), (str, Path))}
    path = Path(given.pop()) if len(given) == 1 else None
    return path if path is not None and path.is_file() else None


def _envelope(audio: Recording | None, n: int = 1000) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Times and peaks, (n,) or fewer, of a recording that is read in parts, and its seconds; None if it cannot be."""
    if audio is None:
        return None
    if isinstance(audio, tuple):
        samples, rate = np.abs(np.atleast_2d(np.asarray(audio[0], dtype=np.float32))).max(axis=0), audio[1]
        count = len(samples)
        size = max(1, -(-count // n))
        parts = [samples[start : start + size] for start in range(0, count, size)]
    else:
        import soundfile

        try:
            with soundfile.SoundFile(audio) as file:
                count, rate = file.frames, file.samplerate
                size = max(1, -(-count // n))
                parts = [np.abs(part) for part in file.blocks(size, dtype="float32")]
        except (OSError, RuntimeError, ValueError):  # soundfile's errors are RuntimeErrors
            return None
    peaks = np.array([part.max(initial=0) for part in parts])
    return ((np.arange(len(peaks)) + 0.5) * size / rate, peaks, count / rate) if count else None


def _draw_waveform(panel: Axes, times: np.ndarray, peaks: np.ndarray) -> None:
    panel.fill_between(times, -peaks, peaks, color="#8C8C8C", linewidth=0)
    panel.set(yticks=[], ylabel="audio", ylim=np.array([-1.05, 1.05]) * max(float(peaks.max()), 1e-3))


def _draw_lanes(panel: Axes, lanes: Mapping[str, Sequence[Mapping[str, Any]]], total: float) -> None:
    """A box per span, the paler the lower its score, with the emotion's name where it has room; the others' names are
    in the legend."""
    colors = colors_of(span["emotion"] for spans in lanes.values() for span in spans)
    unnamed = dict.fromkeys(colors, True)
    for y, spans in enumerate(lanes.values()):
        for span in spans:
            seconds = span["end"] - span["start"]
            strength = 0.35 + 0.65 * (1.0 if span["score"] is None else span["score"])
            panel.barh(
                y,
                seconds,
                left=span["start"],
                height=0.8,
                color=colors[span["emotion"]],
                alpha=strength,
                edgecolor=panel.get_facecolor(),
                linewidth=0.6,
            )
            score = "" if span["score"] is None else f" {span['score']:.2f}"
            for said in (f"{flat(span['emotion'])}{score}", flat(span["emotion"])):
                if seconds / total * (WIDTH - 1.2) * 72 > 0.62 * LABEL_SIZE * len(said) + 4:
                    middle = span["start"] + seconds / 2
                    panel.text(middle, y, printable(said), ha="center", va="center", size=LABEL_SIZE, clip_on=True)
                    unnamed[span["emotion"]] = False
                    break
    panel.set_yticks(range(len(lanes)), [printable(name) for name in lanes])
    panel.set_ylim(len(lanes) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    if any(unnamed.values()):
        handles = [panel.barh(0, 0, color=color, label=printable(flat(name))) for name, color in colors.items()]
        panel.legend(
            handles=handles,
            fontsize=LABEL_SIZE,
            ncols=min(8, len(handles)),
            loc="lower left",
            bbox_to_anchor=(0, 1),
            frameon=False,
            borderpad=0.1,
        )


def _draw_dimensions(
    panel: Axes, rows: Sequence[Row], dimensions: Sequence[str], label_scale: tuple[float, float] | None
) -> None:
    for name, dashes in zip(dimensions, cycle(DASHES)):
        points = [(*times_of(row), value) for row in rows if (value := number(row.get(name))) is not None]
        points = sorted(point for point in points if point[1] is not None)
        times = [x for start, end, _ in points for x in (start, end, end)]
        values = [y for *_, value in points for y in (value, value, np.nan)]  # a gap follows each span
        panel.plot(times, values, dashes, label=name, linewidth=1.8)
    panel.legend(fontsize=LABEL_SIZE, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    panel.set_ylabel(_scale_name("scale", label_scale))
    if label_scale is not None:
        panel.set(ylim=_wider(label_scale), yticks=[label_scale[0], sum(label_scale) / 2, label_scale[1]])
    panel.grid(alpha=0.3)


# ── plane ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def plot_plane(rows: Iterable[Row], label_scale: tuple[float, float] | None = None, dark: bool = False) -> Figure:
    """Rows as points in the plane of valence and arousal, coloured by emotion. A line follows each speaker in time.

    Args:
        label_scale: the lowest and highest value of the dimensions; the lines through its middle divide the plane.

    Raises:
        ValueError: no row has both valence and arousal.
    """
    rows = [row for row in rows if number(row.get("valence")) is not None and number(row.get("arousal")) is not None]
    if not rows:
        raise ValueError("No row has valence and arousal: the model was not trained on these dimensions.")
    rows = sorted(rows, key=lambda row: times_of(row)[0])
    emotions = [flat(row["emotion"]) if row.get("emotion") else "no emotion" for row in rows]
    colors = colors_of(emotions)
    points = np.array([[number(row["valence"]), number(row["arousal"])] for row in rows])
    speakers = [flat(row.get("speaker") or "") for row in rows]
    with _style(dark):
        figure = Figure(figsize=(6, 4.4), layout="constrained")
        panel = figure.subplots()
        for speaker, dashes in zip(dict.fromkeys(speakers), cycle(DASHES)):
            path = points[[name == speaker for name in speakers]]
            if 1 < len(path) <= 60:  # of more points a line shows nothing
                label = printable(speaker) if speaker else "order in time"
                panel.plot(*path.T, dashes, color="#8C8C8C", linewidth=0.8, label=label, zorder=1)
        for emotion, marker in zip(colors, cycle("osD^vP*Xp<>hdH8")):
            chosen = points[[name == emotion for name in emotions]]
            label = f"{printable(emotion)} ({len(chosen)})"
            size = 46 if len(points) <= 60 else 14
            panel.scatter(*chosen.T, s=size, color=colors[emotion], marker=marker, label=label, alpha=0.85, zorder=2)
        if label_scale is not None:
            panel.set(xlim=_wider(label_scale), ylim=_wider(label_scale))
            for line in (panel.axhline, panel.axvline):
                line(sum(label_scale) / 2, color="#8C8C8C", linewidth=0.6, zorder=0)
        panel.set_xlabel(_scale_name("valence", label_scale, "negative", "positive"))
        panel.set_ylabel(_scale_name("arousal", label_scale, "calm", "excited"))
        panel.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=LABEL_SIZE, frameon=False)
    return figure


def _wider(scale: tuple[float, float]) -> tuple[float, float]:
    margin = 0.05 * (scale[1] - scale[0])
    return scale[0] - margin, scale[1] + margin


def _scale_name(name: str, scale: tuple[float, float] | None, low: str = "", high: str = "") -> str:
    """`valence (1 negative to 5 positive)`; without a scale, that the numbers are those of the model's own."""
    if scale is None:
        return f"{name} of the model" if not low else f"{name} ({low} to {high}, on the model's scale)"
    return f"{name} ({f'{scale[0]:g} {low}'.strip()} to {f'{scale[1]:g} {high}'.strip()})"


# ── modalities ──────────────────────────────────────────────────────────────────────────────────────────────────────


def plot_modalities(answers: Mapping[str, Row], dark: bool = False) -> Figure:
    """The scores of all emotions, as bars: from the audio alone, from the text alone, and from both.

    Args:
        answers: `audio`, `text` and `audio_text`, or some of these → the row that the model answers with it. Rows have
            columns `emotion_<label>`.

    Raises:
        ValueError: there is another key, or no row has such columns.
    """
    if unknown := set(answers) - set(MODALITIES):
        raise ValueError(f"There is no modality {', '.join(sorted(unknown))}: give {', '.join(MODALITIES)}.")
    answers = {name: answers[name] for name in MODALITIES if name in answers}
    scores = {
        name: {
            key.removeprefix("emotion_"): value
            for key in row
            if key.startswith("emotion_") and key != "emotion_score" and (value := number(row[key])) is not None
        }
        for name, row in answers.items()
    }
    emotions = list(dict.fromkeys(emotion for of_one in scores.values() for emotion in of_one))
    if not emotions:
        raise ValueError("No row has scores in columns emotion_<label>.")
    colors = colors_of(emotions)
    with _style(dark):
        figure = Figure(figsize=(1.2 + 2.6 * len(answers), 0.9 + 0.3 * len(emotions)), layout="constrained")
        panels = figure.subplots(1, len(answers), sharey=True, squeeze=False)[0]
        for panel, (name, of_one) in zip(panels, scores.items(), strict=True):
            best = max(of_one, key=of_one.get, default=None)
            for y, emotion in enumerate(emotions):
                score = of_one.get(emotion, 0.0)
                panel.barh(y, score, color=colors[emotion], height=0.75)
                weight = "bold" if emotion == best else "normal"
                panel.text(score + 0.02, y, f"{score:.2f}", va="center", size=LABEL_SIZE, weight=weight)
            panel.set(title=MODALITIES[name], xlim=(0, 1.18), xticks=[0, 0.5, 1])
            panel.spines[["top", "right"]].set_visible(False)
        panels[0].set_yticks(range(len(emotions)), [printable(flat(emotion)) for emotion in emotions])
        panels[0].set_ylim(len(emotions) - 0.5, -0.5)
    return figure


# ── save ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def picture(figure: Figure, format: str = "svg") -> bytes:
    """A figure as `svg`, `png` or `pdf`. Equal figures give equal bytes."""
    find_fonts(figure)
    content = io.BytesIO()
    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    with rc_context({"svg.hashsalt": "mmer"}):
        figure.savefig(content, format=format, dpi=150, metadata=metadata.get(format, {"CreationDate": None}))
    return content.getvalue()


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure to a file, atomically. Its suffix says the format.

    Raises:
        ValueError: the suffix is not .svg, .png or .pdf.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in ("svg", "png", "pdf"):
        raise ValueError(f"{path}: plots are written as .svg, .png or .pdf.")
    write_bytes(path, picture(figure, suffix))


class Timeline:
    """The rows of one recording, which show themselves: as a plot in a notebook, as text elsewhere.

    Args:
        rows: as of `mmer predict`.
        audio: as in [`plot_timeline`].
        label_scale: the lowest and highest value of the dimensions.
        dark: draw on a dark background.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        audio: Recording | None = None,
        label_scale: tuple[float, float] | None = None,
        dark: bool = False,
    ):
        self.rows = [dict(row) for row in rows]
        self.audio, self.label_scale, self.dark = audio, label_scale, dark

    def plot(self) -> Figure:
        return plot_timeline(self.rows, self.audio, self.label_scale, self.dark)

    def plane(self) -> Figure:
        return plot_plane(self.rows, self.label_scale, self.dark)

    @cached_property
    def _svg(self) -> str:
        return picture(self.plot()).decode()

    def _repr_html_(self) -> str:
        drawn = self._svg[self._svg.index("<svg") :]
        table = html.escape(draw_table(self.rows, 120))
        return f"{drawn}\n<details><summary>{len(self.rows)} rows</summary><pre>{table}</pre></details>"

    def __repr__(self) -> str:
        return f"{draw_timeline(self.rows)}\n\n{draw_table(self.rows)}"
