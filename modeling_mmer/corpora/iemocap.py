"""IEMOCAP: acted dialogues of ten speakers in five sessions (Busso et al., 2008).

Its protocol leaves one session out: fold k tests on session k, selects on the next one and trains on the other three;
figures are the mean over the five folds. The usual four classes count excitement as happiness.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from .emotions import classes_of
from .layout import blank_off_scale, count, match_lines, read_lines, require
from .rows import build_corpus
from .schema import Corpus, counted

SCALE = (1.0, 5.0)
FOLDS = 5
NUMBER = r"\s*(-?[\d.]+|nan)\s*"
LABEL_LINE = re.compile(rf"\[[\d.]+ - [\d.]+\]\s+(?P<id>\S+)\s+(?P<emotion>\w+)\s+\[{NUMBER},{NUMBER},{NUMBER}\]")
VOTE_LINE = re.compile(r"C-E\d+:\s*(?P<emotions>[^()]*)")  # of a listener; the actors' own are C-F1 and C-M1
TEXT_LINE = re.compile(r"(?P<id>Ses\d\d[FM]_\S+)\s+\[[\d.]+-[\d.]+\]:\s*(?P<text>.*)")


def load_iemocap(
    directory: str | Path, *, emotion_labels: Sequence[str], label_map: Mapping[str, str] | None = None, fold: int = 1
) -> Corpus:
    """Loads one fold of IEMOCAP, whose dimensions are on the scale 1-5.

    Args:
        directory: `IEMOCAP_full_release`, or the folder that holds it.
        fold: 1 to 5, the session to test on.

    Raises:
        CorpusError: the sessions are not where the release has them; whatever `build_corpus` finds wrong with the rows.
    """
    root = Path(directory).expanduser().absolute()
    root = require(root, "Session1", "IEMOCAP_full_release/Session1").parent
    unread: list[str] = []
    rows, texts = [], {}
    for session in range(1, FOLDS + 1):
        folder = require(root, f"Session{session}")
        split = {fold: "test", fold % FOLDS + 1: "validation"}.get(session, "train")
        for dialog in sorted(folder.glob("dialog/EmoEvaluation/Ses*.txt")):
            wav = folder / "sentences" / "wav" / dialog.stem
            rows += [row | {"split": split} for row in read_evaluation(dialog, wav, unread)]
        for dialog in sorted(folder.glob("dialog/transcriptions/Ses*.txt")):
            texts |= {m["id"]: m["text"] for m in match_lines(read_lines(dialog), TEXT_LINE, unread)}
    table = pd.DataFrame(
        rows, columns=["utterance_id", "audio", "emotion", "emotion_votes", *"vad", "speaker", "split"]
    )
    table = table.rename(columns={"v": "valence", "a": "arousal", "d": "dominance"})
    table["text"] = table["utterance_id"].map(texts)
    notices = [f"fold {fold} of {FOLDS}: tested on session {fold}, selected on session {fold % FOLDS + 1}"]
    notices += count("line", "lines", "cannot be read", unread) + blank_off_scale(table, SCALE)
    notices += count(
        "transcript has", "transcripts have", "no label", sorted(texts.keys() - set(table["utterance_id"])), "not read"
    )
    label_map, excitement = with_excitement(table["emotion"], emotion_labels, label_map)
    facts = {"license": "other", "language": "en", "folder": root}
    labelling = {"label_scale": SCALE, "emotion_labels": emotion_labels, "label_map": label_map}
    return build_corpus("iemocap", table, notices=notices + excitement, **labelling, **facts)


def read_evaluation(dialog: Path, recordings: Path, unread: list[str]) -> list[dict]:
    """The rows of one dialogue. Lines that begin with `[` are utterances; votes of single listeners come after each.
    One who chose several emotions has a vote for each."""
    rows, votes = [], Counter()
    for line in read_lines(dialog):
        if vote := VOTE_LINE.match(line):
            votes.update(filter(None, (emotion.strip() for emotion in vote["emotions"].split(";"))))
        if not line.startswith("["):
            continue
        votes = Counter()
        rows += [
            {
                "utterance_id": match["id"],
                "audio": str(recordings / f"{match['id']}.wav"),
                "emotion": classes_of([match["emotion"]])[match["emotion"]] or match["emotion"],
                "emotion_votes": votes,
                **dict(zip("vad", match.groups()[2:], strict=True)),
                "speaker": match["id"][:5] + match["id"].rpartition("_")[2][:1],  # Ses01F_impro01_M000: the man speaks
            }
            for match in match_lines([line], LABEL_LINE, unread)
        ]
    return rows


def with_excitement(
    emotions: pd.Series, emotion_labels: Sequence[str], label_map: Mapping[str, str] | None
) -> tuple[dict[str, str], list[str]]:
    """The label map with excitement as happiness, unless the user says otherwise or has a class for it."""
    chosen = (*emotion_labels, *(label_map or {}))
    if "excitement" in classes_of(chosen).values():
        return dict(label_map or {}), []
    n = int((emotions == "excitement").sum())
    said = counted(n, "row labelled excitement counts", "rows labelled excitement count")
    notices = [f"{said} as happiness, as in the usual four classes"] if n else []
    return {**(label_map or {}), "excitement": "happiness"}, notices
