"""Several corpora as one: on one scale, with ids and speakers of their own."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import count

import pandas as pd
from datasets import Dataset, concatenate_datasets

from .labels import rescale
from .schema import DIMENSIONS, FEATURES, SPLITS, Corpus, name_some


def join(corpora: list[Corpus]) -> Corpus:
    """Corpora concatenated split by split, on the scale of the first; ids and speakers start with their corpus's
    name."""
    scale = corpora[0].label_scale
    names = distinct([corpus.name for corpus in corpora])
    named = list(zip(names, corpora, strict=True))
    splits = {}
    for split in SPLITS:
        having = [(name, corpus) for name, corpus in named if split in corpus.splits]
        if parts := [_with_prefix(on_scale(corpus, scale).splits[split], name) for name, corpus in having]:
            splits[split] = concatenate_datasets(parts)
    notices, caveats = (
        [f"{name}: {said}" for name, corpus in named for said in getattr(corpus, field)]
        for field in ("notices", "caveats")
    )
    advice: dict[str, str] = {}
    for name, corpus in named:
        for field, option in corpus.advice.items():
            advice.setdefault(field, option.replace("--column_map ", f"--column_map {name}:"))
    return Corpus(
        "+".join(names),
        splits,
        scale,
        [*notices, *_same_speakers(splits, names)],
        caveats,
        readings=tuple(reading for corpus in corpora for reading in corpus.readings),
        folders=tuple(dict.fromkeys(folder for corpus in corpora for folder in corpus.folders)),
        faults=[
            replace(fault, utterance_id=f"{name}/{fault.utterance_id}", row=f"{name}: {fault.row}")
            for name, corpus in named
            for fault in corpus.faults
        ],
        left_out=[replace(one, emotion=f"{name}:{one.emotion}") for name, corpus in named for one in corpus.left_out],
        advice=advice,
        **{fact: _shared(getattr(corpus, fact) for corpus in corpora) for fact in ("license", "language")},
    )


def _shared(values: Iterable[str | None]) -> str | None:
    """What all corpora agree on, or None."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None


def on_scale(corpus: Corpus, scale: tuple[float, float]) -> Corpus:
    """The same corpus with its dimensions carried linearly onto another scale, such as the one a model was trained
    on; a caveat says so, for a scale that was only assumed gives other figures."""
    if tuple(scale) == tuple(corpus.label_scale):
        return corpus
    splits, caveats = {}, list(corpus.caveats)
    if any(value is not None for rows in corpus.splits.values() for d in DIMENSIONS for value in rows[d]):
        caveats.append(
            "the dimensions were carried from {:g} to {:g}, the corpus's scale, onto {:g} to {:g}, the model's; "
            "--label_scale declares the scale of a corpus of one's own".format(*corpus.label_scale, *scale)
        )
    for split, rows in corpus.splits.items():
        table: pd.DataFrame = rows.to_pandas()
        for dimension in DIMENSIONS:
            table[dimension] = rescale(table[dimension].astype("float64"), corpus.label_scale, scale)
        splits[split] = Dataset.from_pandas(table, features=FEATURES, preserve_index=False)
    return replace(corpus, splits=splits, label_scale=tuple(scale), caveats=caveats)


def _with_prefix(rows: Dataset, name: str) -> Dataset:
    """Rows with ids and speakers of their own."""
    table: pd.DataFrame = rows.to_pandas()
    table["utterance_id"] = name + "/" + table["utterance_id"]
    table["speaker"] = table["speaker"].map(lambda speaker: f"{name}/{speaker}", na_action="ignore")
    return Dataset.from_pandas(table, features=FEATURES, preserve_index=False)


def _same_speakers(splits: dict[str, Dataset], names: list[str]) -> list[str]:
    """A notice of speakers whose name is in one corpus's train split and in another's held-out ones: if they are one
    person, nothing else would say so."""
    trained_in: dict[str, set[str]] = {}
    held_out: set[tuple[str, str]] = set()
    for split, rows in splits.items():
        for speaker in set(rows["speaker"][:]) - {None}:
            corpus = next(name for name in sorted(names, key=len, reverse=True) if speaker.startswith(f"{name}/"))
            own_name = speaker.removeprefix(f"{corpus}/")
            if split == "train":
                trained_in.setdefault(own_name, set()).add(corpus)
            else:
                held_out.add((corpus, own_name))
    same = sorted({name for corpus, name in held_out if trained_in.get(name, {corpus}) - {corpus}} - {"Unknown"})
    if not same:
        return []
    return [f"speakers of one name are trained on in one corpus and held out in another: {name_some(same, most=5)}"]


def distinct(names: list[str]) -> list[str]:
    """The names, a repeated one with a number: `data`, `data-2`."""
    told: list[str] = []
    for name in names:
        numbered = (f"{name}-{n}" for n in count(2))
        told.append(name if name not in told else next(new for new in numbered if new not in told and new not in names))
    return told
