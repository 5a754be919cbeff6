"""What the page takes: recordings up to a length and a size, texts up to a length. Everything else is refused."""

from pathlib import Path

import soundfile

from ..model.waveforms import read_recording

MOST_MINUTES = 30
MOST_MEGABYTES = 50
MOST_CHARACTERS = 5000
MOST_TURNS = 1000

FORMATS = "WAV, FLAC, MP3, OGG or Opus"
RATE = 16_000  # Hz, of recordings that are converted


class Refused(ValueError):
    """An input that is not judged; the message is a sentence for the user."""


def checked_recording(path: str) -> str:
    """The path of a recording that soundfile reads: this one, or a WAV file beside it if ffmpeg had to decode it.

    Raises:
        Refused: the file is too large or too long, or no recording that can be read.
    """
    if not Path(path).is_file():
        raise Refused("The recording is no longer there. Choose it again.")
    if (size := Path(path).stat().st_size / 2**20) > MOST_MEGABYTES:
        raise Refused(f"The recording has {size:.0f} MB. Give at most {MOST_MEGABYTES} MB, for example as Opus.")
    try:
        seconds = seconds_of(path)
    except (soundfile.LibsndfileError, OSError):
        path = _converted(path)
        seconds = seconds_of(path)
    if seconds > 60 * MOST_MINUTES:
        raise Refused(f"The recording lasts {seconds / 60:.0f} minutes. Give at most {MOST_MINUTES} minutes of it.")
    if seconds == 0:
        raise Refused("The recording is empty: it has no sound at all.")
    return path


def seconds_of(path: str) -> float:
    with soundfile.SoundFile(path) as file:
        return file.frames / file.samplerate


def _converted(path: str) -> str:
    try:
        samples = read_recording(path, RATE, RATE)
    except Exception as error:  # decoders raise many kinds
        raise Refused(f"This file cannot be read as a recording. Give {FORMATS}.") from error
    converted = f"{path}.wav"
    soundfile.write(converted, samples, RATE)
    return converted


def checked_text(text: str | None) -> str:
    """The text without blanks around it.

    Raises:
        Refused: it is too long.
    """
    text = (text or "").strip()
    if len(text) > MOST_CHARACTERS:
        raise Refused(f"The text has {len(text):,} characters. Give at most {MOST_CHARACTERS:,}.")
    return text
