"""Draws `docs/timeline.svg`, the example of the guide to timelines: an invented call between two voices of the demo
corpus."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from modeling_mmer.corpora.demo import DEMO_FOLDER
from modeling_mmer.plots import plot_timeline, save

PICTURE = Path(__file__).parents[1] / "docs" / "timeline.svg"
RATE = 16000
TURNS = (  # speaker, start, end, emotion, score, valence, arousal
    ("ANN", 0.0, 4.2, "neutral", 0.81, 4.1, 3.2),
    ("BEN", 4.5, 9.8, "sadness", 0.64, 2.4, 2.6),
    ("ANN", 9.5, 12.1, "surprise", 0.55, 4.6, 5.2),
    ("BEN", 12.4, 19.7, "anger", 0.83, 1.8, 6.1),
    ("ANN", 19.2, 23.0, "neutral", 0.58, 3.4, 4.0),
    ("BEN", 23.4, 26.0, None, None, None, None),
    ("BEN", 26.0, 31.5, "anger", 0.47, 2.6, 4.9),
    ("ANN", 31.9, 38.6, "happiness", 0.72, 5.7, 4.8),
    ("BEN", 38.9, 44.0, "happiness", 0.91, 6.1, 5.3),
)


def rows() -> list[dict[str, Any]]:
    """The call as rows of `mmer predict`; in one turn there is no speech."""
    return [
        {
            "id": f"call.wav#{start:g}-{end:g}",
            "audio": "call.wav",
            "start": start,
            "end": end,
            "speaker": speaker,
            "speech": emotion is not None,
            "seconds": round(end - start, 3),
            "emotion": emotion,
            "emotion_score": score,
            "valence": valence,
            "arousal": arousal,
            "error": None,
        }
        for speaker, start, end, emotion, score, valence, arousal in TURNS
    ]


def sound() -> np.ndarray:
    """Samples (N,) in which recordings of the demo corpus fill the turns that have speech."""
    clips = [soundfile.read(path)[0] for path in sorted((DEMO_FOLDER / "audio").glob("*.opus"))[:8]]
    samples = np.zeros(round(RATE * max(end for _, _, end, *_ in TURNS)))
    for i, (_, start, end, emotion, *_) in enumerate(TURNS):
        if emotion is not None:
            place = slice(round(RATE * start), round(RATE * end))
            clip = clips[i % len(clips)]
            samples[place] += np.resize(0.1 * clip / clip.std(), place.stop - place.start)
    return samples


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    save(plot_timeline(rows(), (sound(), RATE), label_scale=(1, 7)), path)
