"""The embedded demo corpus: synthetic utterances for trying things out. Its data card is `demo_data/README.md`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .folder import load_folder
from .schema import Corpus

DEMO_FOLDER = Path(__file__).parent / "demo_data"
DEMO_SCALE = (1.0, 7.0)
SYNTHETIC = "synthetic: a speech synthesizer read sentences from templates; this says nothing about human emotion"


def load_demo(*, emotion_labels: Sequence[str], label_map: Mapping[str, str] | None = None) -> Corpus:
    """Loads the demo corpus, whose dimensions are on the scale 1-7."""
    corpus = load_folder(DEMO_FOLDER, emotion_labels=emotion_labels, label_map=label_map, label_scale=DEMO_SCALE)
    caveats = [SYNTHETIC, *corpus.caveats]
    return replace(corpus, name="demo", caveats=caveats, license="apache-2.0", language="en")
