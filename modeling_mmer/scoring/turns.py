"""Who speaks when, as diarization and speech recognition write it → the turns of a recording.

Read are RTTM, the JSON of whisperX, Whisper, FunASR and pyannote, the text of pyannote's `Annotation`, and tables (CSV,
JSON lines, Parquet) with the columns `start` and `end` and, if known, `speaker`, `text`, `channel` and `file`.

What is no turn is refused with its file and line, because a turn at a wrong time would be judged without anyone
noticing.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from ..corpora.recordings import AUDIO_SUFFIXES
from ..corpora.tables import SUFFIXES, decode, read_table

FIELDS = ("start", "end", "speaker", "text", "channel", "file")
FORMS = "RTTM, whisperX's, Whisper's, FunASR's or pyannote's JSON, or a table with the columns start and end"

_COLUMNS = {  # field -> usual names of its column, or key of JSON
    "start": ("start", "start_time", "begin", "onset"),
    "end": ("end", "end_time", "stop", "offset"),
    "speaker": ("speaker", "spk", "speaker_id"),
    "text": ("text", "transcript", "transcription", "sentence"),
    "channel": ("channel",),
    "file": ("file", "file_name", "audio", "recording", "uri"),
}
_UNITS = {"": 1.0, "_s": 1.0, "_ms": 0.001}  # by how the name of a column ends
_HOLDERS = ("sentence_info", "segments", "diarization", "speaker_diarization", "chunks", "content")
_ENVELOPES = ("output", "result")  # what a service puts around its answer
_CLOCK = re.compile(r"(?:(?P<hours>\d+):)?(?P<minutes>[0-5]?\d):(?P<seconds>[0-5]?\d(?:[.,]\d+)?)")
_ANNOTATION = re.compile(r"\[\s*(?P<start>[\d:.]+)\s*-->\s*(?P<end>[\d:.]+)\s*\]\s*(?P<track>\S+)\s+(?P<speaker>.+)")
_RTTM_FIELDS = 9  # a tenth, the signal lookahead, is left out by some
_RTTM_FORM = "SPEAKER <file> <channel> <start> <duration> <NA> <NA> <speaker> <NA> <NA>"
_OTHER_RTTM = (
    *("LEXEME", "NON-LEX", "NON-SPEECH", "SEGMENT", "NOSCORE", "NO_RT_METADATA", "FILLER", "EDIT", "SU", "IP", "CB"),
    *("A/P", "SPKR-INFO"),
)
_UNKNOWN = ("", "<NA>")

Turn = dict[str, Any]


def read_turns(path: str | Path) -> list[Turn]:
    """The turns of a file, in the order of their recordings and starts.

    Returns: dicts with the keys of `FIELDS`, None where the file does not say:
        start, end: in seconds of the recording, start < end.
        speaker, text: strings.
        channel: the channel of the recording on which the turn is heard, counted from 0.
        file: the recording's name in a file about several.

    Raises:
        ValueError: the file cannot be read, has no turn, or a line of it is none; with the line and what would fix it.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".rttm":
        turns = _from_rttm(path)
    elif suffix == ".json":
        turns = _from_json(path)
    elif suffix == ".txt":
        turns = _from_annotation(path)
    elif suffix in SUFFIXES:
        turns = _from_table(path)
    else:
        raise ValueError(f"{path}: turns are not read from {suffix or 'files without a suffix'}; give {FORMS}.")
    if not turns:
        raise ValueError(f"{path} has no turn; leave it out, or give a file with at least one ({FORMS}).")
    first = {file: i for i, file in enumerate(dict.fromkeys(turn["file"] for turn in turns))}
    return sorted(turns, key=lambda turn: (first[turn["file"]], turn["start"], turn["end"]))


def turns_of(turns: list[Turn], recording: str | Path) -> list[Turn]:
    """The turns whose `file` is the name of this recording, with or without its folder and suffix, or with another one:
    diarization is often given a converted copy."""
    path = Path(recording)
    return [turn for turn in turns if turn["file"] and _without_suffix(turn["file"]) in (path.name, path.stem)]


def _without_suffix(file: str) -> str:
    """`calls/2024.01.05.wav` and `2024.01.05` → `2024.01.05`."""
    path = Path(file)
    return path.stem if path.suffix.lower() in AUDIO_SUFFIXES else path.name


# ── lines ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _from_rttm(path: Path) -> list[Turn]:
    """Lines of the type SPEAKER; comments (`;;`) and lines of the other types are no turns.

    The channel is 1 in most files, of stereo recordings too. It is taken seriously only where a recording has several.
    """
    turns, channels = [], []
    for number, line in _lines(path):
        fields = line.split()
        if line.startswith(";;") or fields[0] in _OTHER_RTTM:
            continue
        where = f"{path}, line {number}"
        if fields[0] != "SPEAKER" or len(fields) < _RTTM_FIELDS:
            raise ValueError(f"{where} is no line of RTTM ({_short(line)}); write {_RTTM_FORM}.")
        start, duration = (_seconds(field, where) for field in fields[3:5])
        turn = {"start": start, "end": start + duration, "speaker": fields[7], "file": fields[1]}
        turns.append(_turn(turn, where))
        channels.append(_rttm_channel(fields[2], where))
    several = Counter(
        file for file, _ in {(turn["file"], channel) for turn, channel in zip(turns, channels, strict=True)}
    )
    return [
        turn | {"channel": channel if several[turn["file"]] > 1 else None}
        for turn, channel in zip(turns, channels, strict=True)
    ]


def _rttm_channel(channel: str, where: str) -> int:
    """The channel, counted from 0. RTTM counts from 1, and older tools write A and B."""
    number = {"A": 1, "B": 2}.get(channel, int(channel) if channel.isdecimal() else 0)
    if number < 1:
        raise ValueError(f"{where}: there is no channel {channel!r}; RTTM counts the channels of a recording from 1.")
    return number - 1


def _from_annotation(path: Path) -> list[Turn]:
    """The text of pyannote's `Annotation`: `[ 00:00:01.000 -->  00:00:02.250] A SPEAKER_01`."""
    turns = []
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        if not (found := _ANNOTATION.fullmatch(line)):
            raise ValueError(
                f"{where} is no turn of pyannote ({_short(line)}); write [00:00:01.000 --> 00:00:02.250] TRACK SPEAKER."
            )
        turns.append(_turn({name: found[name] for name in ("start", "end", "speaker")}, where))
    return turns


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, stripped, with their numbers."""
    for number, line in enumerate(decode(path, []).splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


# ── table ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _from_table(path: Path) -> list[Turn]:
    table = read_table(path)
    columns: dict[str, tuple[str, float]] = {}  # field -> its column, and the unit of its values
    for name in table.columns:
        plain = re.sub(r"[\s-]", "_", name.lower())
        for field, names in _COLUMNS.items():
            for ending, unit in _UNITS.items() if field in ("start", "end") else (("", 1.0),):
                if plain.endswith(ending) and plain.removesuffix(ending) in names:
                    columns.setdefault(field, (name, unit))
    if missing := [field for field in ("start", "end") if field not in columns]:
        raise ValueError(
            f"{path} has no column {' and none '.join(missing)}, only {', '.join(table.columns)}; the seconds at which "
            "each turn starts and ends have to be in columns named start and end."
        )
    turns = []
    for i, row in enumerate(table.to_dict("records"), start=1):
        where = f"{path}, row {i}"
        values = {field: row[name] for field, (name, _) in columns.items()}
        times = {field: _seconds(_known(values[field]), where) * columns[field][1] for field in ("start", "end")}
        turns.append(_turn(values | times, where))
    return turns


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _from_json(path: Path) -> list[Turn]:
    try:
        data = json.loads(decode(path, []))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}; a file with one object per line is named .jsonl.") from error
    return list(_of_document(data, str(path)))


def _of_document(data: Any, where: str, file: str | None = None) -> Iterator[Turn]:
    """Turns of a list of turns, of an object that holds one, or of a list of such objects, one per recording."""
    if isinstance(data, list) and any(_holder(item) for item in data):
        for i, item in enumerate(data, start=1):
            name = item.get("key") if isinstance(item, dict) and len(data) > 1 else None
            yield from _of_document(item, f"{where}, recording {i}", name)
    elif isinstance(data, list):
        yield from _of_list(data, where, 1.0, file)
    elif (key := _holder(data)) in _ENVELOPES:
        yield from _of_document(data[key], where, file)
    elif key is not None:
        if not isinstance(data[key], list):
            raise ValueError(f"{where}: {key} is {_short(data[key])}; it has to be a list of turns.")
        unit = 0.001 if key == "sentence_info" else 1.0  # FunASR counts milliseconds
        yield from _of_list(data[key], f"{where}, {key}", unit, file or data.get("uri"))
    else:
        found = f"has the keys {', '.join(list(data)[:8])}" if data and isinstance(data, dict) else f"is {_short(data)}"
        raise ValueError(f"{where} {found}, and none with turns; give {FORMS}.")


def _holder(data: Any) -> str | None:
    """The key of an object that holds its turns."""
    if not isinstance(data, dict):
        return None
    envelopes = [key for key in _ENVELOPES if isinstance(data.get(key), (dict, list))]
    return next((key for key in (*_HOLDERS, *envelopes) if key in data), None)


def _of_list(items: list[Any], where: str, unit: float, file: str | None) -> Iterator[Turn]:
    for i, item in enumerate(items, start=1):
        here = f"{where}, turn {i}"
        if not isinstance(item, dict):
            raise ValueError(f"{here} is {_short(item)}; it has to be an object with start and end.")
        for values in _by_speaker(_flat(item, here)):
            found = {field: _first(values, names) for field, names in _COLUMNS.items()}
            times = {field: _seconds(found[field], here) * unit for field in ("start", "end")}
            yield _turn({"file": file} | {k: v for k, v in found.items() if v is not None} | times, here)


def _flat(item: dict[str, Any], where: str) -> dict[str, Any]:
    """A turn whose times are in an object or a list of two, as pyannote and transformers write them."""
    if isinstance(item.get("segment"), dict):
        return {"speaker": item.get("label")} | item | item["segment"]
    if "start" not in item and isinstance(item.get("timestamp"), list):
        if len(item["timestamp"]) != 2:
            raise ValueError(f"{where} has the timestamp {_short(item['timestamp'])}; write [start, end].")
        return item | dict(zip(("start", "end"), item["timestamp"], strict=True))
    return item


def _by_speaker(segment: dict[str, Any]) -> list[dict[str, Any]]:
    """A segment of whisperX: one turn per speaker of its words, where they have several.

    A word without a speaker belongs to the one before it. A word without times, such as a number, takes none away.
    """
    words = segment.get("words")
    if not isinstance(words, list) or not all(isinstance(word, dict) for word in words):
        return [segment]
    speakers = [word.get("speaker") for word in words]
    known = [speaker for speaker in speakers if speaker is not None]
    if not known:
        return [segment]
    if len(set(known)) == 1:
        return [segment | {"speaker": segment.get("speaker") or known[0]}]
    current, labelled = known[0], []
    for word, speaker in zip(words, speakers, strict=True):
        current = current if speaker is None else speaker
        labelled.append((current, word))
    turns = []
    for speaker, group in groupby(labelled, key=lambda pair: pair[0]):
        said = [word for _, word in group]
        starts = [word["start"] for word in said if word.get("start") is not None]
        ends = [word["end"] for word in said if word.get("end") is not None]
        if not starts or not ends:  # these words cannot be placed, so the segment is not divided
            return [segment | {"speaker": segment.get("speaker") or max(known, key=known.count)}]
        text = " ".join(str(word.get("word", word.get("text", ""))).strip() for word in said)
        turns.append({"start": min(starts), "end": max(ends), "speaker": speaker, "text": text})
    return turns


def _first(values: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


# ── one turn ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _turn(values: dict[str, Any], where: str) -> Turn:
    """A turn with all fields, checked.

    Raises:
        ValueError: it does not end after it starts.
    """
    turn = {field: _known(values.get(field)) for field in FIELDS}
    start, end = (_seconds(turn[name], where) for name in ("start", "end"))
    if end <= start:
        raise ValueError(
            f"{where}: the turn starts at {start:g} s and ends at {end:g} s; give it an end after its start, or remove "
            "it."
        )
    names = {name: None if turn[name] is None else _name(turn[name]) for name in ("speaker", "text", "file")}
    return turn | names | {"start": start, "end": end, "channel": _channel(turn["channel"], where)}


def _channel(value: Any, where: str) -> int | None:
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if number < 0 or number != int(number):
        raise ValueError(f"{where}: the channel is {_short(value)}; write its number, from 0.")
    return int(number)


def _name(value: Any) -> str:
    """A name or text as a string; a number that pandas made a float without its `.0`."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _known(value: Any) -> Any:
    """The value, or None for one that is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return None if isinstance(value, str) and value.strip() in _UNKNOWN else value


def _seconds(value: Any, where: str) -> float:
    """A time in seconds, from a number or `hours:minutes:seconds`.

    Raises:
        ValueError: it is no time.
    """
    if isinstance(value, str) and (clock := _CLOCK.fullmatch(value.strip())):
        parts = [float((clock[name] or "0").replace(",", ".")) for name in ("hours", "minutes", "seconds")]
        return parts[0] * 3600 + parts[1] * 60 + parts[2]
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        shown = "missing" if value is None else f"{_short(value)}"
        raise ValueError(f"{where}: a time is {shown}; write seconds from the start of the recording, such as 12.5.")
    return seconds


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(text) if len(text) <= 60 else f"{text[:60]!r} …"
