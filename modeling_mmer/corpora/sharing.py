"""What several splits have in common: speakers, texts and recordings that a model is trained on and then judged by."""

from collections.abc import Iterable

import pandas as pd


def known_speakers(speakers: pd.Series) -> pd.Series:
    """The speakers, None where a row names none; `Unknown`, as published corpora have it, is no name."""
    unknown = speakers.str.fullmatch("(.*/)?unknown", case=False, na=True)  # of several corpora: msp_podcast/Unknown
    return speakers.where(~unknown, None)


def plain_texts(texts: pd.Series) -> pd.Series:
    """The texts without regard to case and spacing."""
    return texts.map(lambda text: " ".join(text.casefold().split()), na_action="ignore")


def in_several_splits(table: pd.DataFrame, keys: pd.Series) -> Iterable[pd.DataFrame]:
    """The rows of each key that occurs in more than one split, in the order of the table."""
    is_shared = table["split"].groupby(keys).transform("nunique") > 1
    return (rows for _, rows in table[is_shared].groupby(keys[is_shared], sort=False))
