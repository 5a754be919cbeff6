"""Inputs to try the page with, from the demo corpus: a synthesizer's voices, of whom nobody needs to be asked."""

from pathlib import Path

import numpy as np
import soundfile

from ..corpora.demo import DEMO_FOLDER
from ..model.waveforms import read_recording

AUDIO = DEMO_FOLDER / "audio"
RATE = 16_000  # Hz
PAUSE = 0.6  # seconds between the turns of the call
CALL = {  # the turns of two speakers: both are calm at first, then one grows angry and the other sad
    "espeak_alicia": ("test_005", "test_011", "test_059", "test_035", "test_065", "test_017", "test_023", "test_053"),
    "espeak_m8": ("test_066", "test_042", "test_054", "test_000", "test_018", "test_048", "test_060", "test_012"),
}

Example = tuple[str, str | None, str]  # what it is called, its recording and its text


def make_examples(folder: Path) -> list[Example]:
    """The examples; the call is put together in `folder`."""
    call = folder / "call.opus"
    soundfile.write(call, make_call(), RATE, format="OGG", subtype="OPUS")
    return [
        ("A sad sentence, spoken sadly", str(AUDIO / "test_001.opus"), "I am so sad that nobody came to dinner."),
        ("An everyday sentence, spoken sharply", str(AUDIO / "validation_042.opus"), "She will call me at four."),
        ("A voice without its words", str(AUDIO / "test_009.opus"), ""),
        ("A text without a voice", None, "How dare they, they lost my order."),
        ("A call of two speakers", str(call), ""),
    ]


def make_call() -> np.ndarray:
    """A stereo call (samples, 2) of less than a minute: a speaker on each channel, who speak in turn."""
    pause = np.zeros((round(PAUSE * RATE), 2), np.float32)
    parts = []
    for names in zip(*CALL.values(), strict=True):
        for channel, name in enumerate(names):
            samples = read_recording(str(AUDIO / f"{name}.opus"), RATE, RATE)
            turn = np.zeros((len(samples), 2), np.float32)
            turn[:, channel] = samples
            parts += [turn, pause]
    return np.concatenate(parts)
