"""Text with places in time, as speech recognition gives it → the part of it that belongs to a window of its recording.

This file travels with checkpoints: it imports nothing but others that do.
"""

import math
from dataclasses import dataclass
from typing import Any

from .waveforms import is_missing, is_number

SEGMENT_FORM = '{"text", "timestamp": (start, end)}'


@dataclass(frozen=True)
class Segment:
    """Words that are said from `begin` to `end`, in seconds; a segment of no length is said at its `begin`."""

    text: str
    begin: float
    end: float


def read_segments(given: list[Any]) -> list[Segment]:
    """Segments as speech recognition gives them, without those that have no text.

    A time may be None: Whisper leaves out those that it did not hear. A segment then begins where the one before it
    ended, and ends where the next one begins, or with the recording.

    Raises:
        ValueError: a segment is of another form; the message names it by its number.
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
    """What is said from `start` to `stop`, or None. To the last window belongs what is said after it, too: recognisers
    place words beyond the end."""
    said = [
        segment.text
        for segment in segments
        if (segment.begin < stop or is_last) and (segment.end > start or segment.begin >= start)
    ]
    return " ".join(said) or None


def _times(number: int, segment: Any) -> tuple[float | None, float | None]:
    """A segment's times, None where there is none."""
    if not isinstance(segment, dict) or not {"text", "timestamp"} <= segment.keys():
        raise ValueError(f"text is a list of something else: segment {number} is {segment!r:.60}; give {SEGMENT_FORM}.")
    if not isinstance(segment["text"], str) and not is_missing(segment["text"]):
        raise ValueError(f"the text of segment {number} is {segment['text']!r:.60}; give a string.")
    times = (None, None) if is_missing(segment["timestamp"]) else segment["timestamp"]
    if not isinstance(times, (list, tuple)) or len(times) != 2:
        raise ValueError(f"the timestamp of segment {number} is {times!r:.60}; give (start, end), in seconds.")
    begin, end = (None if is_missing(time) else time for time in times)
    if not all(time is None or is_number(time) for time in (begin, end)):
        raise ValueError(f"the timestamp of segment {number} is {times!r:.60}; give (start, end), in seconds.")
    return begin, end
