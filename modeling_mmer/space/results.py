"""An answer as HTML: the headline, bars from voice, words and both, the plane of valence and arousal, and files.

Every figure stands as a number in a table or a sentence too, so that no meaning is in a colour or a picture alone.
"""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from ..model.configuration_mmer import MMERConfig
from ..plots import colors_of
from ..scoring.answers import Row
from ..scoring.formats import write_timeline
from . import wording
from .judging import AUDIO, BOTH, TEXT, Answer
from .over_time import timeline_html

FILES = {  # format → its ending and media type
    "csv": ("csv", "text/csv"),
    "json": ("json", "application/json"),
    "srt": ("srt", "application/x-subrip"),
    "textgrid": ("TextGrid", "text/plain"),
    "rttm": ("rttm", "text/plain"),
}
MARKERS = {AUDIO: "circle", TEXT: "square", BOTH: "triangle"}
SIDE, MARGIN = 200, 12  # of the plane, in its own units; no marker is cut off at its edge

EMPTY = f"""<div class="mmer-empty"><p>The answer appears here.</p>
<p>Give a recording to see what the voice says, type the words to see what they say, or give both to compare them.</p>
<p>{wording.CAUTION}</p></div>"""


def refusal_html(message: str) -> str:
    return f'<div class="mmer-card mmer-refusal" role="alert"><h2>Not judged</h2><p>{escape(message)}</p></div>'


def answer_html(answer: Answer, config: MMERConfig) -> str:
    """All that is shown of an answer."""
    sections = [_headline(answer, config)]
    if answer.ways:
        title = "Voice, words and both, side by side" if len(answer.ways) > 1 else "Emotion and sentiment"
        sections.append(_section(title, _bars_of_all(answer.ways, config)))
    if answer.ways and {"valence", "arousal"} <= set(config.dimensions):
        sections.append(_section("Valence, arousal and dominance", _dimensions(answer.ways, config)))
    if answer.over_time:
        sections.append(_section("Over time", timeline_html(answer, config)))
    if answer.ways or answer.over_time:
        sections.append(_section("Take it with you", _downloads(answer)))
    return f'<div class="mmer-answer">{"".join(sections)}</div>'


def _section(title: str, content: str) -> str:
    return f'<section class="mmer-card"><h3>{title}</h3>{content}</section>'


def _headline(answer: Answer, config: MMERConfig) -> str:
    title, sure = map(escape, wording.headline(answer))
    emotions = config.emotion_labels
    lines = [wording.comparison(answer.ways), *wording.notes(answer), *wording.speakers(answer.over_time, emotions)]
    judged = f'<p class="mmer-judged">{wording.judged(answer)}</p>' if answer.ways else ""
    said = "".join(f"<p>{escape(line)}</p>" for line in lines if line)
    return (
        f'<section class="mmer-card mmer-headline">{judged}<h2 tabindex="-1">{title}</h2>'
        f'<p class="mmer-sure">{sure}</p>{said}'
        f'<p class="mmer-caution">{escape(wording.CAUTION)}</p></section>'
    )


# ── bars ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _bars_of_all(ways: Mapping[str, Row], config: MMERConfig) -> str:
    tables = []
    for way in (way for way in wording.WAYS if way in ways):
        tasks = (task for task in config.tasks if task.is_class)
        of_way = "".join(_bars(ways[way], task.name, task.classes, wording.WAYS[way]) for task in tasks)
        tables.append(f'<div class="mmer-way"><h4>{wording.WAYS[way]}</h4>{of_way}</div>')
    return f'<div class="mmer-ways">{"".join(tables)}</div>'


def _bars(row: Row, task: str, labels: Sequence[str], way: str) -> str:
    colors = colors_of(labels) if task == "emotion" else {}
    lines = []
    for label in labels:
        score = row[f"{task}_{label}"]
        best = ' class="mmer-best"' if label == row[task] else ""
        bar = f'<span class="mmer-bar" style="width:{100 * score:.1f}%;{_background(colors.get(label))}"></span>'
        lines.append(
            f'<tr{best}><th scope="row">{escape(label)}</th><td class="mmer-track" aria-hidden="true">{bar}</td>'
            f"<td>{wording.percent(score)}</td></tr>"
        )
    caption = f'<caption>{task}<span class="mmer-hidden">, {way}</span></caption>'
    return f'<table class="mmer-bars">{caption}{"".join(lines)}</table>'


def _background(color: str | None) -> str:
    return f"background:{color}" if color else ""


# ── dimensions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _dimensions(ways: Mapping[str, Row], config: MMERConfig) -> str:
    low, high = config.label_scale
    scale = f"{low:g} to {high:g}"
    named = [way for way in wording.WAYS if way in ways]
    head = "".join(f'<th scope="col">{name}</th>' for name in config.dimensions)
    rows = "".join(
        f'<tr><th scope="row">{_marker_alone(way)} {wording.WAYS[way]}</th>'
        + "".join(f"<td>{ways[way][name]:.1f}</td>" for name in config.dimensions)
        + "</tr>"
        for way in named
    )
    table = (
        f'<table class="mmer-numbers"><caption>On a scale from {scale}; {(low + high) / 2:g} is the middle.</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )
    legend = (
        "<p>Valence runs from negative to positive, arousal from calm to excited, dominance from giving way to being "
        "in control.</p>"
    )
    return f'<div class="mmer-dimensions">{_plane(ways, named, config)}<div>{table}{legend}</div></div>'


def _plane(ways: Mapping[str, Row], named: Sequence[str], config: MMERConfig) -> str:
    low, high = config.label_scale

    def place(value: float) -> float:
        return MARGIN + (SIDE - 2 * MARGIN) * (value - low) / (high - low)

    points = ((way, place(ways[way]["valence"]), SIDE - place(ways[way]["arousal"])) for way in named)
    markers = "".join(_marker(MARKERS[way], x, y) for way, x, y in points)
    said = "; ".join(
        f"{wording.WAYS[way]}: valence {ways[way]['valence']:.1f}, arousal {ways[way]['arousal']:.1f}" for way in named
    )
    middle = SIDE / 2
    return (
        f'<figure class="mmer-plane"><div class="mmer-y">arousal<span>{high:g} excited</span><span>{low:g} calm</span>'
        f'</div><svg viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="Plane of valence and arousal. {escape(said)}">'
        f'<rect width="{SIDE}" height="{SIDE}" rx="4" class="mmer-ground"/>'
        f'<path d="M{middle} 0V{SIDE}M0 {middle}H{SIDE}" class="mmer-axis"/>{markers}</svg>'
        f'<div class="mmer-x"><span>{low:g} negative</span>valence<span>{high:g} positive</span></div></figure>'
    )


def _marker(shape: str, x: float, y: float) -> str:
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" class="mmer-marker mmer-circle"/>'
    if shape == "square":
        return f'<rect x="{x - 6:.1f}" y="{y - 6:.1f}" width="12" height="12" class="mmer-marker mmer-square"/>'
    return f'<path d="M{x:.1f} {y - 9:.1f}l9 15h-18z" class="mmer-marker mmer-triangle"/>'


def _marker_alone(way: str) -> str:
    return f'<svg viewBox="0 0 20 20" class="mmer-key" aria-hidden="true">{_marker(MARKERS[way], 10, 11)}</svg>'


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _downloads(answer: Answer) -> str:
    """Links that hold the files themselves, so that none stays on the server."""
    rows = answer.over_time or [{**answer.main, "start": 0.0, "end": answer.seconds}]
    is_timed = bool(answer.over_time) or answer.seconds is not None
    links = []
    with TemporaryDirectory() as folder:
        for format, (ending, media) in FILES.items():
            if not is_timed and format not in ("csv", "json"):
                continue
            path = Path(folder, f"emotions.{ending}")
            write_timeline(rows, path, format)
            content = base64.b64encode(path.read_bytes()).decode()
            href = f"data:{media};charset=utf-8;base64,{content}"
            links.append(
                f'<li><a download="{path.name}" href="{href}">{ending.upper() if ending.islower() else ending}</a></li>'
            )
    what = "each part" if answer.over_time else "this answer"
    return f'<p>The figures of {what}, as a file:</p><ul class="mmer-files">{"".join(links)}</ul>'
