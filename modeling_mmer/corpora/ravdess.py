"""RAVDESS: 24 actors say 2 sentences in eight emotions (Livingstone and Russo, 2018), known by their file names.

The text says nothing of the emotion: text alone must sit at chance. `calm` is an emotion of its own here;
`--label_map calm=neutral` is usual for four classes.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from .layout import count
from .rows import build_corpus
from .schema import Corpus, CorpusError, counted
from .speaker_splits import split_by_speaker

EMOTIONS = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")  # 01 to 08
SENTENCES = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
SUFFIXES = (".wav", ".flac")
# modality, vocal channel, emotion, intensity, sentence, repetition, actor
NAME = re.compile(r"(?P<modality>0[1-3])-(?P<channel>0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(?P<actor>\d\d)$")
AUDIO_ONLY, SPEECH = "03", "01"


def load_ravdess(directory: str | Path, **labelling: Any) -> Corpus:
    """Loads the spoken recordings of RAVDESS, wherever they lie below `directory` (`Actor_01/03-01-….wav`).

    Raises:
        CorpusError: there is no recording with such a name; whatever `build_corpus` finds wrong with the rows.
    """
    root = Path(directory).expanduser().absolute()
    if not root.is_dir():
        raise CorpusError(f"no such folder: {root}")
    rows, left_aside, repeated = {}, Counter(), []
    for path in sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES):
        match = NAME.match(path.stem)
        if match is None:
            left_aside["with another name"] += 1
        elif match["channel"] != SPEECH:
            left_aside["of song"] += 1
        elif match["modality"] != AUDIO_ONLY:
            left_aside["of a video"] += 1
        elif path.stem in rows:  # one distribution holds everything twice
            repeated.append(path.stem)
        else:
            rows[path.stem] = {
                "utterance_id": path.stem,
                "audio": str(path),
                "text": SENTENCES[match[5]],
                "emotion": EMOTIONS[int(match[3]) - 1],
                "speaker": match["actor"],
            }
    if not rows:
        raise CorpusError(f"{root} holds no spoken recording of RAVDESS: looked for Actor_NN/03-01-EE-II-SS-RR-AA.wav")
    table = pd.DataFrame(list(rows.values()))
    table["split"], notices = split_by_speaker(table["speaker"])
    notices += [
        counted(n, f"recording {what} is not read", f"recordings {what} are not read")
        for what, n in sorted(left_aside.items())
    ]
    notices += count("recording lies", "recordings lie", "there more than once", repeated, "one of each is read")
    facts = {"license": "cc-by-nc-sa-4.0", "language": "en", "folder": root}
    return build_corpus("ravdess", table, notices=notices, **labelling, **facts)
