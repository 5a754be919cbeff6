"""Rows that a model was trained on, among those that it is to be judged by."""

from dataclasses import replace
from typing import Literal

from datasets import Dataset

from ..corpora import Corpus
from ..corpora.schema import counted
from ..training.training_corpus import FILE, USED, TrainingCorpus

TrainingRows = Literal["stop", "skip", "keep"]
FEW = 0.1  # the share of rows below which they are a caveat, and no reason to stop


def set_apart(
    corpus: Corpus, split: str, training: TrainingCorpus | None, model: str, training_rows: TrainingRows
) -> Corpus:
    """The corpus with a caveat of the rows that the model was trained on, or selected by, and perhaps without them.

    A split that is itself called train or validation is judged as what it is.

    Raises:
        ValueError: a tenth or more of the rows were used, and they are to stop the evaluation; or no other row is left.
    """
    rows = corpus.splits[split]
    of = f"of {counted(len(rows), 'row')}"
    if training is None:
        notice = f"{model} has no {FILE}: whether it was trained on these rows is not known"
        return replace(corpus, notices=[*corpus.notices, notice])
    if split in USED and (of_split := training.seen(corpus, split, split)):
        said = counted(len(of_split), f"{of} is a row that", f"{of} are rows that")
        corpus = with_caveat(corpus, f"{said} {model} was {USED[split]}")
    others = {"train": [], "validation": ["train"]}.get(split, list(USED))
    used = set().union(*(training.seen(corpus, split, other) for other in others))
    if not used:
        return corpus
    told = counted(len(used), f"{of} is", f"{of} are") + f" among the {' or '.join(others)} rows of {model}"
    if training_rows == "skip":
        if len(used) == len(rows):
            raise ValueError(f"{corpus.name}, {split}: {told}, and no other row is left.")
        return with_caveat(without(corpus, split, used), f"{told}; left out")
    if training_rows == "stop" and len(used) >= FEW * len(rows):
        raise ValueError(
            f"{corpus.name}, {split}: {told}, so figures would not be those of new data.{cause(corpus)} "
            "--training_rows skip judges the other rows only, --training_rows keep all of them."
        )
    return with_caveat(corpus, f"{told}, so scores are not on unseen data")


def cause(corpus: Corpus) -> str:
    """What may be behind it: data of one's own without a column of the splits."""
    if any(reading.columns and "split" not in reading.columns for reading in corpus.readings):
        return " No column says the split, so every row counts as test: name one with --column_map split=COLUMN."
    return ""


def with_caveat(corpus: Corpus, caveat: str) -> Corpus:
    return replace(corpus, caveats=[*corpus.caveats, caveat])


def without(corpus: Corpus, split: str, utterance_ids: set[str]) -> Corpus:
    """The corpus without some utterances of one split."""
    rows = corpus.splits[split]
    table = rows.to_pandas()
    kept = table[~table["utterance_id"].isin(utterance_ids)]
    rows = Dataset.from_pandas(kept, features=rows.features, preserve_index=False)
    return replace(corpus, splits=corpus.splits | {split: rows})
