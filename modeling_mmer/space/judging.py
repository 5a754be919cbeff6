"""A recording, a text or both → what the model answers: from each alone, from both, and over time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..scoring import Scorer
from ..scoring.inputs import InputError, by_channels, with_turns
from ..scoring.speech import has_speech
from ..scoring.transcripts import Transcriber
from ..scoring.turns import read_turns
from .limits import MOST_MINUTES, MOST_TURNS, Refused, checked_recording, checked_text, seconds_of
from .sound import has_a_speaker_per_channel, peaks_of

LONG = 30.0  # seconds: longer recordings are also judged over time
PART, MOST_PARTS = 5.0, 120  # seconds of a part, which are longer where a recording would have more parts
AT_ONCE = 16  # parts between two reports of progress
AUDIO, TEXT, BOTH = "audio", "text", "audio_text"
SPEAKERS = ("left channel", "right channel")

Row = dict[str, Any]
Report = Callable[[int, int, str], None]
Channels = Literal["auto", "mix", "split"]


@dataclass
class Answer:
    """What the model answers.

    ways: `audio`, `text`, `audio_text`, those that there are → its row, as of `mmer predict`. Without speech there is
        no row of the audio.
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
    def main(self) -> Row | None:
        """The row of everything that was given."""
        return next((self.ways[way] for way in (BOTH, AUDIO, TEXT) if way in self.ways), None)


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
        if transcribe and self.transcriber and not text:
            report(0, 1, "Listening for words")
            parts = self._transcribed(parts)
            heard = [row["text"] for row in parts or self._transcribed([{"audio": path}]) if row.get("text")]
            text = answer.transcript = " ".join(_plain(one) for one in heard)
        report(0, len(parts) + 1, "Listening")
        answer.ways = self._ways(path, text)
        answer.no_speech = answer.ways[AUDIO]["speech"] is False
        if answer.no_speech:
            answer.ways = {TEXT: answer.ways[TEXT]} if text else {}
        for done in range(0, len(parts), AT_ONCE):
            report(done + 1, len(parts) + 1, "Listening to each part")
            answer.over_time += _without_faults(self.scorer.stream(parts[done : done + AT_ONCE]))
        return answer

    def _one(self, row: Row) -> Row:
        return _without_faults(self.scorer.stream([row]))[0]

    def _ways(self, path: str, text: str) -> dict[str, Row]:
        """The same input from the audio alone and, with a text, from the text alone and from both."""
        ways = {AUDIO: {"audio": path}}
        if text:
            ways |= {TEXT: {"text": text}, BOTH: {"audio": path, "text": text}}
        return dict(zip(ways, _without_faults(self.scorer.stream(ways.values())), strict=True))

    def _parts(self, path: str, seconds: float, channels: Channels, turns: str | None) -> list[Row]:
        """The parts of a recording that are judged for themselves: its turns or, of a long one, parts of a few
        seconds of each speaker."""
        split = channels == "split" or (channels == "auto" and has_a_speaker_per_channel(path))
        if turns is not None:
            return _turns(path, turns, split)
        if seconds <= LONG:
            return []
        rows: Iterable[Row] = [{"id": "recording", "audio": path}]
        if split:
            rows = ({**row, "speaker": _speaker(row.get("channel"))} for row in by_channels(rows))
        length = max(PART, seconds / MOST_PARTS)
        starts = np.arange(0, seconds - 0.5, length)  # what is left of less than half a second says nothing
        spans = [{"start": float(start), "end": min(float(start) + length, seconds)} for start in starts]
        return [row | span for row in rows for span in spans]

    def _transcribed(self, rows: Sequence[Row]) -> list[Row]:
        with ThreadPoolExecutor(1, "mmer-hear") as pool:
            return list(self.transcriber.fill(rows, pool))


def _speaker(channel: int | None) -> str | None:
    if channel is None:
        return None
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
