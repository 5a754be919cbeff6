"""Corpora: one file each, all giving the same columns (`schema.py`). Knows nothing of models.

Two kinds of loader: packaged corpora (`demo`) bring their files, their columns and their scale; all others are read
from a directory that the user names, and take the user's column names and scale.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from datasets import Dataset, concatenate_datasets

from .demo import load_demo
from .folder import load_folder
from .labels import rescale
from .schema import DIMENSIONS, FEATURES, SPLITS, Corpus, CorpusError

PACKAGED = {"demo": load_demo}
FROM_DIRECTORY = {"folder": load_folder}

__all__ = ["FROM_DIRECTORY", "PACKAGED", "Corpus", "CorpusError", "load_corpora", "on_scale"]


def load_corpora(
    names: str | Sequence[str],
    directories: str | Path | Sequence[str | Path] | None = None,
    *,
    emotion_labels: Sequence[str],
    label_map: Mapping[str, str] | None = None,
    column_map: Mapping[str, str] | None = None,
    label_scale: Sequence[float] | None = None,
) -> Corpus:
    """Loads one corpus or several as one.

    Several are concatenated split by split. Utterance ids and speakers are then prefixed with their corpus's name, and
    dimensions are carried linearly onto the first corpus's scale.

    Args:
        names: names of corpora.
        directories: a directory for each corpus that is not packaged, in the order of `names`.
        emotion_labels: the model's emotion classes; any other emotion counts as unlabelled.
        label_map: a corpus's emotion -> the name to read in its place.
        column_map: field -> column, for corpora read from a directory.
        label_scale: lowest and highest value of the dimensions, for corpora read from a directory (default 1 and 7).

    Raises:
        CorpusError: an unknown name; directories that do not match the names; options that no named corpus takes;
            whatever is wrong with a corpus itself.
    """
    names = [names] if isinstance(names, str) else list(names)
    directories = [directories] if isinstance(directories, (str, Path)) else list(directories or [])
    _check_names(names, directories, column_map, label_scale)
    remaining = iter(directories)
    corpora = [
        PACKAGED[name](emotion_labels=emotion_labels, label_map=label_map)
        if name in PACKAGED
        else FROM_DIRECTORY[name](
            next(remaining),
            emotion_labels=emotion_labels,
            label_map=label_map,
            column_map=column_map,
            label_scale=label_scale,
        )
        for name in names
    ]
    return corpora[0] if len(corpora) == 1 else _join(corpora)


def _check_names(names: list[str], directories: list, column_map: object, label_scale: object) -> None:
    existing = ", ".join(sorted(PACKAGED | FROM_DIRECTORY))
    if not names:
        raise CorpusError(f"no corpus named; there are: {existing}")
    for name in names:
        if name not in PACKAGED and name not in FROM_DIRECTORY:
            raise CorpusError(
                f"no corpus {name!r}; there are: {existing}. Data of your own: --corpus folder --corpus_dir FOLDER"
            )
    for name in PACKAGED:
        if names.count(name) > 1:
            raise CorpusError(f"the corpus {name} is named more than once")
    need_directory = [name for name in names if name in FROM_DIRECTORY]
    if len(directories) != len(need_directory):
        raise CorpusError(
            f"{len(need_directory)} of the named corpora ({', '.join(need_directory) or 'none'}) are read from a "
            f"directory, but {len(directories)} directories are given; give one for each, in the same order"
        )
    if not need_directory and (column_map or label_scale is not None):
        raise CorpusError(f"column_map and label_scale have no effect on {', '.join(names)}, which declare their own")


def _join(corpora: list[Corpus]) -> Corpus:
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
    notices = [f"{name}: {notice}" for corpus, name in zip(corpora, names, strict=True) for notice in corpus.notices]
    shared = {fact: _shared(getattr(corpus, fact) for corpus in corpora) for fact in ("license", "language")}
    folders = tuple(dict.fromkeys(folder for corpus in corpora for folder in corpus.folders))
    return Corpus("+".join(names), splits, scale, notices, folders=folders, **shared)


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
