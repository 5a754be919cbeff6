"""Corpora: one file each, all giving the same columns (`schema.py`). Knows nothing of models."""

from .faults import BadRows
from .joining import on_scale
from .loading import FROM_DIRECTORY, PUBLISHED, load_corpora, number_of_folds
from .reading import Reading
from .schema import Corpus, CorpusError

__all__ = [
    "FROM_DIRECTORY",
    "PUBLISHED",
    "BadRows",
    "Corpus",
    "CorpusError",
    "Reading",
    "load_corpora",
    "number_of_folds",
    "on_scale",
]
