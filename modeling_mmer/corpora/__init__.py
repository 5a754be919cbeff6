"""Corpora: one file each, all giving the same columns (`schema.py`). Knows nothing of models."""

from .faults import BadRows
from .joining import on_scale
from .loading import FOLDS, FROM_DIRECTORY, PUBLISHED, load_corpora
from .reading import Reading
from .schema import Corpus, CorpusError

__all__ = [
    "FOLDS",
    "FROM_DIRECTORY",
    "PUBLISHED",
    "BadRows",
    "Corpus",
    "CorpusError",
    "Reading",
    "load_corpora",
    "on_scale",
]
