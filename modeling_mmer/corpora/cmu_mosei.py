"""CMU-MOSEI: opinions from YouTube with sentiment from -3 to 3 and six emotions from 0 to 3 (Zadeh et al., 2018).

Valence is the sentiment score, on its own scale; the sentiment classes follow from it as everywhere. The emotion is the
strongest of the six; where none is above 0 it is neutral, and where two are equally strong there is none.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .emotions import spellings_of
from .folder import read_table
from .layout import blank_off_scale, count, match_lines, read_lines, require
from .paths import Finder
from .recordings import read_headers
from .rows import build_corpus
from .schema import Corpus, CorpusError
from .speaker_splits import split_by_speaker

SCALE = (-3.0, 3.0)
EMOTIONS = ("happiness", "sadness", "anger", "surprise", "disgust", "fear")
CSD_COLUMNS = ("sentiment", *EMOTIONS)  # the order of the seven features of CMU_MOSEI_Labels.csd
CSV_NAMES = {
    "video": ("video", "video_id", "file"),
    "start": ("start", "start_time"),
    "sentiment": ("sentiment", "label"),
    **{emotion: spellings_of(emotion) for emotion in EMOTIONS},
}
LABELS = [f"{folder}CMU_MOSEI_Labels.{suffix}" for suffix in ("csv", "csd") for folder in ("", "Labels/", "labels/")]
TEXT_LINE = re.compile(r"(?P<video>.+?)___(?P<clip>\d+)___(?P<start>[\d.]+)___(?P<end>[\d.]+)___(?P<text>.*)$")
BYTES = re.compile(r"""b(?P<quote>['"])(?P<text>.*)(?P=quote)$""")
TOLERANCE = 0.25  # seconds between the starts that transcript and labels give one segment, of which none is so short


def load_cmu_mosei(directory: str | Path, **labelling: Any) -> Corpus:
    """Loads CMU-MOSEI.

    Args:
        directory: holds `Transcript/Segmented/Combined/*.txt` and, if there is audio, `Audio/Full/WAV_16000/*.wav` (or
            both below `Raw/`); the labels as `CMU_MOSEI_Labels.csd`, which needs h5py, or as a `.csv` of the same
            values (video, start, sentiment, happy, sad, anger, surprise, disgust, fear); and the lists of the official
            folds, `train.txt`, `validation.txt` and `test.txt`, one video a line.

    Raises:
        CorpusError: transcripts or labels are not there; whatever `build_corpus` finds wrong with the rows.
        ImportError: the labels are a `.csd` and h5py is not installed.
    """
    root = Path(directory).expanduser().absolute()
    transcripts = require(root, "Transcript/Segmented/Combined", "Raw/Transcript/Segmented/Combined")
    unread: list[str] = []
    lines = [line for path in sorted(transcripts.glob("*.txt")) for line in read_lines(path)]
    segments = pd.DataFrame(
        [match.groupdict() for match in match_lines(lines, TEXT_LINE, unread)],
        columns=["video", "clip", "start", "end", "text"],
    ).astype({"start": float, "end": float})
    segments["text"] = segments["text"].map(without_bytes)
    labels = read_labels(require(root, *LABELS))
    table, notices = join(segments, labels)
    notices += count("line", "lines", "cannot be read", unread) + blank_off_scale(table, SCALE)
    table["split"], split_notices = official_splits(root, table["video"])
    table = table[table["split"].notna()].reset_index(drop=True)
    table["audio"], audio_notices = find_recordings(root, table)
    table["speaker"] = table["video"]
    facts = {"license": "other", "language": "en", "folder": root}
    notices += split_notices + audio_notices
    return build_corpus("cmu_mosei", table, notices=notices, label_scale=SCALE, **labelling, **facts)


def without_bytes(text: str) -> str:
    """Text that was written as Python shows bytes, `b'it was dull'`, as itself."""
    match = BYTES.match(text.strip())
    return match["text"].replace("\\'", "'").replace('\\"', '"') if match else text


def read_labels(file: Path) -> pd.DataFrame:
    """video, start in seconds, sentiment and the six emotions, from either form of the labels."""
    if file.suffix == ".csd":
        return read_csd(file)
    raw = read_table(file)
    columns = {field: next((n for n in names if n in raw), None) for field, names in CSV_NAMES.items()}
    if absent := [field for field, column in columns.items() if column is None]:
        raise CorpusError(f"{file} lacks the columns {', '.join(absent)} (it has {', '.join(raw.columns)})")
    table = pd.DataFrame({field: raw[column] for field, column in columns.items()})
    numbers = table.columns.drop("video")
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
    return table


def read_csd(file: Path) -> pd.DataFrame:
    """The labels as the authors publish them: HDF5, per video `features` (n, 7) and `intervals` (n, 2) in seconds."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{file} is HDF5: `pip install h5py`.") from error
    tables = []
    with h5py.File(file) as content:
        for video, of_video in content["All Labels/data"].items():
            table = pd.DataFrame(np.asarray(of_video["features"]), columns=list(CSD_COLUMNS))
            tables.append(table.assign(video=video, start=np.asarray(of_video["intervals"])[:, 0]))
    return pd.concat(tables, ignore_index=True)


def join(segments: pd.DataFrame, labels: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Labelled segments: each transcript with the label of its video whose start is nearest, within `TOLERANCE`."""
    segments, labels = (table.astype({"video": object, "start": "float64"}) for table in (segments, labels))
    twice = labels[labels.duplicated(["video", "start"])]
    starts = labels.drop_duplicates(["video", "start"]).assign(labelled=lambda table: table["start"])
    ordered = segments.assign(transcript=np.arange(len(segments))).sort_values("start")
    how = {"on": "start", "by": "video", "direction": "nearest", "tolerance": TOLERANCE}
    joined = pd.merge_asof(ordered, starts.sort_values("start"), **how)
    joined["distance"] = (joined["start"] - joined["labelled"]).abs()
    joined = joined.sort_values(["distance", "transcript"])  # of transcripts near one label, the nearest has it
    has_label = joined["labelled"].notna() & ~joined.duplicated(["video", "labelled"])
    without = joined[~has_label].sort_values("transcript")
    joined = joined[has_label].sort_values("transcript").reset_index(drop=True)
    used = pd.MultiIndex.from_frame(joined[["video", "labelled"]])
    unused = starts[~pd.MultiIndex.from_frame(starts[["video", "labelled"]]).isin(used)]
    notices = count(
        "segment is", "segments are", "labelled more than once", twice["video"].tolist(), "the first label is used"
    )
    notices += count("transcript has", "transcripts have", "no label", _named(without), "not read")
    notices += count("label has", "labels have", "no transcript", _named(unused), "not read")
    table = joined.drop(columns=["transcript", "labelled", "distance"])
    strengths = table[list(EMOTIONS)].to_numpy(float)
    tied = ((strengths == strengths.max(1, keepdims=True)).sum(1) > 1) & (strengths.max(1) > 0)
    notices += count(
        "segment has", "segments have", "two strongest emotions", table["video"][tied].tolist(), "unlabelled"
    )
    strongest = pd.Series(np.array(EMOTIONS)[np.nan_to_num(strengths, nan=-1).argmax(1)], dtype=object)
    table["emotion"] = strongest.mask(strengths.max(1) == 0, "neutral").mask(tied | np.isnan(strengths).any(1), None)
    table["utterance_id"] = table["video"] + "_" + table["clip"]
    return table.rename(columns={"sentiment": "valence"}), notices


def _named(table: pd.DataFrame) -> list[str]:
    return (table["video"] + "@" + table["start"].round(1).astype(str)).tolist()


def official_splits(root: Path, videos: pd.Series) -> tuple[pd.Series, list[str]]:
    """By the lists of the official folds if they are there, None for videos in none of them; otherwise by video."""
    names = ("train", "validation", "test")
    lists = [root / f"{name}.txt" for name in names]
    if not all(path.is_file() for path in lists):
        splits, _ = split_by_speaker(videos)
        return splits, ["no train.txt, validation.txt and test.txt with the official folds: split by video, by name"]
    of_video = {video: name for name, path in zip(names, lists, strict=True) for video in read_lines(path)}
    splits = videos.map(of_video)
    unlisted = sorted(set(videos[splits.isna()]))
    notices = count("video is", "videos are", "in none of train.txt, validation.txt and test.txt", unlisted, "not read")
    return splits, notices


def find_recordings(root: Path, table: pd.DataFrame) -> tuple[list[str | None], list[str]]:
    """The recording of each segment's video, of which the segment is a span, and notices of rows without.

    A segment that ends after its recording ends with it, in place.
    """
    found = [root / name for name in ("Audio/Full/WAV_16000", "Raw/Audio/Full/WAV_16000") if (root / name).is_dir()]
    if not found:
        return [None] * len(table), ["no folder Audio/Full/WAV_16000: text only"]
    finder = Finder((".wav",))
    meant = {video: str(found[0] / f"{video}.wav") for video in set(table["video"])}
    meant = {video: finder.find(path) or path for video, path in meant.items()}
    paths = [meant[video] for video in table["video"]]
    headers = read_headers(paths)
    lasts = pd.Series([headers[path].seconds or 0.0 for path in paths], index=table.index)
    is_heard = table["start"] < lasts
    ends_late = is_heard & (table["end"] > lasts)
    table["end"] = table["end"].where(~ends_late, lasts)
    without, late = (table["utterance_id"][rows].tolist() for rows in (~is_heard, ends_late))
    notices = count("segment has", "segments have", "no recording that can be read", without, "text only")
    notices += count("segment ends", "segments end", "after the recording", late, "heard to its end")
    return [path if heard else None for path, heard in zip(paths, is_heard, strict=True)], notices
