"""One recording's results for a terminal: emotions over time by speaker, and a table.

Letters and the height of blocks say everything, so that it is read without colours, in a log, or aloud.
"""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..model.tasks import DIMENSIONS
from .formats import EMOTION_TIER, flat, number, times_of

BLOCKS = "▁▂▃▄▅▆▇█"
SILENT, FAILED, OTHER = "·", "!", "?"  # no speech; an error; more emotions than letters
NAME_WIDTH = 14  # columns at most for a speaker's name
HEADS = {name: name[:3] for name in DIMENSIONS}  # of the columns of a table

Row = Mapping[str, Any]


def draw_timeline(rows: Iterable[Row], width: int = 80) -> str:
    """The emotions of one recording over time, as lines of text of at most `width` columns.

    Each speaker has two lines: the letter of the emotion that fills most of each column's time, and below it a block
    that is the higher, the higher the score. `·` is no speech, `!` could not be read. Rows as of `mmer predict`; those
    without `end` last for their `seconds`.
    """
    spans = [span for row in rows if (span := _span(row)) is not None]
    if not spans:
        return "Nothing to draw: no row has times."
    total = max(span["end"] for span in spans)
    letters = _letters(spans)
    speakers = list(dict.fromkeys(span["speaker"] for span in spans))
    left = min(NAME_WIDTH, max(map(columns_of, speakers)))
    n = max(10, width - left - 2)
    lines = []
    for speaker in speakers:
        emotions, scores = _cells([span for span in spans if span["speaker"] == speaker], total, n, letters)
        lines += [f"{padded(shortened(speaker, left), left)}  {emotions}".rstrip(), f"{' ' * left}  {scores}".rstrip()]
    lines += [f"{' ' * left}  {line}".rstrip() for line in _axis(total, n)]
    return "\n".join([*lines, "", *_legend(spans, letters, max(width, 20))])


def _span(row: Row) -> dict[str, Any] | None:
    """What is drawn of a row: None if it has no time."""
    start, end = times_of(row)
    if end is None or end <= start:
        return None
    mark = FAILED if row.get("error") else SILENT if row.get("speech") is False or not row.get("emotion") else None
    return {
        "start": start,
        "end": end,
        "speaker": flat(row.get("speaker") or EMOTION_TIER),
        "emotion": None if mark else str(row["emotion"]),
        "score": None if mark else number(row.get("emotion_score")),
        "mark": mark,
    }


def _letters(spans: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A letter for each emotion, the most frequent first: the first of its name that is free, or else any."""
    seconds: dict[str, float] = {}
    for span in spans:
        if span["emotion"]:
            seconds[span["emotion"]] = seconds.get(span["emotion"], 0) + span["end"] - span["start"]
    letters: dict[str, str] = {}
    for emotion in sorted(seconds, key=seconds.get, reverse=True):
        candidates = [c for c in emotion.upper() if c.isalnum() and columns_of(c) == 1]
        free = (c for c in (*candidates, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ") if c not in letters.values())
        letters[emotion] = next(free, OTHER)
    return letters


def _cells(spans: Sequence[Mapping[str, Any]], total: float, n: int, letters: Mapping[str, str]) -> tuple[str, str]:
    """The line of letters and the line of blocks of one speaker, n columns each. The block is of the mean score."""
    emotions, scores = "", ""
    for i in range(n):
        begin, stop = total * i / n, total * (i + 1) / n
        seconds: dict[str, float] = {}
        weighted: dict[str, list[tuple[float, float]]] = {}
        for span in spans:
            if (shared := min(span["end"], stop) - max(span["start"], begin)) > 0:
                letter = span["mark"] or letters[span["emotion"]]
                seconds[letter] = seconds.get(letter, 0.0) + shared
                if span["score"] is not None:
                    weighted.setdefault(letter, []).append((shared, span["score"]))
        letter = max(seconds, key=seconds.get, default=" ")
        scored = weighted.get(letter)
        emotions += letter
        scores += _block(sum(w * s for w, s in scored) / sum(w for w, _ in scored)) if scored else " "
    return emotions, scores


def _block(share: float) -> str:
    return BLOCKS[min(len(BLOCKS) - 1, max(0, int(share * len(BLOCKS))))]


def _axis(total: float, n: int) -> tuple[str, str]:
    """Ticks at round times, and the times below them."""
    step = tick_step(total, max(1, n // 10))
    ticks, times = ["─"] * n, ""
    for i in range(int(total / step) + 1):
        column = min(n - 1, int(n * i * step / total))
        said = clock(i * step, step < 1)
        if column + len(said) <= n:
            ticks[column] = "┴"
            times = f"{times:<{column}}{said}"
    return "".join(ticks), times


def tick_step(total: float, most: int) -> float:
    """The shortest round time, in seconds, that divides `total` into at most so many parts."""
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
    return next((step for step in steps if total <= step * most), steps[-1] * math.ceil(total / steps[-1] / most))


def clock(seconds: float, tenths: bool = False) -> str:
    """`1:05` or `1:02:03`, with tenths `1:05.3`."""
    units = round(seconds * 10) if tenths else round(seconds) * 10
    minutes, rest = divmod(units, 600)
    hours, minutes = divmod(minutes, 60)
    text = f"{minutes}:{rest // 10:02d}" if not hours else f"{hours}:{minutes:02d}:{rest // 10:02d}"
    return f"{text}.{rest % 10}" if tenths else text


def _legend(spans: Sequence[Mapping[str, Any]], letters: Mapping[str, str], width: int) -> list[str]:
    """What the letters mean, and how much of the time each fills."""
    entries = []
    names = [(letter, emotion, "emotion") for emotion, letter in letters.items()]
    names += [(SILENT, "no speech", "mark"), (FAILED, "not read", "mark")]
    whole = sum(span["end"] - span["start"] for span in spans)
    for letter, name, key in names:
        value = name if key == "emotion" else letter
        seconds = sum(span["end"] - span["start"] for span in spans if span[key] == value)
        if seconds:
            entries.append(f"{letter} {name} {100 * seconds / whole:.0f} %")
    if any(span["score"] is not None for span in spans):
        entries.append(f"{BLOCKS[0]} to {BLOCKS[-1]} score 0 to 1")
    lines = [""]
    for entry in entries:
        if lines[-1] and columns_of(f"{lines[-1]}   {entry}") > width:
            lines.append("")
        lines[-1] += f"   {entry}" if lines[-1] else entry
    return lines


# ── table ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def draw_table(rows: Iterable[Row], width: int = 80) -> str:
    """The rows of one recording as a table of about `width` columns: time, speaker, emotion and its score, dimensions,
    the modalities where they differ, and the text, or why there is no emotion. Columns that no row has are left out,
    and the text is shortened."""
    cells = [_table_row(row) for row in rows]
    heads = list(dict.fromkeys(name for row in cells for name, value in row.items() if value))
    if len(cells) > 1 and len({row["from"] for row in cells}) == 1 and "from" in heads:
        heads.remove("from")
    if not heads:
        return "No rows."
    widths = {head: max(columns_of(head), *(columns_of(row.get(head, "")) for row in cells)) for head in heads}
    if heads[-1] == "text":
        others = sum(widths.values()) - widths["text"] + 2 * (len(heads) - 1)
        widths["text"] = min(widths["text"], max(12, width - others))
    numeric = ("score", *HEADS.values())

    def line(row: Mapping[str, str]) -> str:
        parts = []
        for head in heads:
            cell = shortened(row.get(head, ""), widths[head])
            gap = " " * (widths[head] - columns_of(cell))
            parts.append(gap + cell if head in numeric else cell + gap)
        return "  ".join(parts).rstrip()

    return "\n".join([line({head: head for head in heads}), *map(line, cells)])


def _table_row(row: Row) -> dict[str, str]:
    start, end = times_of(row)
    why = str(row["error"]) if row.get("error") else "(no speech)" if row.get("speech") is False else ""
    score = number(row.get("emotion_score"))
    modalities = row.get("modalities")
    return {
        "time": "" if end is None else f"{clock(start, True)} – {clock(end, True)}",
        "speaker": flat(row.get("speaker") or ""),
        "emotion": "" if row.get("error") else str(row.get("emotion") or ""),
        "score": "" if score is None or row.get("error") else f"{score:.2f} {_block(score)}",
        **{head: "" if (v := number(row.get(name))) is None else f"{v:.1f}" for name, head in HEADS.items()},
        "from": " + ".join(modalities) if isinstance(modalities, (list, tuple)) else str(modalities or ""),
        "text": flat(f"{why} {row.get('text') or ''}"),
    }


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def columns_of(text: str) -> int:
    """Columns of a terminal that a text takes: two for a wide character, none for a combining one."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shortened(text: str, width: int) -> str:
    """The text, with `…` for what is beyond `width` columns."""
    if columns_of(text) <= width:
        return text
    kept = ""
    for character in text:
        if columns_of(kept + character) > width - 1:
            break
        kept += character
    return f"{kept}…"


def padded(text: str, width: int) -> str:
    return text + " " * max(0, width - columns_of(text))
