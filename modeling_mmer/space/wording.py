"""An answer in sentences: what comes across, how sure the model is, and where voice and words disagree."""

from collections.abc import Mapping, Sequence

from ..corpora.schema import counted
from ..scoring.answers import Row
from ..scoring.drawing import clock
from .judging import AUDIO, BOTH, TEXT, Answer

WAYS = {AUDIO: "Voice alone", TEXT: "Words alone", BOTH: "Voice and words"}
SURENESS = ((0.9, "very sure"), (0.7, "fairly sure"), (0.5, "not very sure"), (0.0, "unsure"))  # least probability
CAUTION = (
    "It estimates how speech and words come across to others, not what a person feels. It is often wrong, above all "
    "about spontaneous speech. Do not use it for decisions about people."
)
NO_SPEECH = "No speech was found in the recording."


def percent(probability: float) -> str:
    return f"{100 * probability:.0f} %"


def sureness(probability: float) -> str:
    return next(words for least, words in SURENESS if probability >= least)


def judged(answer: Answer) -> str:
    """What the headline is about."""
    about = {AUDIO: "The voice", TEXT: "The words", BOTH: "Voice and words together"}[answer.main_way]
    heard = sum(row["emotion"] is not None for row in answer.over_time)
    return f"{about}, mean of {heard} parts" if heard > 1 else about


def headline(answer: Answer) -> tuple[str, str]:
    """What comes across, and how sure the model is of it: `Anger`, `fairly sure: 78 %`."""
    row = answer.main
    if row is None:
        return "No speech", "There is nothing to judge: no voice was found, and there are no words."
    return row["emotion"].capitalize(), f"{sureness(row['emotion_score'])}: {percent(row['emotion_score'])}"


def comparison(ways: Mapping[str, Row]) -> str | None:
    """A sentence on whether voice and words agree; None if only one of them was judged."""
    if not {AUDIO, TEXT, BOTH} <= ways.keys():
        return None
    voice, words, both = (ways[way] for way in (AUDIO, TEXT, BOTH))
    if voice["emotion"] == words["emotion"]:
        said = f"Voice and words agree: each alone says {voice['emotion']}."
        return said if both["emotion"] == voice["emotion"] else f"{said} Together they say {_sure(both)}."
    said = f"Voice and words disagree: the voice alone says {_sure(voice)}, the words alone {_sure(words)}."
    return f"{said} Together they say {_sure(both)}."


def notes(answer: Answer) -> list[str]:
    """What else a reader needs to know."""
    said = []
    if answer.no_speech:
        said.append(f"{NO_SPEECH} Only the words are judged." if answer.ways else NO_SPEECH)
    if answer.transcript is not None:
        said.append(
            f"A speech recogniser heard: “{answer.transcript}”" if answer.transcript else "No words were heard."
        )
    return said


def _sure(row: Row) -> str:
    return f"{row['emotion']} ({percent(row['emotion_score'])})"


def span(row: Row) -> str:
    """`0:15.2 to 0:17.0`."""
    return f"{clock(row['start'], tenths=True)} to {clock(row['end'], tenths=True)}"


def part(row: Row) -> str:
    """A part of a recording: `0:15.2 to 0:17.0: anger, 78 %`."""
    return f"{span(row)}: {'no speech' if row['emotion'] is None else _named(row)}"


def _named(row: Row) -> str:
    return f"{row['emotion']}, {percent(row['emotion_score'])}"


def speakers(rows: Sequence[Row], emotions: Sequence[str]) -> list[str]:
    """A sentence for each speaker of a recording that is judged over time."""
    names = dict.fromkeys(row["speaker"] for row in rows)
    said = {name: over_time([row for row in rows if row["speaker"] == name], emotions) for name in names}
    return [f"{(name or 'over time').capitalize()}: {sentence}" for name, sentence in said.items()]


def over_time(rows: Sequence[Row], emotions: Sequence[str]) -> str:
    """The parts of a speaker in a sentence: `8 parts: sadness in 5, neutral in 2, no speech in 1.`"""
    heard = [row["emotion"] for row in rows]
    counts = sorted(((heard.count(emotion), emotion) for emotion in emotions if emotion in heard), reverse=True)
    listed = [f"{emotion} in {count}" for count, emotion in counts]
    listed += [f"no speech in {silent}"] if (silent := heard.count(None)) else []
    return f"{counted(len(rows), 'part')}: {', '.join(listed)}."
