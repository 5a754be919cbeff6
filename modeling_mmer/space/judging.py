"""A recording, a text or both → what the model answers: from each alone, from both, and over time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..scoring import Scorer
from ..scoring.inputs import InputError, with_turns
from ..scoring.speech import has_speech
from ..scoring.transcripts import Transcriber
from ..scoring.turns import read_turns
from .limits import MOST_MINUTES, MOST_TURNS, Refused, checked_recording, checked_text, seconds_of
from .sound import has_a_speaker_per_channel, levels_of, parts_of, peaks_of

LONG = 30.0  # seconds: longer recordings are also judged over time
AT_ONCE = 16  # rows between two reports of progress
AUDIO, TEXT, BOTH = "audio", "text", "audio_text"
MODALITIES = {AUDIO: ["audio"], TEXT: ["text"], BOTH: ["audio", "text"]}
TIMES, SCORES = ("start", "end", "seconds"), ("emotion_score", "sentiment_score")
SPEAKERS = ("left channel", "right channel")

Row = dict[str, Any]
Report = Callable[[int, int, str], None]
Channels = Literal["auto", "mix", "split"]


@dataclass
class Answer:
    """What the model answers.

    ways: `audio`, `text`, `audio_text`, those that there are → its row, as of `mmer predict`; of a recording that is
        judged over time, the mean of its parts. Without speech there is no row of the audio.
    over_time: rows with start and end; empty for short recordings without turns.
    seconds: length of the recording; None without one.
    peaks: (channels, points) of its waveform.
    no_speech: whether there is a recording, and nobody speaks in it.
    transcript: the text that a recogniser heard.
    """

    ways: dict[str, Row] = field(default_factory=dict)
    over_time: list[Row] = field(default_factory=list)
    seconds: float | None = None
    peaks: np.ndarray | None = None
    no_speech: bool = False
    transcript: str | None = None

    @property
    def main_way(self) -> str | None:
        """The way in which everything was judged that was given."""
        return next((way for way in (BOTH, AUDIO, TEXT) if way in self.ways), None)

    @property
    def main(self) -> Row | None:
        return self.ways.get(self.main_way)


class Judge:
    """Judges one input after the other, with a scorer that it loads once.

    Args:
        model: a folder or a hub name; by default the model that comes with the package.
        transcribe: a speech recogniser, a folder or a hub name; None: there is none.

    Raises:
        OSError, ValueError: one of them cannot be loaded.
    """

    def __init__(self, model: str | None = None, transcribe: str | None = None):
        self.scorer = Scorer(model)
        self.config = self.scorer.config
        self.transcriber = None
        if transcribe is not None:
            pipe = self.scorer.pipe
            self.transcriber = Transcriber(transcribe, pipe.device, pipe.input_reader(), LONG, 8, has_speech)

    def judge(
        self,
        recording: str | None,
        text: str | None = None,
        channels: Channels = "auto",
        turns: str | None = None,
        transcribe: bool = False,
        report: Report = lambda done, total, what: None,
    ) -> Answer:
        """Judge an input.

        Args:
            recording: a path.
            channels: `split`: each channel is a speaker; `auto`: those of a stereo recording are, if they differ.
            turns: a file that says who speaks when, as [`read_turns`] reads it.
            transcribe: whether a recording without text gets the words that the recogniser hears.
            report: called with the parts that are done, their number and what is done next.

        Raises:
            Refused: the input cannot be judged; the message is for the user.
        """
        text = checked_text(text)
        if not recording:
            if not text:
                raise Refused("Give a recording, a text, or both.")
            return Answer({TEXT: self._one({"text": text})})
        path = checked_recording(recording)
        answer = Answer(seconds=seconds_of(path), peaks=peaks_of(path))
        parts = self._parts(path, answer.seconds, channels, turns)
        whole = parts or ([{"audio": path}] if answer.seconds <= LONG else [])
        if transcribe and self.transcriber and not text:
            report(0, 1, "Listening for words")
            with ThreadPoolExecutor(1, "mmer-hear") as pool:
                whole = list(self.transcriber.fill(whole, pool))
            answer.transcript = " ".join(_plain(row["text"]) for row in whole if row.get("text"))
        judged = self._judged(_asked(whole, text), report)
        heard = [row for row, way in judged if way == AUDIO and row["speech"] is not False]
        answer.no_speech = not heard
        answer.ways = _ways(judged)
        if parts:
            has_words = any(part.get("text") for part in whole)
            answer.over_time = [row for row, way in judged if way == (BOTH if has_words else AUDIO)]
        return answer

    def _one(self, row: Row) -> Row:
        return _without_faults(self.scorer.stream([row]))[0]

    def _judged(self, asked: Sequence[tuple[Row, str]], report: Report) -> list[tuple[Row, str]]:
        judged = []
        for done in range(0, len(asked), AT_ONCE):
            some = asked[done : done + AT_ONCE]
            report(done, len(asked), f"Listening: {done} of {len(asked)} parts" if done else "Listening")
            rows = _without_faults(self.scorer.stream(row for row, _ in some))
            judged += zip(rows, (way for _, way in some), strict=True)
        return judged

    def _parts(self, path: str, seconds: float, channels: Channels, turns: str | None) -> list[Row]:
        """The parts of a recording that are judged for themselves: its turns or, of a long one, what each speaker
        says between pauses."""
        split = channels == "split" or (channels == "auto" and has_a_speaker_per_channel(path))
        if turns is not None:
            return _turns(path, turns, split)
        if seconds <= LONG:
            return []
        levels = levels_of(path)
        if not split:
            return [{"audio": path, "start": start, "end": end} for start, end in parts_of(levels.max(axis=0))]
        return [
            {"audio": path, "channel": channel, "speaker": _speaker(channel), "start": start, "end": end}
            for channel in range(len(levels))
            for start, end in parts_of(levels[channel])
        ]


def _asked(parts: Sequence[Row], text: str) -> list[tuple[Row, str]]:
    """The rows to judge, and the way of each: every part from its audio and, with a text, from both; and the text."""
    asked = []
    has_words = any(part.get("text") for part in parts)
    for part in parts:
        words = part.get("text") if has_words else text
        asked.append(({**part, "text": None}, AUDIO))
        if words or has_words:
            asked.append(({**part, "text": words}, BOTH))
        if words and has_words:
            asked.append(({"text": _plain(words), "start": part.get("start"), "end": part.get("end")}, TEXT))
    return asked + ([({"text": text}, TEXT)] if text and not has_words else [])


def _ways(judged: Sequence[tuple[Row, str]]) -> dict[str, Row]:
    """The row of each way: its only one, or the mean of its parts."""
    ways = {}
    for way in (AUDIO, TEXT, BOTH):
        rows = [row for row, of in judged if of == way and row["modalities"] == MODALITIES[way]]
        if rows:
            ways[way] = rows[0] if len(rows) == 1 else mean_of(rows)
    return ways


def mean_of(rows: Sequence[Row]) -> Row:
    """The mean of rows with times, weighted by how long each lasts, with the label that is likeliest then."""
    seconds = [row["end"] - row["start"] for row in rows]
    mean = {**rows[0], "start": None, "end": None, "speaker": None, "text": None, "seconds": sum(seconds)}
    numbers = [name for name, value in rows[0].items() if isinstance(value, float) and name not in TIMES]
    mean |= {name: float(np.average([row[name] for row in rows], weights=seconds)) for name in numbers}
    for task in ("emotion", "sentiment"):
        scores = {n.removeprefix(f"{task}_"): mean[n] for n in numbers if n.startswith(f"{task}_") and n not in SCORES}
        if scores:
            mean[task] = max(scores, key=scores.get)
            mean |= {f"{task}_score": scores[mean[task]]} if f"{task}_score" in mean else {}
    return mean


def _speaker(channel: int) -> str:
    return SPEAKERS[channel] if channel < len(SPEAKERS) else f"channel {channel + 1}"


def _turns(path: str, turns: str, split: bool) -> list[Row]:
    try:
        read = read_turns(turns)
        rows = list(with_turns([{"audio": path}], read, split))
    except (ValueError, FileNotFoundError) as error:
        why = "its turns are of other recordings" if isinstance(error, InputError) else str(error)
        raise Refused(f"The file of turns cannot be used: {why.replace(turns, 'it')}") from error
    if len(rows) > MOST_TURNS or sum(row["end"] - row["start"] for row in rows) > 2 * 60 * MOST_MINUTES:
        raise Refused(f"The file has {len(rows):,} turns. Give at most {MOST_TURNS:,}, of {2 * MOST_MINUTES} minutes.")
    return rows


def _without_faults(results: Iterator[Row]) -> list[Row]:
    """Results, without the path of the recording, which is a temporary one.

    Raises:
        Refused: one of them has an error.
    """
    rows = []
    for row in results:
        if row["error"]:
            raise Refused(f"This cannot be judged: {row['error'].replace(row['audio'] or chr(0), 'the recording')}")
        rows.append({name: value for name, value in row.items() if name not in ("id", "audio")})
    return rows


def _plain(text: str | list[Mapping[str, Any]]) -> str:
    return text if isinstance(text, str) else " ".join(segment["text"] for segment in text)
