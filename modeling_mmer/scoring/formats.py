"""Results with times → files that annotation tools, players and spreadsheets open.

| format | file | opened by |
|---|---|---|
| `csv`, `json`, `parquet` | all columns | spreadsheets, pandas |
| `srt`, `vtt` | subtitles | video players, browsers |
| `textgrid` | a tier per speaker | Praat |
| `elan` | a tier per speaker | ELAN |
| `audacity` | a label track | Audacity |
| `rttm` | lines of type SPEAKER | pyannote, NIST's tools |

`csv`, `json` and `parquet` hold every row as it is. The others mark times of one recording with a label such as
`ANN: anger 0.83`, and leave out rows without speech or with an error: there is no emotion to show. In RTTM the emotion
is the subtype and its score the confidence, which readers of speakers pass over; rows of several recordings may share
one such file.
"""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ..files import write_text, written_beside

EMOTION_TIER = "emotion"  # of rows without a speaker
_NO_MARKUP = str.maketrans("<>{}\\", "‹›()/")  # what players and pysubs2 would take for a tag, and what looks like it
SHORTEST = 0.001  # seconds; the tools know no label of length 0, and times are rounded to this

Row = Mapping[str, Any]


def write_timeline(rows: Iterable[Row], path: str | Path, format: str) -> None:
    """Write rows as `mmer predict` has them to `path`, whole or not at all.

    Args:
        rows: dicts with the columns of `mmer predict`. For a format that marks times, rows without `start` begin at 0,
            and rows without `end` last for their `seconds`.
        format: one of `FORMATS`.

    Raises:
        ValueError: there is no such format, or rows of several recordings are to share a file that can hold one.
        ImportError: the format needs a library of the extra `timelines`.
    """
    if format not in FORMATS:
        raise ValueError(f"There is no timeline format {format!r}: choose one of {', '.join(FORMATS)}.")
    path, rows = Path(path), list(rows)
    if format in _TABLES:
        _TABLES[format](path, rows)
        return
    spans = spans_of(rows)
    if format != "rttm" and len({span["audio"] for span in spans}) > 1:
        names = ", ".join(sorted({str(span["audio"]) for span in spans})[:3])
        raise ValueError(
            f"{path}: {format} describes one recording, and these rows are of several ({names}); write one file per "
            "recording, or csv, json, parquet or rttm."
        )
    _TIMED[format](path, spans)


def spans_of(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows that have an emotion and times, sorted: `start` and `end` (seconds, at whole milliseconds, start < end),
    `audio`, `speaker` (or None), `emotion`, `score` (or None), `label`, `text` (or None)."""
    spans = []
    for row in rows:
        start, end = times_of(row)
        if row.get("error") or row.get("speech") is False or not row.get("emotion") or end is None:
            continue
        start = round(start, 3)
        named = {name: str(row[name]) if row.get(name) else None for name in ("audio", "speaker", "emotion", "text")}
        times = {"start": start, "end": max(round(end, 3), round(start + SHORTEST, 3))}
        spans.append(named | times | {"score": number(row.get("emotion_score")), "label": label_of(row)})
    return sorted(spans, key=lambda span: (span["start"], span["end"]))


def times_of(row: Row) -> tuple[float, float | None]:
    """Start and end of a row in seconds. Without a start it begins at 0, and without an end it lasts for its `seconds`;
    the end is None if neither is known."""
    start, end, seconds = (number(row.get(name)) for name in ("start", "end", "seconds"))
    start = start or 0.0
    return start, start + seconds if end is None and seconds is not None else end


def label_of(row: Row) -> str:
    """`ANN: anger 0.83`; without a speaker or a score, without it. Names lose their line breaks and tabs."""
    score = number(row.get("emotion_score"))
    speaker = f"{flat(row['speaker'])}: " if row.get("speaker") else ""
    return f"{speaker}{flat(row['emotion'])}" + ("" if score is None else f" {score:.2f}")


def flat(name: Any) -> str:
    """A name or text in one line."""
    return " ".join(str(name).split())


def number(value: Any) -> float | None:
    """The value as a float; None for one that is missing, NaN too."""
    return None if value is None or value == "" or math.isnan(float(value)) else float(value)


def by_speaker(spans: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The spans of each speaker, in the order of their first words."""
    tiers: dict[str, list[Mapping[str, Any]]] = {}
    for span in spans:
        tiers.setdefault(flat(span["speaker"]) if span["speaker"] else EMOTION_TIER, []).append(span)
    return tiers


# ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _columns(rows), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: json.dumps(v) if isinstance(v, (list, dict)) else v for name, v in row.items()})
    write_text(path, text.getvalue())


def _write_json(path: Path, rows: Sequence[Row]) -> None:
    def plain(value: Any) -> Any:
        if hasattr(value, "tolist"):  # NumPy scalars and arrays
            value = value.tolist()
        return None if isinstance(value, float) and not math.isfinite(value) else value

    lines = [json.dumps({k: plain(v) for k, v in row.items()}, ensure_ascii=False, default=str) for row in rows]
    write_text(path, "[" + ",".join(f"\n  {line}" for line in lines) + "\n]\n")


def _write_parquet(path: Path, rows: Sequence[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: [row.get(name) for row in rows] for name in _columns(rows)})
    with written_beside(path) as beside:
        pq.write_table(table, beside)


# ── subtitles ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _write_subtitles(path: Path, spans: Sequence[Mapping[str, Any]], format: str) -> None:
    pysubs2 = library_of(format)
    subtitles = pysubs2.SSAFile()
    for span in spans:
        event = pysubs2.SSAEvent(start=round(1000 * span["start"]), end=round(1000 * span["end"]))
        lines = [span["label"], *([flat(span["text"])] if span["text"] else [])]
        event.text = r"\N".join(line.translate(_NO_MARKUP) for line in lines)
        subtitles.append(event)
    write_text(path, subtitles.to_string(format))


def _write_srt(path: Path, spans: Sequence[Mapping[str, Any]]) -> None:
    _write_subtitles(path, spans, "srt")


def _write_vtt(path: Path, spans: Sequence[Mapping[str, Any]]) -> None:
    _write_subtitles(path, spans, "vtt")


# ── labels ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _write_audacity(path: Path, spans: Sequence[Mapping[str, Any]]) -> None:
    write_text(path, "".join(f"{span['start']:.3f}\t{span['end']:.3f}\t{span['label']}\n" for span in spans))


def _write_rttm(path: Path, spans: Sequence[Mapping[str, Any]]) -> None:
    """Names in RTTM have no blanks. Where no row has a speaker, the emotion takes the place of its name."""
    recordings = {span["audio"] for span in spans}
    stems = {audio: Path(audio).stem if audio else path.stem for audio in recordings}
    files = stems if len(set(stems.values())) == len(stems) else {audio: audio or path.stem for audio in recordings}
    has_speakers = any(span["speaker"] for span in spans)
    lines = []
    for span in spans:
        score = "<NA>" if span["score"] is None else f"{span['score']:.4f}"
        emotion = _word(span["emotion"])
        speaker = _word(span["speaker"] or "") if has_speakers else emotion
        times = f"{span['start']:.3f} {span['end'] - span['start']:.3f}"
        lines.append(f"SPEAKER {_word(files[span['audio']])} 1 {times} <NA> {emotion} {speaker} {score} <NA>\n")
    write_text(path, "".join(lines))


def _word(name: str) -> str:
    return "_".join(name.split()) or "<NA>"


# ── tiers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tiers(spans: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The spans of each tier: one per speaker. In a tier, one label ends before the next begins, so that spans of one
    speaker that overlap, as windows do, go to further tiers: `ANN`, `ANN (2)`."""
    tiers: dict[str, list[Mapping[str, Any]]] = {}
    for speaker, of_speaker in by_speaker(spans).items():
        for span in of_speaker:
            number, name = 1, speaker
            while name in tiers and tiers[name][-1]["end"] > span["start"]:
                number += 1
                name = f"{speaker} ({number})"
            tiers.setdefault(name, []).append(span)
    return tiers or {EMOTION_TIER: []}


def _write_textgrid(path: Path, spans: Sequence[Mapping[str, Any]]) -> None:
    textgrid = library_of("textgrid")
    end = max([span["end"] for span in spans], default=SHORTEST)
    grid = textgrid.Textgrid(0, end)
    for name, of_tier in _tiers(spans).items():
        entries = [(span["start"], span["end"], span["label"]) for span in of_tier]
        grid.addTier(textgrid.IntervalTier(name, entries, 0, end))
    with written_beside(path) as beside:
        grid.save(str(beside), format="long_textgrid", includeBlankSpaces=True, minimumIntervalLength=None)


def _write_elan(path: Path, spans: Sequence[Mapping[str, Any]]) -> None:
    """ELAN counts whole milliseconds. The recording is found beside the file, or else where it was."""
    elan = library_of("elan")
    document = elan.Eaf(author="modeling-mmer")
    document.remove_tier("default")
    if audio := next((span["audio"] for span in spans if span["audio"]), None):
        kind = {".wav": "audio/x-wav"}.get(Path(audio).suffix.lower(), "application/octet-stream")
        relative = os.path.relpath(audio, path.parent)
        document.add_linked_file(Path(audio).absolute().as_uri(), relpath=Path(relative).as_posix(), mimetype=kind)
    for name, of_tier in _tiers(spans).items():
        document.add_tier(name, part=name)
        for span in of_tier:
            document.add_annotation(name, round(1000 * span["start"]), round(1000 * span["end"]), span["label"])
    with written_beside(path) as beside:
        document.to_file(str(beside))


def library_of(format: str) -> Any:
    """The module that a format needs; None for most.

    Raises:
        ImportError: it is not installed; the message has the command that does.
    """
    if format not in _LIBRARIES:
        return None
    package, module = _LIBRARIES[format]
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f'the format {format} needs the package {package}: pip install "modeling-mmer[timelines]".'
        ) from error


_LIBRARIES = {  # package, module
    **{"srt": ("pysubs2", "pysubs2"), "vtt": ("pysubs2", "pysubs2")},
    **{"textgrid": ("praatio", "praatio.textgrid"), "elan": ("pympi-ling", "pympi.Elan")},
}


_TABLES: dict[str, Callable] = {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet}
_TIMED: dict[str, Callable] = {
    "srt": _write_srt,
    "vtt": _write_vtt,
    "textgrid": _write_textgrid,
    "rttm": _write_rttm,
    "audacity": _write_audacity,
    "elan": _write_elan,
}
FORMATS = (*_TABLES, *_TIMED)
ENDINGS = {  # of the files of the formats that mark times
    **{"srt": ".srt", "vtt": ".vtt", "textgrid": ".TextGrid", "rttm": ".rttm", "audacity": ".txt", "elan": ".eaf"},
}
