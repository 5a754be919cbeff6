"""MSP-Podcast, the corpus of the paper: natural speech of podcasts, labelled by listeners (Lotfian and Busso, 2019).

Releases from 1.6 to 2.0, which spell some names otherwise. The paper's splits are Train, Development and Test1. The
labels of Test3 are hidden: its rows can be predicted, not judged.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from .folder import read_table
from .layout import blank_off_scale, count, match_lines, read_lines, read_texts, require
from .rows import build_corpus, clean_strings
from .schema import Corpus, CorpusError, canonical_split, counted

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
FOLDERS = ("Labels", "labels", "label", "Labels/Labels")  # the last where an archive was unpacked into its own folder
LABELS = [f"{folder}/labels_con{c}ensus.{suffix}" for folder in FOLDERS for c in "sc" for suffix in ("csv", "json")]
AUDIOS = ("Audios/Audios", "Audio/Audio", "Audios", "Audio")
WITHOUT_RECORDING = {"MSP-PODCAST_1909_1017.wav"}  # that release 2.0 has labels of
TEST3 = re.compile(r"MSP-PODCAST_test3_\d+\.wav")
# A vote in releases 1.7 to 1.12: "WORKER00000012; Happy; Happy,Excited; A:5.0; V:6.0; D:4.0;"
VOTE = r"^(?P<worker>[^;]*);\s*(?P<emotion>.*?);(?P<second>[^;]*);\s*A:(?P<arousal>[\d.]*)"
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
    labels_file, recordings = require(root, *LABELS), require(root, *AUDIOS)
    labels, (splits, notices) = read_labels(labels_file), read_partitions(root)
    present = {path.stem + ".wav" for path in recordings.iterdir() if path.suffix.lower() == ".wav"}
    files = labels.index.union(splits.index)
    hidden = sorted(file for file in present.difference(files) if TEST3.fullmatch(file))
    splits = pd.concat([splits, pd.Series("Test3", index=hidden, dtype=object)])
    absent = sorted(WITHOUT_RECORDING.intersection(files).difference(present))
    files = files.union(hidden).difference(absent)
    table = labels.reindex(files)
    split, split_notices = agreed_splits(table, splits.reindex(files))
    table = pd.DataFrame(
        {
            "utterance_id": [Path(file).stem for file in files],
            "audio": [str(recordings / file) for file in files],
            "emotion": table["EmoClass"].map(lambda letter: EMOTIONS.get(letter.upper(), letter), na_action="ignore"),
            "valence": table["EmoVal"],
            "arousal": table["EmoAct"],
            "dominance": table["EmoDom"],
            "speaker": table["SpkrID"],
            "split": split,
        }
    ).reset_index(drop=True)
    transcripts = next((path for path in (root / "Transcripts/Transcripts",) if path.is_dir()), root / "Transcripts")
    table["text"] = read_texts(transcripts / f"{name}.txt" for name in table["utterance_id"])
    notices += split_notices + fill_speakers(root, table) + blank_off_scale(table, SCALE)
    notices += count(
        "recording has", "recordings have", "no labels", [file for file in files if file not in labels.index]
    )
    notices += count("label is", "labels are", "of recordings that the release lacks", absent, "not read")
    notices += count(
        "recording is", "recordings are", "in no list of the release", sorted(present.difference(files)), "not read"
    )
    votes, vote_notices = votes_beside(labels_file)
    table["emotion_votes"] = [votes.get(file) for file in files]
    notices += vote_notices
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


def votes_beside(labels_file: Path) -> tuple[dict[str, Counter[str]], list[str]]:
    """The single listeners' votes on each file, which lie beside the consensus of them, and a notice of them."""
    found = [labels_file.with_name(f"labels_detailed.{suffix}") for suffix in ("csv", "json")]
    found = [file for file in found if file.is_file()]
    if not found:
        return {}, []
    votes = read_votes(found[0])
    by_file = {file: Counter(emotions) for file, emotions in votes.dropna().groupby("file")["emotion"]}
    notice = f"{len(votes):,} single votes on {len(by_file):,} utterances are in {found[0].name}"
    return by_file, [f"{notice}; training uses them with --soft_labels true"]


def read_votes(file: Path) -> pd.DataFrame:
    """What each listener chose: file, worker and emotion, by whichever form a release has them in.

    Raises:
        CorpusError: it has neither form.
    """
    if file.suffix == ".json":
        rows = [
            {"file": name, "worker": worker, "emotion": vote.get("EmoClass_Major")}
            for name, of_file in json.loads(file.read_text(encoding="utf-8-sig")).items()
            for worker, vote in _votes_of(of_file)
        ]
        return pd.DataFrame(rows, columns=["file", "worker", "emotion"])
    table = read_table(file)
    if "EmoDetail" in table:
        return table["EmoDetail"].str.extract(VOTE)[["worker", "emotion"]].assign(file=table["FileName"])
    worker = next((name for name in ("WorkerID", "Workers", "Worker") if name in table), None)
    if worker is None or not {"FileName", "EmoClass_Major"} <= set(table.columns):
        raise CorpusError(f"{file} has the votes in no form that is known (it has {', '.join(table.columns)})")
    return table.rename(columns={"FileName": "file", worker: "worker", "EmoClass_Major": "emotion"})


def _votes_of(of_file: Mapping) -> list[tuple[str, Mapping]]:
    """(worker, vote) of one utterance: keyed by worker, or in a list that names each."""
    if "Workers" in of_file:
        return [(vote.get("Name", ""), vote) for vote in of_file["Workers"]]
    return list(of_file.items())


def read_partitions(root: Path) -> tuple[pd.Series, list[str]]:
    """File name → split as the partition file has it, which is empty where there is none; and its notices."""
    found = [root / name for name in ("Partitions.txt", "Partition.txt") if (root / name).is_file()]
    if not found:
        return pd.Series(dtype=object), []
    unread: list[str] = []
    lines = match_lines(read_lines(found[0]), PARTITION_LINE, unread)
    splits = {match["file"]: match["split"] for match in lines}
    return pd.Series(splits, dtype=object), count("line", "lines", f"of {found[0].name} cannot be read", unread)


def agreed_splits(labels: pd.DataFrame, partitions: pd.Series) -> tuple[pd.Series, list[str]]:
    """The split by the labels' own column, and by the partition file where that is blank."""
    ours, theirs = labels["Split_Set"], partitions.astype(object)
    both = ours.notna() & theirs.notna()
    differ = [file for file in labels.index[both] if canonical_split(ours[file]) != canonical_split(theirs[file])]
    notice = count(
        "utterance has", "utterances have", "another split in the partition file", differ, "that of the labels is used"
    )
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
    notices = count("line", "lines", "of Speaker_ids.txt cannot be read", unread)
    of = f"of {counted(len(table), 'row')}"
    said = counted(int(unknown.sum()), f"{of} has an unknown speaker", f"{of} have an unknown speaker")
    return [*notices, said] if unknown.any() else notices
