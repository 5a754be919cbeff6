"""Text with timestamps, as speech recognition returns it → the part that belongs to a window of the recording."""

import math
from dataclasses import dataclass
from typing import Any

from .waveforms import is_missing, is_number

SEGMENT_FORM = '{"text", "timestamp": (start, end)}'


@dataclass(frozen=True)
class Segment:
    """Text that is spoken from `begin` to `end`, in seconds. A segment may have length 0."""

    text: str
    begin: float
    end: float


def read_segments(given: list[Any]) -> list[Segment]:
    """Read segments as speech recognition returns them. Segments without text are left out.

    A time may be None, as in the output of Whisper. The segment then begins at the end of the previous one, or ends at
    the beginning of the next one or the end of the recording.

    Raises:
        ValueError: a segment has another form; the message has its number.
    """
    times = [_times(number, segment) for number, segment in enumerate(given)]
    begins, reached = [], 0.0
    for begin, end in times:
        begins.append(reached if begin is None else max(0.0, begin))
        reached = max(begins[-1], end or 0.0)
    segments = []
    for number, (segment, (_, end)) in enumerate(zip(given, times, strict=True)):
        if end is None:
            later = [begin for begin, _ in times[number + 1 :] if begin is not None]
            end = later[0] if later else math.inf
        text = "" if is_missing(segment["text"]) else segment["text"].strip()
        if text:
            segments.append(Segment(text, begins[number], max(begins[number], end)))
    return segments


def text_within(segments: list[Segment], start: float, stop: float, is_last: bool) -> str | None:
    """The text that is spoken from `start` to `stop`, or None. The last window also gets later text, because
    recognisers may place words after the end of the recording."""
    texts = [
        segment.text
        for segment in segments
        if (segment.begin < stop or is_last) and (segment.end > start or segment.begin >= start)
    ]
    return " ".join(texts) or None


def _times(number: int, segment: Any) -> tuple[float | None, float | None]:
    """The times of a segment, None where they are missing."""
    if not isinstance(segment, dict) or not {"text", "timestamp"} <= segment.keys():
        raise ValueError(f"segment {number} of the text is {segment!r:.60}; give {SEGMENT_FORM}.")
    if not isinstance(segment["text"], str) and not is_missing(segment["text"]):
        raise ValueError(f"the text of segment {number} is {segment['text']!r:.60}; give a string.")
    times = (None, None) if is_missing(segment["timestamp"]) else segment["timestamp"]
    is_pair = isinstance(times, (list, tuple)) and len(times) == 2
    if not is_pair or not all(is_missing(time) or is_number(time) for time in times):
        raise ValueError(f"the timestamp of segment {number} is {times!r:.60}; give (start, end), in seconds.")
    begin, end = (None if is_missing(time) else time for time in times)
    return begin, end
