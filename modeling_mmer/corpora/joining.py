"""Several corpora as one: on one scale, with ids and speakers of their own."""

from collections.abc import Iterable
from dataclasses import replace

import pandas as pd
from datasets import Dataset, concatenate_datasets

from .labels import rescale
from .schema import DIMENSIONS, FEATURES, SPLITS, Corpus


def join(corpora: list[Corpus]) -> Corpus:
    """Corpora concatenated split by split, on the scale of the first; ids and speakers start with their corpus's
    name."""
    scale = corpora[0].label_scale
    names = _distinct([corpus.name for corpus in corpora])
    splits = {}
    for split in SPLITS:
        parts = [
            _with_prefix(on_scale(corpus, scale).splits[split], name)
            for corpus, name in zip(corpora, names, strict=True)
            if split in corpus.splits
        ]
        if parts:
            splits[split] = concatenate_datasets(parts)
    notices, caveats = (
        [f"{name}: {said}" for corpus, name in zip(corpora, names, strict=True) for said in getattr(corpus, field)]
        for field in ("notices", "caveats")
    )
    shared = {fact: _shared(getattr(corpus, fact) for corpus in corpora) for fact in ("license", "language")}
    folders = tuple(dict.fromkeys(folder for corpus in corpora for folder in corpus.folders))
    faults = [
        replace(fault, utterance_id=f"{name}/{fault.utterance_id}", row=f"{name}: {fault.row}")
        for corpus, name in zip(corpora, names, strict=True)
        for fault in corpus.faults
    ]
    readings = tuple(reading for corpus in corpora for reading in corpus.readings)
    return Corpus(
        "+".join(names), splits, scale, notices, caveats, readings=readings, folders=folders, faults=faults, **shared
    )


def _shared(values: Iterable[str | None]) -> str | None:
    """What all corpora agree on, or None."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def on_scale(corpus: Corpus, scale: tuple[float, float]) -> Corpus:
    """The same corpus with its dimensions carried linearly onto another scale, such as the one a model was trained
    on."""
    if tuple(scale) == tuple(corpus.label_scale):
        return corpus
    splits = {}
    for split, rows in corpus.splits.items():
        table: pd.DataFrame = rows.to_pandas()
        for dimension in DIMENSIONS:
            table[dimension] = rescale(table[dimension].astype("float64"), corpus.label_scale, scale)
        splits[split] = Dataset.from_pandas(table, features=FEATURES, preserve_index=False)
    return replace(corpus, splits=splits, label_scale=tuple(scale))


def _with_prefix(rows: Dataset, name: str) -> Dataset:
    """Rows with ids and speakers of their own."""
    table: pd.DataFrame = rows.to_pandas()
    table["utterance_id"] = name + "/" + table["utterance_id"]
    table["speaker"] = table["speaker"].map(lambda speaker: f"{name}/{speaker}", na_action="ignore")
    return Dataset.from_pandas(table, features=FEATURES, preserve_index=False)


def _distinct(names: list[str]) -> list[str]:
    """The names, a repeated one with its number: `data`, `data-2`."""
    return [
        name if names[:i].count(name) == 0 else f"{name}-{names[: i + 1].count(name)}" for i, name in enumerate(names)
    ]
