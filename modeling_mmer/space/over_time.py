"""An answer over time as HTML: for each speaker the waveform, a curve per emotion, and the parts as buttons to hear."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np

from ..model.configuration_mmer import MMERConfig
from ..plots import DASHES, colors_of
from ..scoring.answers import Row
from ..scoring.drawing import clock, tick_step
from . import wording
from .judging import SPEAKERS, Answer

PER_SECOND, WIDEST = 9, 8000  # pixels; on a narrower page, the timeline scrolls
GAP = 0.12  # of the whole: a curve is interrupted where its speaker says nothing for longer
WIDTH, HEIGHT = 1000, 100  # of a picture, in its own units: it is stretched to the width of the page
STROKES = dict(zip(DASHES, ("", "9 5", "2 4", "9 4 2 4"), strict=True))  # matplotlib's dashes → those of SVG


def timeline_html(answer: Answer, config: MMERConfig) -> str:
    emotions = config.emotion_labels
    speakers = list(dict.fromkeys(row["speaker"] for row in answer.over_time))
    by_channel = answer.peaks is not None and len(answer.peaks) == 2 and set(speakers) <= set(SPEAKERS)
    panels = [] if by_channel else [_waveform(answer.peaks.max(axis=0))]
    for speaker in speakers:
        rows = [row for row in answer.over_time if row["speaker"] == speaker]
        waveform = _waveform(answer.peaks[SPEAKERS.index(speaker)]) if by_channel else ""
        panels.append(_speaker(speaker, rows, emotions, answer.seconds, waveform))
    width = min(WIDEST, round(PER_SECOND * answer.seconds))
    hint = (
        "Choose a part to hear it, with a pointer or with the Tab and arrow keys and Enter. The height of a curve is "
        "the probability of the emotion, from 0 to 100 %."
    )
    return (
        f'<p>{hint}</p>{_legend(emotions)}<div class="mmer-scroll" tabindex="0" role="group" aria-label="Emotions over '
        f'time"><div class="mmer-timeline" style="width:{width}px">{"".join(panels)}{_clock(answer.seconds)}</div>'
        "</div>"
        f'<p class="mmer-heard" aria-live="polite"></p>{_table(answer.over_time, len(speakers) > 1)}'
    )


def _styles(emotions: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(emotion, colour, dashes): each curve is told apart by its dashes too."""
    colors = colors_of(emotions)
    for i, emotion in enumerate(emotions):
        yield emotion, colors[emotion], STROKES[DASHES[i % len(DASHES)]]


def abbreviations(emotions: Sequence[str]) -> dict[str, str]:
    """The first letters of each emotion, as many as no other begins with."""
    return {
        emotion: next(
            emotion[:n].capitalize()
            for n in range(1, len(emotion) + 1)
            if n == len(emotion) or not any(other.startswith(emotion[:n]) for other in emotions if other != emotion)
        )
        for emotion in emotions
    }


def _legend(emotions: Sequence[str]) -> str:
    short = abbreviations(emotions)
    items = "".join(
        f'<li><svg viewBox="0 0 36 10" aria-hidden="true"><path d="M0 5H36" stroke="{color}" stroke-width="3" '
        f'stroke-dasharray="{dashes}"/></svg>{escape(emotion)} <span class="mmer-short">({short[emotion]})</span></li>'
        for emotion, color, dashes in _styles(emotions)
    )
    return f'<ul class="mmer-legend">{items}</ul>'


def _picture(content: str, kind: str) -> str:
    view = f'viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"'
    return f'<svg {view} class="{kind}" aria-hidden="true">{content}</svg>'


def _waveform(peaks: np.ndarray) -> str:
    heights = HEIGHT / 2 * peaks / max(float(peaks.max(initial=0)), 1e-3)
    xs = (np.arange(len(peaks)) + 0.5) * WIDTH / max(1, len(peaks))
    above = " ".join(f"{x:.0f} {HEIGHT / 2 - height:.0f}" for x, height in zip(xs, heights, strict=True))
    below = " ".join(f"{x:.0f} {HEIGHT / 2 + height:.0f}" for x, height in zip(xs[::-1], heights[::-1], strict=True))
    return _picture(f'<path d="M{above} {below}Z"/>', "mmer-wave")


def _speaker(speaker: str | None, rows: Sequence[Row], emotions: Sequence[str], total: float, waveform: str) -> str:
    name = speaker or "recording"
    said = f"{name}: {wording.over_time(rows, emotions)}"
    curves = "".join(
        f'<path d="{_curve(rows, f"emotion_{emotion}", total)}" stroke="{color}" stroke-dasharray="{dashes}"/>'
        for emotion, color, dashes in _styles(emotions)
    )
    looks = colors_of(emotions), abbreviations(emotions)
    buttons = "".join(_button(row, i, *looks, total, speaker) for i, row in enumerate(rows))
    title = f"<h4>{escape(speaker)}</h4>" if speaker else ""
    return (
        f'<div class="mmer-speaker">{title}<p class="mmer-hidden">{escape(said)}</p>{waveform}'
        f"{_picture(curves, 'mmer-curves')}"
        f'<div class="mmer-lane" role="group" aria-label="Parts of {escape(name)}, arrow keys move">{buttons}</div>'
        "</div>"
    )


def _curve(rows: Sequence[Row], column: str, total: float) -> str:
    """A path through the middle of each part."""
    path, open_until = [], None
    for row in rows:
        if row[column] is None:
            continue
        y = HEIGHT * (0.97 - 0.94 * row[column])  # lines at 0 and 1 are not cut off
        start, end = (WIDTH * row[name] / total for name in ("start", "end"))
        if open_until is None or start - open_until[0] > GAP * WIDTH:
            path += [f"L{open_until[0]:.1f} {open_until[1]:.1f}"] if open_until else []
            path.append(f"M{start:.1f} {y:.1f}")
        path.append(f"L{(start + end) / 2:.1f} {y:.1f}")
        open_until = end, y
    return "".join([*path, f"L{open_until[0]:.1f} {open_until[1]:.1f}"]) if open_until else ""


def _button(
    row: Row, i: int, colors: Mapping[str, str], short: Mapping[str, str], total: float, speaker: str | None
) -> str:
    left, width = 100 * row["start"] / total, 100 * (row["end"] - row["start"]) / total
    said = escape(wording.part(row) if speaker is None else f"{speaker}, {wording.part(row)}")
    emotion = row["emotion"]
    shown = f'<span>{escape(emotion)}</span><span class="mmer-short">{short[emotion]}</span>' if emotion else "–"
    color = f"--emotion:{colors[emotion]};" if emotion else ""
    return (
        f'<button type="button" class="mmer-part{"" if emotion else " mmer-silent"}" tabindex="{0 if i == 0 else -1}" '
        f'style="{color}left:{left:.3f}%;width:{width:.3f}%" {_span(row)} '
        f'aria-label="Hear {said}" title="{said}">{shown}</button>'
    )


def _span(row: Row) -> str:
    return f'data-start="{row["start"]:.3f}" data-end="{row["end"]:.3f}"'


def _clock(total: float) -> str:
    step = tick_step(total, max(6, min(WIDEST, PER_SECOND * total) // 110))
    ticks = "".join(
        f'<span style="left:{100 * time / total:.3f}%">{clock(time, step < 1)}</span>'
        for time in np.arange(0, total, step)
    )
    return f'<div class="mmer-clock" aria-hidden="true">{ticks}</div>'


def _table(rows: Sequence[Row], with_speaker: bool) -> str:
    """All parts, in the order of time, for readers of tables and of screens."""
    has_text = any(row["text"] for row in rows)
    names = ["time", *(["speaker"] if with_speaker else []), "emotion", "how sure", *(["words"] if has_text else [])]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    lines = []
    for row in sorted(rows, key=lambda row: (row["start"], row["end"])):
        hear = f'{_span(row)} aria-label="Hear {wording.span(row)}"'
        cells = [f'<button type="button" class="mmer-hear" {hear}>{wording.span(row)}</button>']
        cells += [escape(row["speaker"] or "")] if with_speaker else []
        cells += [escape(row["emotion"] or "no speech")]
        cells += [wording.percent(row["emotion_score"]) if row["emotion"] else ""]
        cells += [escape(row["text"] or "")] if has_text else []
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return (
        f'<details class="mmer-parts"><summary>All {len(rows)} parts as a table</summary><div class="mmer-scroll" '
        f'tabindex="0" role="group" aria-label="Table of all parts"><table class="mmer-numbers">{table}</table></div>'
        "</details>"
    )
