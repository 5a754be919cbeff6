"""What the loaders of published corpora share: finding files, counting irregularities.

Nothing is dropped in silence: what cannot be read, or is left aside, becomes a notice with its count and some names.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from .schema import DIMENSIONS, CorpusError, counted, name_some

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
