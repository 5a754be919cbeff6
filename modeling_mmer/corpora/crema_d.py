"""CREMA-D: 91 actors say 12 sentences in six emotions (Cao et al., 2014). The labels are what the actor meant;
the votes, where the release has them, what raters heard in the voice alone.

The text says nothing of the emotion: text alone must sit at chance.
"""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from .layout import count, require
from .rows import build_corpus
from .schema import Corpus
from .speaker_splits import split_by_speaker

EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
VOTES = "processedResults/tabulatedVotes.csv"
NAME = re.compile(r"(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>[A-Z]{1,2})$")


def load_crema_d(directory: str | Path, **labelling: Any) -> Corpus:
    """Loads CREMA-D; `directory` holds `AudioWAV/`.

    Raises:
        CorpusError: there is no such folder, or it holds no recording; whatever `build_corpus` finds wrong.
    """
    folder = require(Path(directory).expanduser().absolute(), "AudioWAV")
    rows, unread = [], []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav"):
        match = NAME.match(path.stem.upper())
        if match is None or match["emotion"] not in EMOTIONS:
            unread.append(path.name)
            continue
        rows.append(
            {
                "utterance_id": path.stem,
                "audio": str(path),
                "text": SENTENCES.get(match["sentence"]),
                "emotion": EMOTIONS[match["emotion"]],
                "speaker": match["actor"],
            }
        )
    table = pd.DataFrame(rows, columns=["utterance_id", "audio", "text", "emotion", "speaker"])
    table["emotion_votes"] = table["utterance_id"].str.upper().map(votes_of_voices(folder.parent / VOTES))
    table["split"], notices = split_by_speaker(table["speaker"])
    notices += count("file has", "files have", "a name that says no emotion", unread, "not read")
    facts = {"license": "odbl", "language": "en", "folder": folder.parent}
    return build_corpus("crema_d", table, notices=notices, **labelling, **facts)


def votes_of_voices(file: Path) -> dict[str, dict[str, int]]:
    """Recording → votes for each emotion; empty if the release was unpacked without them. A row is numbered from 100001
    where raters heard the voice, from 200001 where they saw the face, and from 300001 where they had both."""
    if not file.is_file():
        return {}
    table = pd.read_csv(file, dtype={0: str})
    table = table[table.iloc[:, 0].str.startswith("1")].rename(
        columns={code[0]: name for code, name in EMOTIONS.items()}
    )
    return table.groupby("fileName")[list(EMOTIONS.values())].sum().to_dict("index")
