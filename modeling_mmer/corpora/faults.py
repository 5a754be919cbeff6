"""Rows that cannot be used: all of them are collected, told at once by kind, and then stop a run or are left out.

A row is bad as a whole. One whose recording is broken is not used as text alone: what a model is trained on would then
depend on the state of a disk. What a model can be trained on in spite of everything (silence, a recording that was cut
short, a missing label) is no fault; it is counted in the corpus's notices, or in its caveats where it changes what a
figure means.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import pandas as pd
from datasets import Dataset

from .digests import row_digests
from .recordings import Recording, Source, as_clip, sources_of
from .schema import FEATURES, Corpus, CorpusError, Fault, counted, name_some, split_spellings
from .sharing import in_several_splits

BadRows = Literal["stop", "skip"]
SHORT = 0.1  # seconds: five frames of an encoder

OF_TABLE = {  # kind of fault that shows in the metadata -> which rows, and what to do about them
    "shared id": "rows that share an utterance_id; give each one of its own (where there is none, it is the path of "
    "the audio file without extension, so that rows that are parts of one recording need their start and end, in "
    "seconds, in columns of these names), or leave the column unread with --column_map utterance_id=",
    "nothing": "rows with neither audio nor text; fill in one of the two",
    "split": f"rows of unknown splits; rename them to one of ({split_spellings()})",
    "time": "rows whose start and end are not seconds from the beginning of their recording, the start first; correct "
    "or blank them, or leave the columns unread with --column_map start= end=",
    "label": "labels that are no number on the scale; declare another scale with --label_scale LOW HIGH, or correct or "
    "blank them",
    "votes": "votes that cannot be read; correct or blank them, or leave them unread with --column_map emotion_votes=",
}
OF_RECORDING = {
    "missing": "recordings that are missing; paths are relative to the metadata's folder, and a blank one is for a row "
    "that has no audio",
    "unreadable": "recordings that cannot be decoded; convert them to WAV or FLAC, or fetch them again",
    "empty": "recordings without samples; fetch them again, or blank the path",
    "span": "rows whose start and end are not within their recording; times are seconds from its beginning (columns "
    "start_ms and end_ms have milliseconds). Where files hold the rows alone, already cut, leave the times unread with "
    "--column_map start= end=",
    "not finite": "recordings with NaN, infinity, or numbers too large for any sound; repair them",
}
KINDS = OF_TABLE | OF_RECORDING
OF_SOUND = {  # kind of a recording that is heard all the same -> what is odd about it
    "too loud": "far above full scale (1), as integers kept as floats are; divide int16 by 32768",
    "cancelled": "with channels that are inverse to each other and cancel when they are averaged; "
    "invert one of the two, or keep one",
}
_NAMED = 20  # rows of each kind in a message


def fault_of(recording: Recording, path: str, utterance_id: str, row: str, split: str | None) -> Fault:
    """The fault of a row whose recording is not usable."""
    kind = recording.kind if recording.kind in KINDS else "unreadable"  # truncated before anything could be decoded
    return Fault(kind, utterance_id, row, ": ".join(filter(None, (path, recording.detail))), split)


def examine(corpus: Corpus, recordings: dict[Source, Recording]) -> Corpus:
    """The corpus with what reading its recordings to their end has shown: faults, what is odd or shared between splits,
    how long they last, and a digest of each row.

    Args:
        recordings: of every recording, or span of one, in its splits.
    """
    known = {fault.utterance_id for fault in corpus.faults}
    faults, tables = [], []
    for split, rows in corpus.splits.items():
        table, sources = rows.to_pandas(), sources_of(rows)
        found = [None if source is None else recordings[source] for source in sources]
        table["duration"] = pd.Series([recording and recording.seconds for recording in found], dtype="float64")
        faults += [
            fault_of(recording, as_clip(source).path, utterance_id, utterance_id, split)
            for recording, source, utterance_id in zip(found, sources, rows["utterance_id"][:], strict=True)
            if recording is not None and not recording.usable and utterance_id not in known
        ]
        tables.append(table)
    splits = dict(zip(corpus.splits, map(_dataset, tables), strict=True))
    table = pd.concat(tables, ignore_index=True)
    digests = row_digests(table, recordings)
    table = table[table["audio"].notna()].reset_index(drop=True)
    return replace(
        corpus,
        splits=splits,
        faults=[*corpus.faults, *faults],
        notices=corpus.notices + _oddities(table, recordings),
        caveats=corpus.caveats + _odd_sounds(table, recordings) + _shared_recordings(table, recordings),
        digests=digests,
    )


def settle(corpus: Corpus, on_bad_rows: BadRows) -> Corpus:
    """The corpus without bad rows: the same one if it has none, otherwise as `on_bad_rows` says.

    Raises:
        CorpusError: there are bad rows, and they are to stop the run; or no row is left.
    """
    if not corpus.faults:
        return corpus
    if on_bad_rows == "stop":
        raise CorpusError(message(corpus))
    bad = {fault.utterance_id for fault in corpus.faults}
    tables = {split: rows.to_pandas() for split, rows in corpus.splits.items()}
    kept = {split: table[~table["utterance_id"].isin(bad)] for split, table in tables.items()}
    splits = {split: _dataset(table) for split, table in kept.items() if len(table)}
    if not splits:
        raise CorpusError(f"{message(corpus)}\nno other row is left")
    return replace(corpus, splits=splits, faults=[], caveats=corpus.caveats + left_out(corpus.faults))


def message(corpus: Corpus) -> str:
    """Every fault by its kind, and after them what was counted beside them."""
    n = _count(corpus.faults)
    lines = [f"corpus {corpus.name} has bad rows ({n}); mend them, or leave them out with --on_bad_rows skip"]
    for kind, faults in _by_kind(corpus.faults):
        lines += [f"{KINDS[kind]} ({len(faults)}):", *(f"  {fault}" for fault in faults[:_NAMED])]
        lines += [f"  and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
    if beside := [*corpus.caveats, *corpus.notices]:
        lines += ["no reason to stop, but counted:", *(f"  {sentence}" for sentence in beside)]
    return "\n  ".join(lines)


def left_out(faults: Sequence[Fault]) -> list[str]:
    """How many rows were left out, and why; nothing if there are none."""
    if not faults:
        return []
    kinds = (
        f"{KINDS[kind].partition(';')[0]} ({len(of_kind)}): {name_some(of_kind, most=5)}"
        for kind, of_kind in _by_kind(faults)
    )
    return [f"{counted(_count(faults), 'bad row is', 'bad rows are')} left out: {'; '.join(kinds)}"]


def as_table(faults: Sequence[Fault]) -> str:
    """All faults as CSV."""
    return pd.DataFrame([vars(fault) for fault in faults]).to_csv(index=False)


def _count(faults: Iterable[Fault]) -> int:
    return len({fault.row for fault in faults})


def _by_kind(faults: Sequence[Fault]) -> Iterable[tuple[str, list[Fault]]]:
    for kind in KINDS:
        if of_kind := [fault for fault in faults if fault.kind == kind]:
            yield kind, of_kind


def _dataset(table: pd.DataFrame) -> Dataset:
    return Dataset.from_pandas(table, features=FEATURES, preserve_index=False)


def _odd_sounds(table: pd.DataFrame, recordings: dict[Source, Recording]) -> list[str]:
    """Caveats of recordings that a model hears, and not as they were meant."""
    kinds = pd.Series([recordings[source].kind for source in sources_of(table)], dtype=object)
    return [
        f"{counted((kinds == kind).sum(), 'recording')} {what} "
        f"({name_some(table['utterance_id'][kinds == kind], most=5)})"
        for kind, what in OF_SOUND.items()
        if (kinds == kind).any()
    ]


def _oddities(table: pd.DataFrame, recordings: dict[Source, Recording]) -> list[str]:
    """What of the recordings does not stop anything: some are silent, cut short, very short."""
    found = [recordings[source] for source in sources_of(table)]
    odd = {
        "silent from beginning to end": [recording.kind == "silent" for recording in found],
        "cut short, and heard as far as possible": [
            recording.usable and recording.kind == "truncated" for recording in found
        ],
        f"shorter than {SHORT} s": [recording.usable and recording.seconds < SHORT for recording in found],
    }
    return [
        f"{counted(sum(is_odd), 'recording')} {what} ({name_some(table['utterance_id'][is_odd], most=5)})"
        for what, is_odd in odd.items()
        if any(is_odd)
    ]


def _shared_recordings(table: pd.DataFrame, recordings: dict[Source, Recording]) -> list[str]:
    """That recordings of one content are in several splits."""
    found = [recordings[source] for source in sources_of(table)]
    digests = pd.Series([recording.digest if recording.kind is None else None for recording in found], dtype=object)
    same = in_several_splits(table, digests).index
    if same.empty:
        return []
    ids = table["utterance_id"].groupby(digests).agg(list)
    named = name_some((" = ".join(ids[digest][:3]) for digest in same), most=5)
    return [
        f"{counted(len(same), 'recording is', 'recordings are')} in more than one split, so scores are not on unseen "
        f"data ({named})"
    ]
