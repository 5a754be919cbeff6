"""What several splits have in common: speakers, texts and recordings that a model is trained on and then judged by."""

from dataclasses import replace
from textwrap import shorten

import numpy as np
import pandas as pd

from .schema import Corpus, counted, name_some


def known_speakers(speakers: pd.Series) -> pd.Series:
    """The speakers, None where a row names none; `Unknown`, as published corpora have it, is no name."""
    unknown = speakers.str.fullmatch("(.*/)?unknown", case=False, na=True)  # of several corpora: msp_podcast/Unknown
    return speakers.where(~unknown, None)


def plain_texts(texts: pd.Series) -> pd.Series:
    """The texts without regard to case and spacing."""
    plain = [" ".join(text.casefold().split()) if isinstance(text, str) else None for text in texts.to_numpy(object)]
    return pd.Series(plain, index=texts.index, dtype=object)


def in_several_splits(table: pd.DataFrame, keys: pd.Series) -> pd.DataFrame:
    """Keys that occur in more than one split, in the order of the table: `first`, the label of the first row of each,
    and a column with its rows for each split."""
    key_of_row, names = pd.factorize(keys)  # in the order of the table; -1 where there is none
    split_of_row, splits = pd.factorize(table["split"])
    has_key = key_of_row >= 0
    pairs = key_of_row[has_key] * len(splits) + split_of_row[has_key]
    counts = np.bincount(pairs, minlength=len(names) * len(splits)).reshape(len(names), len(splits))
    first = keys.index[has_key & ~keys.duplicated()]
    is_shared = (counts > 0).sum(axis=1) > 1
    return pd.DataFrame(counts[is_shared], index=names[is_shared], columns=splits).assign(first=first[is_shared])


def note_shared(corpus: Corpus) -> Corpus:
    """The corpus with caveats of speakers and texts that are in several splits.

    It is for a corpus that is complete: after corpora are joined, bad rows are left out, and text is transcribed.
    """
    tables = [
        rows.select_columns(["text", "speaker"]).to_pandas().assign(split=split)
        for split, rows in corpus.splits.items()
    ]
    if len(tables) < 2:
        return corpus
    table = pd.concat(tables, ignore_index=True)
    caveats = _shared_speakers(table) + _shared_texts(table)
    return replace(corpus, caveats=[*corpus.caveats, *(said for said in caveats if said not in corpus.caveats)])


def _shared_speakers(table: pd.DataFrame) -> list[str]:
    shared = in_several_splits(table, known_speakers(table["speaker"]))
    if shared.empty:
        return []
    speakers = name_some(sorted(shared.index))
    return [f"speakers in more than one split, so scores are not on unseen speakers: {speakers}"]


def _shared_texts(table: pd.DataFrame) -> list[str]:
    shared = in_several_splits(table, plain_texts(table["text"]))
    if shared.empty:
        return []
    texts = (shorten(table["text"][i], 60, placeholder=" …") for i in shared["first"][:3])
    more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
    return [
        f"{counted(len(shared), 'text is', 'texts are')} in more than one split, so scores from text are not on unseen "
        f"ones: {', '.join(texts)}{more}"
    ]
