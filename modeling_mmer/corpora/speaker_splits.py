"""Splits that share no speaker, for corpora without splits of their own, and for a cross-validation."""

from collections.abc import Callable

import pandas as pd

from .schema import CorpusError, counted
from .sharing import known_speakers


def split_by_fold(speakers: pd.Series, fold: int, folds: int) -> tuple[pd.Series, list[str]]:
    """Splits of one fold of a cross-validation by speaker. Of the speakers in sorted order, every `folds`-th from the
    `fold`-th on are the test split, the first sixth of the others is for validation, and the rest is trained on.

    Args:
        fold: from 1.

    Raises:
        CorpusError: a row names no speaker, or there are fewer speakers than a fold needs.
    """
    speakers = known_speakers(speakers.astype("string")).astype(object)
    if missing := int(speakers.isna().sum()):
        raise CorpusError(
            f"--speaker_folds needs the speaker of each row, and {counted(missing, 'row has', 'rows have')} none: fill "
            "the column of speakers, or name it with --column_map speaker=COLUMN"
        )
    ordered = sorted(speakers.unique())
    if len(ordered) < max(3, folds):
        few = counted(len(ordered), "speaker is", "speakers are")
        raise CorpusError(f"{few} too few for {folds} folds of speakers")
    tested = ordered[fold - 1 :: folds]
    others = [speaker for speaker in ordered if speaker not in tested]
    validated = others[: max(1, len(others) // 6)]
    splits = dict.fromkeys(others, "train") | dict.fromkeys(validated, "validation") | dict.fromkeys(tested, "test")
    told = f"tested on {', '.join(tested)}; selected on {', '.join(validated)}"
    return speakers.map(splits), [f"fold {fold} of {folds} of the speakers, in place of the corpus's splits: {told}"]


def split_by_speaker(speakers: pd.Series, name: Callable[[str], str] = str) -> tuple[pd.Series, list[str]]:
    """Splits for a corpus that comes without: by speaker in sorted order, two thirds train, a sixth each for
    validation and test."""
    ordered = sorted(speakers.dropna().unique())
    held_out = max(1, round(len(ordered) / 6))
    splits = dict.fromkeys(ordered, "train")
    splits |= dict.fromkeys(ordered[-2 * held_out : -held_out], "validation")
    splits |= dict.fromkeys(ordered[-held_out:], "test")
    of_split = {split: [name(s) for s in ordered if splits[s] == split] for split in ("validation", "test")}
    told = "; ".join(f"{split}: {', '.join(names)}" for split, names in of_split.items())
    return speakers.map(splits), [f"the corpus has no splits of its own; ours share no speaker ({told})"]
