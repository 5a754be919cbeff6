"""What the loaders of corpora share: finding files, counting irregularities, splitting by speaker.

Nothing is dropped in silence: what cannot be read, or is left aside, becomes a notice with its count and some names.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from .schema import DIMENSIONS, CorpusError, counted, name_some
from .sharing import known_speakers

READERS = 16  # threads: small files wait for the disk, not for the processor


def require(root: Path, *alternatives: str) -> Path:
    """The first of some names below `root` that exists.

    Raises:
        CorpusError: none does.
    """
    for name in alternatives:
        if (root / name).exists():
            return root / name
    raise CorpusError(
        f"{root} is not laid out as this corpus is: looked for {' or '.join(alternatives)}; "
        "--corpus_dir names the folder that holds it"
    )


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, stripped; bytes that are no UTF-8 are read as Latin-1."""
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_texts(paths: Iterable[Path]) -> list[str | None]:
    """The content of each file as one line; None for a file that is missing or blank."""

    def read(path: Path) -> str | None:
        return " ".join(read_lines(path)) or None if path.is_file() else None

    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(read, paths))


def match_lines(lines: Iterable[str], pattern: re.Pattern, unread: list[str]) -> Iterator[re.Match]:
    """Each line that the pattern matches from its beginning; the others are added to `unread`."""
    for line in lines:
        match = pattern.match(line)
        if match is None:
            unread.append(line)
        else:
            yield match


def count(one: str, many: str, what: str, items: Collection[object], consequence: str = "") -> list[str]:
    """A notice that there are some of these, naming a few; nothing if there are none.

    Args:
        one, many: how it begins, as `row has` and `rows have`; `what` comes after that.
        consequence: whatever the number is, as `not read`.
    """
    if not items:
        return []
    said = f"{counted(len(items), one, many)} {what}"
    return [f"{said}{': ' + consequence if consequence else ''} ({name_some(items, most=5)})"]


def blank_off_scale(table: pd.DataFrame, scale: tuple[float, float]) -> list[str]:
    """Blank, in place, published dimensions that are no number on the corpus's own scale; the notice names them."""
    wrong = []
    for dimension in table.columns.intersection(DIMENSIONS):
        values = pd.to_numeric(table[dimension], errors="coerce")
        bad = table[dimension].notna() & ~values.between(*scale)
        wrong += [f"{row.utterance_id}: {dimension} {row[dimension]}" for _, row in table[bad].iterrows()]
        table[dimension] = values.where(~bad)
    return count("value is", "values are", f"not on the scale {scale[0]:g} to {scale[1]:g}", wrong, "unlabelled")


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
