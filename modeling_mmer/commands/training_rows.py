"""Rows of an evaluation that the model was trained on."""

from dataclasses import replace
from typing import Literal

from datasets import Dataset

from ..corpora import Corpus
from ..corpora.schema import counted
from ..training.training_corpus import FILE, USED, TrainingCorpus

TrainingRows = Literal["stop", "skip", "keep"]
STOP_SHARE = 0.1  # with fewer training rows than this fraction, the evaluation continues with a caveat


def handle_training_rows(
    corpus: Corpus, split: str, training: TrainingCorpus | None, model: str, training_rows: TrainingRows
) -> Corpus:
    """Add a caveat if rows were used for training or model selection; with `training_rows="skip"`, remove them.

    The train and validation splits themselves are evaluated, with a caveat.

    Raises:
        ValueError: 10 % or more of the rows were used and `training_rows` is "stop"; or "skip" leaves no row.
    """
    rows = corpus.splits[split]
    of = f"of {counted(len(rows), 'row')}"
    if training is None:
        notice = f"{model} has no {FILE}: it is not known whether it was trained on these rows"
        return replace(corpus, notices=[*corpus.notices, notice])
    if split in USED and (of_split := training.seen(corpus, split, split)):
        caveat = counted(len(of_split), f"{of} is a row that", f"{of} are rows that")
        corpus = add_caveat(corpus, f"{caveat} {model} was {USED[split]}")
    others = {"train": [], "validation": ["train"]}.get(split, list(USED))
    used = set().union(*(training.seen(corpus, split, other) for other in others))
    if not used:
        return corpus
    overlap = counted(len(used), f"{of} is", f"{of} are") + f" among the {' or '.join(others)} rows of {model}"
    if training_rows == "skip":
        if len(used) == len(rows):
            raise ValueError(f"{corpus.name}, {split}: {overlap}; no other row is left.")
        return add_caveat(drop_rows(corpus, split, used), f"{overlap}; left out")
    if training_rows == "stop" and len(used) >= STOP_SHARE * len(rows):
        raise ValueError(
            f"{corpus.name}, {split}: {overlap}, so the figures would not be for unseen data."
            f"{missing_split_hint(corpus)} --training_rows skip evaluates the other rows only, --training_rows keep "
            "all of them."
        )
    return add_caveat(corpus, f"{overlap}, so scores are not on unseen data")


def missing_split_hint(corpus: Corpus) -> str:
    """A likely reason: user data without a split column."""
    if any(reading.columns and "split" not in reading.columns for reading in corpus.readings):
        return " There is no split column, so all rows count as test: name one with --column_map split=COLUMN."
    return ""


def add_caveat(corpus: Corpus, caveat: str) -> Corpus:
    return replace(corpus, caveats=[*corpus.caveats, caveat])


def drop_rows(corpus: Corpus, split: str, utterance_ids: set[str]) -> Corpus:
    """Remove utterances from one split."""
    rows = corpus.splits[split]
    table = rows.to_pandas()
    kept = table[~table["utterance_id"].isin(utterance_ids)]
    rows = Dataset.from_pandas(kept, features=rows.features, preserve_index=False)
    return replace(corpus, splits=corpus.splits | {split: rows})
