"""A corpus in figures: what is in it, how its labels are spread, what its splits share, which recordings are broken.

The figures are plain dicts, lists, numbers and strings, as JSON has them, and figures that nothing was measured for are
absent. Every recording is read to its end, in threads, block by block.
"""

import hashlib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from tqdm.auto import tqdm

from .rows import is_known
from .schema import DIMENSIONS, Corpus

LONG = 30  # seconds: what Whisper hears at once
OVER = f"over_{LONG}_s"
BINS = (0, 1, 2, 3, 5, 10, 15, 20, LONG, 60)  # seconds at which the bins of the durations begin; the last is open
_READERS = 16  # threads: soundfile and hashlib let others run while they work
_BLOCK = 2**16  # samples read at once
_CUT_SHORT = re.compile(r"^ ?(?:data|SSND) *: (\d+) \(should be (\d+)\)", re.MULTILINE)  # libsndfile on WAV and AIFF
_UNKNOWN_SIZE = 0x7FFF0000  # bytes: a size from here on is what a program writes that does not know it yet


def describe(corpus: Corpus) -> dict[str, Any]:
    """The figures of a corpus.

    Returns:
        `corpus`, `label_scale` and, where known, `license` and `language`;
        `splits`: name -> `rows`; `modalities` (`audio_text`, `audio_only`, `text_only`); `speakers`, and
        `rows_without_speaker`; `emotion` and `sentiment`, each with the counts of its `labels` and of `unlabelled`
        rows; `duration` in seconds by the files' headers, with its total in `hours`; `dimensions` on `label_scale`,
        with the standard deviation of the population;
        `all`: the same of all splits together;
        `speakers`: each with its rows by split, the one with most rows first;
        `shared`: `speakers`, `texts` (without regard to case and spacing) and `recordings` (the same samples, in
        whatever file) that occur in more than one split, with their rows by split;
        `broken`: rows whose recording cannot be used as it is, with the `kind` of fault: missing, unreadable, empty,
        truncated (fewer samples than its header declares, or than are estimated of an MP3 that declares none), not
        finite (has NaN or infinity), silent (all zero);
        `notices`: the corpus's own.
    """
    tables = [rows.to_pandas().assign(split=split) for split, rows in corpus.splits.items()]
    table = pd.concat(tables, ignore_index=True)
    paths = table["audio"].dropna().unique().tolist()
    with ThreadPoolExecutor(_READERS) as readers:
        read = tqdm(readers.map(read_recording, paths), desc="Recordings", total=len(paths), disable=None)
        recordings = dict(zip(paths, read, strict=True))
    facts = {"corpus": corpus.name, "license": corpus.license, "language": corpus.language}
    return {fact: value for fact, value in facts.items() if value is not None} | {
        "label_scale": list(corpus.label_scale),
        "all": figures_of(table),
        "splits": {split: figures_of(table[table["split"] == split]) for split in corpus.splits},
        "speakers": rows_of_speakers(table),
        "shared": shared_between_splits(table, recordings),
        "broken": broken_rows(table, recordings),
        "notices": list(corpus.notices),
    }


# ------------------------------------------------------------------------------------------------- figures of some rows
def figures_of(rows: pd.DataFrame) -> dict[str, Any]:
    """What one split, or all of them, holds."""
    has_audio, has_text, has_speaker = rows["audio"].notna(), rows["text"].notna(), is_known(rows["speaker"])
    return {
        "rows": len(rows),
        "modalities": {
            "audio_text": int((has_audio & has_text).sum()),
            "audio_only": int((has_audio & ~has_text).sum()),
            "text_only": int((~has_audio & has_text).sum()),
        },
        "speakers": rows["speaker"][has_speaker].nunique(),
        "rows_without_speaker": int((~has_speaker).sum()),
        "emotion": label_counts(rows["emotion"]),
        "sentiment": label_counts(rows["sentiment"]),
        "duration": durations(rows["duration"].dropna().to_numpy()),
        "dimensions": {dimension: spread(rows[dimension].dropna().to_numpy()) for dimension in DIMENSIONS},
    }


def label_counts(labels: pd.Series) -> dict[str, Any]:
    counts = labels.value_counts()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {"labels": {label: int(n) for label, n in ordered}, "unlabelled": int(labels.isna().sum())}


def spread(values: np.ndarray) -> dict[str, float]:
    """n, min, mean, max and the standard deviation of the population; n alone where there are no values."""
    if not len(values):
        return {"n": 0}
    figures = {"min": values.min(), "mean": values.mean(), "max": values.max(), "std": values.std()}
    return {"n": len(values)} | {name: float(figure) for name, figure in figures.items()}


def durations(seconds: np.ndarray) -> dict[str, Any]:
    if not len(seconds):
        return {"n": 0}
    counts, _ = np.histogram(seconds, [*BINS, np.inf])
    return spread(seconds) | {
        "hours": float(seconds.sum() / 3600),
        "median": float(np.median(seconds)),
        OVER: int((seconds > LONG).sum()),
        "histogram": {"from": list(BINS), "counts": counts.tolist()},
    }


# ------------------------------------------------------------------------------------------------------- across splits
def rows_of_speakers(table: pd.DataFrame) -> list[dict[str, Any]]:
    groups = table[is_known(table["speaker"])].groupby("speaker")["split"]
    speakers = [{"speaker": name, "rows": rows_by_split(splits)} for name, splits in groups]
    return sorted(speakers, key=lambda speaker: -sum(speaker["rows"].values()))  # equal ones by name, as they came


def rows_by_split(splits: pd.Series) -> dict[str, int]:
    return {split: int(n) for split, n in splits.value_counts(sort=False).items()}


def shared_between_splits(table: pd.DataFrame, recordings: dict[str, "Recording"]) -> dict[str, list[dict]]:
    """Speakers, texts and recordings with rows in more than one split."""
    speakers = table["speaker"].where(is_known(table["speaker"]))
    texts = table["text"].map(lambda text: " ".join(text.casefold().split()), na_action="ignore")
    digests = table["audio"].map(lambda path: recordings[path].digest, na_action="ignore")
    return {
        "speakers": [
            {"speaker": rows["speaker"].iloc[0], "rows": rows_by_split(rows["split"])}
            for rows in in_several_splits(table, speakers)
        ],
        "texts": [
            {"text": rows["text"].iloc[0], "rows": rows_by_split(rows["split"])}
            for rows in in_several_splits(table, texts)
        ],
        "recordings": [
            {
                "rows": rows_by_split(rows["split"]),
                "utterance_ids": {split: list(ids) for split, ids in rows.groupby("split", sort=False)["utterance_id"]},
            }
            for rows in in_several_splits(table, digests)
        ],
    }


def in_several_splits(table: pd.DataFrame, keys: pd.Series) -> Iterable[pd.DataFrame]:
    """The rows of each key that occurs in more than one split, in the order of the table."""
    is_shared = table["split"].groupby(keys).transform("nunique") > 1
    return (rows for _, rows in table[is_shared].groupby(keys[is_shared], sort=False))


# ---------------------------------------------------------------------------------------------------------- recordings
@dataclass(frozen=True)
class Recording:
    """What reading a file to its end has shown.

    Args:
        digest: SHA-256 of its rate, channels and samples; None if they cannot all be read.
        kind: of fault; None if there is none.
        detail: of the fault, where there is more to say.
    """

    digest: str | None
    kind: str | None = None
    detail: str = ""


def broken_rows(table: pd.DataFrame, recordings: dict[str, Recording]) -> list[dict[str, str]]:
    with_audio = table[table["audio"].notna()]
    columns = (with_audio[name] for name in ("utterance_id", "split", "audio"))
    return [
        {"utterance_id": utterance_id, "split": split, "audio": path}
        | {"kind": recordings[path].kind, "detail": recordings[path].detail}
        for utterance_id, split, path in zip(*columns, strict=True)
        if recordings[path].kind is not None
    ]


def read_recording(path: str) -> Recording:
    """Reads a file to its end, in blocks."""
    if not Path(path).is_file():
        return Recording(None, "missing")
    try:
        with soundfile.SoundFile(path) as file:
            return read_samples(file)
    except (soundfile.SoundFileError, OSError) as error:
        return Recording(None, "unreadable", str(error))


def read_samples(file: soundfile.SoundFile) -> Recording:
    if file.frames == 0:
        return Recording(None, "empty")
    content = hashlib.sha256(f"{file.samplerate} {file.channels} ".encode())
    n, is_finite, is_silent = 0, True, True
    try:
        while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):  # `blocks` hides that a file is short
            content.update(block)
            n += len(block)
            is_finite &= bool(np.isfinite(block).all())
            is_silent &= not block.any()
    except soundfile.LibsndfileError:
        return Recording(None, "truncated", f"not all of its {file.frames:,} samples can be decoded")
    if n < file.frames:
        return Recording(None, "truncated", f"{n:,} of {file.frames:,} samples")
    cut = _CUT_SHORT.search(file.extra_info)  # here `frames` are those that are there
    if cut and int(cut[2]) < int(cut[1]) < _UNKNOWN_SIZE:
        return Recording(None, "truncated", f"{int(cut[2]):,} of {int(cut[1]):,} bytes of samples")
    kind = "not finite" if not is_finite else "silent" if is_silent else None
    return Recording(content.hexdigest(), kind)
