"""MSP-Podcast, the corpus of the paper: natural speech of podcasts, labelled by listeners (Lotfian and Busso, 2019).

Release 1.11 and older ones, which spell some names otherwise. The paper's splits are Train, Development and Test1.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from .folder import read_table
from .layout import blank_off_scale, count, match_lines, read_lines, read_texts, require
from .rows import build_corpus, clean_strings
from .schema import Corpus, CorpusError, canonical_split

SCALE = (1.0, 7.0)
EMOTIONS = {
    "A": "anger",
    "S": "sadness",
    "H": "happiness",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
    "O": "other",
    "X": "no agreement",
}
LABELS = [f"Labels/labels_con{letter}ensus.{suffix}" for letter in "sc" for suffix in ("csv", "json")]
PARTITION_LINE = re.compile(r"(?P<split>[^;]+?)\s*;\s*(?P<file>\S+\.wav)$")
SPEAKER_LINE = re.compile(r"(?P<file>\S+\.wav)\s*;\s*(?P<speaker>\S+)$")


def load_msp_podcast(
    directory: str | Path, *, emotion_labels: Sequence[str], label_map: Mapping[str, str] | None = None
) -> Corpus:
    """Loads a release of MSP-Podcast, whose dimensions are on the scale 1-7.

    Raises:
        CorpusError: the labels or the recordings are not where a release has them; an unknown split; whatever
            `build_corpus` finds wrong with the rows.
    """
    root = Path(directory).expanduser().absolute()
    labels = read_labels(require(root, *LABELS))
    recordings = require(root, "Audios", "Audio")
    splits, notices = read_partitions(root)
    files = labels.index.union(splits.index)
    table = labels.reindex(files)
    split, split_notices = agreed_splits(table, splits.reindex(files))
    table = pd.DataFrame(
        {
            "utterance_id": [Path(file).stem for file in files],
            "audio": [str(recordings / file) for file in files],
            "emotion": table["EmoClass"].map(lambda letter: EMOTIONS.get(letter, letter), na_action="ignore"),
            "valence": table["EmoVal"],
            "arousal": table["EmoAct"],
            "dominance": table["EmoDom"],
            "speaker": table["SpkrID"],
            "split": split,
        }
    ).reset_index(drop=True)
    table["text"] = read_texts(root / "Transcripts" / f"{name}.txt" for name in table["utterance_id"])
    notices += split_notices + fill_speakers(root, table) + blank_off_scale(table, SCALE)
    notices += count("recordings have no labels", [file for file in files if file not in labels.index])
    unlisted = {path.name for path in recordings.glob("*.wav")}.difference(files)
    notices += count("recordings are in no list of the release", sorted(unlisted), "they are not read")
    facts = {"license": "other", "language": "en", "folder": root}
    labelling = {"label_scale": SCALE, "emotion_labels": emotion_labels, "label_map": label_map}
    return build_corpus("msp_podcast", table, notices=notices, **labelling, **facts)


def read_labels(file: Path) -> pd.DataFrame:
    """The consensus labels, read by column name and indexed by file name, as strings."""
    if file.suffix == ".json":
        try:
            table = pd.DataFrame.from_dict(json.loads(file.read_text(encoding="utf-8-sig")), orient="index")
        except (ValueError, AttributeError) as error:
            raise CorpusError(f"{file} is not a JSON object keyed by file name: {error}") from error
        table.index.name = "FileName"
    else:
        table = read_table(file)
        if "FileName" not in table:
            raise CorpusError(f"{file} has no column FileName (it has {', '.join(table.columns)})")
        table = table.set_index("FileName")
    if absent := {"EmoClass", "EmoAct", "EmoVal", "EmoDom"}.difference(table.columns):
        raise CorpusError(f"{file} lacks {', '.join(sorted(absent))} (it has {', '.join(table.columns)})")
    if table.index.has_duplicates:
        raise CorpusError(f"{file} lists {table.index[table.index.duplicated()][0]} more than once")
    table = table.reindex(columns=["EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Split_Set"])
    return table.apply(clean_strings)


def read_partitions(root: Path) -> tuple[pd.Series, list[str]]:
    """File name → split as the partition file has it, which is empty where there is none; and its notices."""
    found = [root / name for name in ("Partitions.txt", "Partition.txt") if (root / name).is_file()]
    if not found:
        return pd.Series(dtype=object), []
    unread: list[str] = []
    lines = match_lines(read_lines(found[0]), PARTITION_LINE, unread)
    splits = {match["file"]: match["split"] for match in lines}
    return pd.Series(splits, dtype=object), count(f"lines of {found[0].name} cannot be read", unread)


def agreed_splits(labels: pd.DataFrame, partitions: pd.Series) -> tuple[pd.Series, list[str]]:
    """The split by the labels' own column, and by the partition file where that is blank."""
    ours, theirs = labels["Split_Set"], partitions.astype(object)
    both = ours.notna() & theirs.notna()
    differ = [file for file in labels.index[both] if canonical_split(ours[file]) != canonical_split(theirs[file])]
    notice = count("utterances have another split in the partition file", differ, "that of the labels is used")
    return ours.where(ours.notna(), theirs), notice


def fill_speakers(root: Path, table: pd.DataFrame) -> list[str]:
    """Fill speakers, in place, from `Speaker_ids.txt` where the labels have none; "Unknown" is no speaker."""
    unread: list[str] = []
    file = root / "Speaker_ids.txt"
    if file.is_file():
        known = {Path(m["file"]).stem: m["speaker"] for m in match_lines(read_lines(file), SPEAKER_LINE, unread)}
        table["speaker"] = table["speaker"].where(table["speaker"].notna(), table["utterance_id"].map(known))
    unknown = table["speaker"].str.lower() == "unknown"
    table["speaker"] = table["speaker"].where(~unknown, None)
    notices = count("lines of Speaker_ids.txt cannot be read", unread)
    return notices + ([f"{int(unknown.sum())} of {len(table)} rows have an unknown speaker"] if unknown.any() else [])
