"""A corpus in figures: what is in it, how its labels are spread, what its splits share, which recordings are broken.

The figures are plain dicts, lists, numbers and strings, as JSON has them, and figures that nothing was measured for are
absent. Every recording is read to its end, in threads, block by block.
"""

from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from .faults import OF_TABLE, left_out
from .recordings import Recording, Source, read_recordings, sources_of
from .schema import CLASS_TASKS, DIMENSIONS, Corpus
from .sharing import in_several_splits, known_speakers, plain_texts
from .votes import agreement, read_votes, vote_counts

LONG = 30  # seconds: what Whisper hears at once
OVER = f"over_{LONG}_s"
BINS = (0, 1, 2, 3, 5, 10, 15, 20, LONG, 60)  # seconds at which the bins of the durations begin; the last is open


def describe(corpus: Corpus) -> dict[str, Any]:
    """The figures of a corpus.

    Returns:
        `corpus`, `label_scale` and, where known, `license` and `language`;
        `splits`: name -> `rows`; `modalities` (`audio_text`, `audio_only`, `text_only`); `speakers`, and
        `rows_without_speaker`; `emotion` and `sentiment`, each with the counts of its `labels` and of `unlabelled`
        rows; where there are votes, `emotion_votes` with the `rows` that have some, the votes for each of the `labels`,
        and `krippendorff_alpha`, the agreement of raters over them; `duration` in seconds by the files' headers, with
        its total in `hours`; `dimensions` on `label_scale`,
        with the standard deviation of the population;
        `all`: the same of all splits together;
        `speakers`: each with its rows by split, the one with most rows first;
        `shared`: `speakers`, `texts` (without regard to case and spacing) and `recordings` (the same samples, in
        whatever file) that occur in more than one split, with their rows by split;
        `broken`: rows whose recording cannot be used as it is, with the `kind` of fault: missing, unreadable, empty,
        truncated (fewer samples than its header declares, or than are estimated of an MP3 that declares none), not
        finite (has NaN or infinity), silent (all zero), too loud (far above full scale), cancelled (channels that are
        each other's inverse), span (start and end are not within it); of a span with its `start` and `end`;
        `caveats`: what changes the meaning of figures measured on the corpus; its own, and rows that are in no split
        because their metadata is at fault;
        `notices`: what else was counted.
    """
    tables = [rows.to_pandas().assign(split=split) for split, rows in corpus.splits.items()]
    table = pd.concat(tables, ignore_index=True)
    recordings = read_recordings(source for source in sources_of(table) if source is not None)
    facts = {"corpus": corpus.name, "license": corpus.license, "language": corpus.language}
    return {fact: value for fact, value in facts.items() if value is not None} | {
        "label_scale": list(corpus.label_scale),
        "all": figures_of(table),
        "splits": {split: figures_of(table[table["split"] == split]) for split in corpus.splits},
        "speakers": rows_of_speakers(table),
        "shared": shared_between_splits(table, recordings),
        "broken": broken_rows(table, recordings),
        "caveats": corpus.caveats + left_out([fault for fault in corpus.faults if fault.kind in OF_TABLE]),
        "notices": corpus.notices,
    }


# ── figures of some rows ────────────────────────────────────────────────────────────────────────────────────────────
def figures_of(rows: pd.DataFrame) -> dict[str, Any]:
    """What one split, or all of them, holds."""
    has_audio, has_text = rows["audio"].notna(), rows["text"].notna()
    speakers = known_speakers(rows["speaker"])
    return {
        "rows": len(rows),
        "modalities": {
            "audio_text": int((has_audio & has_text).sum()),
            "audio_only": int((has_audio & ~has_text).sum()),
            "text_only": int((~has_audio & has_text).sum()),
        },
        "speakers": speakers.nunique(),
        "rows_without_speaker": int(speakers.isna().sum()),
        **{task: label_counts(rows[task]) for task in CLASS_TASKS},
        **agreement_of(rows["emotion_votes"].dropna()),
        "duration": durations(rows["duration"].dropna().to_numpy()),
        "dimensions": {dimension: spread(rows[dimension].dropna().to_numpy()) for dimension in DIMENSIONS},
    }


def label_counts(labels: pd.Series) -> dict[str, Any]:
    counts = labels.value_counts()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {"labels": {label: int(n) for label, n in ordered}, "unlabelled": int(labels.isna().sum())}


def agreement_of(cells: pd.Series) -> dict[str, Any]:
    """The votes and how far raters agree; nothing if there are none."""
    labels = sorted({label for cell in cells for label in read_votes(cell)})
    counts = vote_counts(cells, labels)
    if not labels:
        return {}
    alpha = agreement(counts)
    votes = {label: float(n) for label, n in zip(labels, counts.sum(0), strict=True)}
    measured = {} if alpha is None else {"krippendorff_alpha": alpha}
    return {"emotion_votes": {"rows": len(cells), "labels": votes, **measured}}


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


# ── across splits ───────────────────────────────────────────────────────────────────────────────────────────────────
def rows_of_speakers(table: pd.DataFrame) -> list[dict[str, Any]]:
    groups = table["split"].groupby(known_speakers(table["speaker"]))
    speakers = [{"speaker": name, "rows": rows_by_split(splits)} for name, splits in groups]
    return sorted(speakers, key=lambda speaker: -sum(speaker["rows"].values()))  # equal ones by name, as they came


def rows_by_split(splits: pd.Series) -> dict[str, int]:
    return {split: int(n) for split, n in splits.value_counts(sort=False).items()}


def shared_between_splits(table: pd.DataFrame, recordings: dict[Source, Recording]) -> dict[str, list[dict]]:
    """Speakers, texts and recordings with rows in more than one split."""
    digests = pd.Series([source and recordings[source].digest for source in sources_of(table)], dtype=object)
    ids = dict(iter(table["utterance_id"].groupby([digests, table["split"]], sort=False)))
    keys = {"speaker": known_speakers(table["speaker"]), "text": plain_texts(table["text"])}
    return {
        f"{name}s": [{name: table[name][first], "rows": rows} for _, first, rows in shared_keys(table, of_rows)]
        for name, of_rows in keys.items()
    } | {
        "recordings": [
            {"rows": rows, "utterance_ids": {split: list(ids[digest, split]) for split in rows}}
            for digest, _, rows in shared_keys(table, digests)
        ]
    }


def shared_keys(table: pd.DataFrame, keys: pd.Series) -> Iterator[tuple[Hashable, int, dict[str, int]]]:
    """Each key that is in several splits, the label of its first row, and its rows by split."""
    shared = in_several_splits(table, keys)
    splits = [name for name in shared if name != "first"]
    counts = shared[splits].to_numpy().tolist()
    for key, first, of_key in zip(shared.index, shared["first"], counts, strict=True):
        yield key, first, {split: n for split, n in zip(splits, of_key, strict=True) if n}


def broken_rows(table: pd.DataFrame, recordings: dict[Source, Recording]) -> list[dict[str, Any]]:
    heard = [source and recordings[source] for source in sources_of(table)]
    columns = (table[name] for name in ("utterance_id", "split", "audio", "start", "end"))
    return [
        {"utterance_id": utterance_id, "split": split, "audio": path}
        | {name: time for name, time in (("start", start), ("end", end)) if time == time}  # NaN is not equal to itself
        | {"kind": recording.kind, "detail": recording.detail}
        for utterance_id, split, path, start, end, recording in zip(*columns, heard, strict=True)
        if recording is not None and recording.kind is not None
    ]
