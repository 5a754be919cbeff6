"""CMU-MOSEI: opinions from YouTube with sentiment from -3 to 3 and six emotions from 0 to 3 (Zadeh et al., 2018).

Valence is the sentiment score, on its own scale; the sentiment classes follow from it as everywhere. The emotion is the
strongest of the six; where none is above 0 it is neutral, and where two are equally strong there is none.
"""

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from .folder import read_table
from .layout import READERS, blank_off_scale, count, match_lines, read_lines, require, split_by_speaker
from .rows import build_corpus
from .schema import Corpus, CorpusError

SCALE = (-3.0, 3.0)
EMOTIONS = ("happiness", "sadness", "anger", "surprise", "disgust", "fear")
CSD_COLUMNS = ("sentiment", *EMOTIONS)  # the order of the seven features of CMU_MOSEI_Labels.csd
CSV_NAMES = {
    "video": ("video", "video_id", "file"),
    "start": ("start", "start_time"),
    "sentiment": ("sentiment", "label"),
    "happiness": ("happiness", "happy"),
    "sadness": ("sadness", "sad"),
    "anger": ("anger", "angry"),
    "surprise": ("surprise",),
    "disgust": ("disgust",),
    "fear": ("fear",),
}
LABELS = [f"{folder}CMU_MOSEI_Labels.{suffix}" for suffix in ("csv", "csd") for folder in ("", "Labels/", "labels/")]
TEXT_LINE = re.compile(r"(?P<video>.+?)___(?P<clip>\d+)___(?P<start>[\d.]+)___(?P<end>[\d.]+)___(?P<text>.*)$")
SEGMENTS = "audio_segments"  # folder below the corpus's for what was cut out of the videos' recordings


def load_cmu_mosei(
    directory: str | Path, *, emotion_labels: Sequence[str], label_map: Mapping[str, str] | None = None
) -> Corpus:
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
    labels = read_labels(require(root, *LABELS))
    table, notices = join(segments, labels)
    notices += count("lines cannot be read", unread) + blank_off_scale(table, SCALE)
    table["split"], split_notices = official_splits(root, table["video"])
    table["audio"], audio_notices = cut_segments(root, table)
    table["speaker"] = table["video"]
    facts = {"license": "other", "language": "en", "folder": root}
    labelling = {"label_scale": SCALE, "emotion_labels": emotion_labels, "label_map": label_map}
    notices += split_notices + audio_notices
    return build_corpus("cmu_mosei", table, notices=notices, **labelling, **facts)


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
    """Labelled segments: transcripts and labels of one video whose starts agree to a tenth of a second."""
    keyed = [table.assign(tenths=(10 * table["start"]).round()) for table in (segments, labels)]
    key = ["video", "tenths"]
    twice = keyed[1][keyed[1].duplicated(key)]
    joined = keyed[0].merge(keyed[1].drop(columns="start").drop_duplicates(key), on=key, how="outer", indicator=True)
    name = joined["video"] + "@" + (joined["tenths"] / 10).astype(str)
    notices = count("segments are labelled more than once", twice["video"].tolist(), "the first labels are used")
    notices += count("transcripts have no label", name[joined["_merge"] == "left_only"].tolist(), "they are not read")
    notices += count("labels have no transcript", name[joined["_merge"] == "right_only"].tolist(), "they are not read")
    table = joined[joined["_merge"] == "both"].reset_index(drop=True)
    strengths = table[list(EMOTIONS)].to_numpy(float)
    tied = ((strengths == strengths.max(1, keepdims=True)).sum(1) > 1) & (strengths.max(1) > 0)
    notices += count("segments have two strongest emotions", table["video"][tied].tolist(), "they count as unlabelled")
    strongest = pd.Series(np.array(EMOTIONS)[np.nan_to_num(strengths, nan=-1).argmax(1)], dtype=object)
    table["emotion"] = strongest.mask(strengths.max(1) == 0, "neutral").mask(tied | np.isnan(strengths).any(1), None)
    table["utterance_id"] = table["video"] + "_" + table["clip"]
    return table.rename(columns={"sentiment": "valence"}), notices


def official_splits(root: Path, videos: pd.Series) -> tuple[pd.Series, list[str]]:
    """By the lists of the official folds if they are there, otherwise by video."""
    names = ("train", "validation", "test")
    lists = [root / f"{name}.txt" for name in names]
    if not all(path.is_file() for path in lists):
        splits, _ = split_by_speaker(videos)
        return splits, ["no train.txt, validation.txt and test.txt with the official folds: split by video, by name"]
    of_video = {video: name for name, path in zip(names, lists, strict=True) for video in read_lines(path)}
    if unlisted := sorted(set(videos) - of_video.keys()):
        raise CorpusError(f"videos are in none of train.txt, validation.txt and test.txt: {', '.join(unlisted[:5])}")
    return videos.map(of_video), []


def cut_segments(root: Path, table: pd.DataFrame) -> tuple[list[str | None], list[str]]:
    """The audio file of each segment, cut once out of its video's recording and kept, and notices of rows without."""
    found = [root / name for name in ("Audio/Full/WAV_16000", "Raw/Audio/Full/WAV_16000") if (root / name).is_dir()]
    if not found:
        return [None] * len(table), ["no folder Audio/Full/WAV_16000: text only"]

    def cut(row) -> str | None:
        recording, segment = found[0] / f"{row.video}.wav", root / SEGMENTS / f"{row.utterance_id}.flac"
        if not segment.is_file() and not (recording.is_file() and cut_one(recording, segment, row.start, row.end)):
            return None
        return str(segment)

    try:
        (root / SEGMENTS).mkdir(exist_ok=True)
    except OSError as error:
        raise CorpusError(f"cmu_mosei: cannot write {root / SEGMENTS}, where segments are kept: {error}") from error
    with ThreadPoolExecutor(READERS) as readers:
        audio = list(readers.map(cut, table.itertuples()))
    without = [name for name, path in zip(table["utterance_id"], audio, strict=True) if path is None]
    return audio, count("segments have no recording that can be read", without, "they are text only")


def cut_one(recording: Path, segment: Path, start: float, end: float) -> bool:
    """Write the seconds from start to end whole or not at all; False if they cannot be read or hold nothing."""
    beside = segment.with_name(f".{segment.stem}.{os.getpid()}.flac")
    try:
        rate = soundfile.info(recording).samplerate
        samples, rate = soundfile.read(recording, start=round(start * rate), stop=round(end * rate))
        if len(samples) == 0:
            return False
        soundfile.write(beside, samples, rate)
        os.replace(beside, segment)
    except (soundfile.SoundFileError, ValueError):
        return False
    finally:
        beside.unlink(missing_ok=True)
    return True
