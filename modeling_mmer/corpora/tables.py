"""Tables as people have them: CSV as a spreadsheet writes it, JSON lines, Parquet.

A CSV's encoding and delimiter are found. What cannot be read for certain is refused with its line: a cell too many
moves all that follow under another column's name, and an open quotation mark makes one row of many.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pandas as pd

from .schema import CorpusError, counted, name_some

DELIMITED = (".csv", ".tsv")
SUFFIXES = (*DELIMITED, ".jsonl", ".parquet")

_DELIMITERS = (",", ";", "\t", "|")
_SEP_LINE = re.compile(r'"?sep=(?P<delimiter>[^"\r\n])"?[;,\t]*\s*$', re.IGNORECASE)  # what Excel reads
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_DECIMAL_COMMA = re.compile(r"-?\d+(?:,\d+)?")
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_WORD = re.compile(r"[^\W\d_]{3,}")
_FOREIGN = re.compile(r"[^\W\d_][¡¢£¤¥¦§¨©¬®¯±²³¶¸¹»¼½¾¿‚„ˆ˜‰†‡•][^\W\d_]")  # no western word holds one
_UTF_8 = re.compile(rb"[\xc2-\xc5][\x80-\xbf]|\xe2\x80[\x80-\xbf]")  # é, or a dash: in Windows-1252 Ã©, of no word
_UNSEEN = "\ufeff\u200b"  # marks of byte order and blanks of no width, which no one sees
_QUOTES = "put quotation marks around the whole cell, and double each one within it"


def read_table(file: Path, notices: list[str] | None = None) -> pd.DataFrame:
    """The table as it is written: strings stay strings, only blank cells are missing, names of columns lose the blanks
    around them.

    Args:
        notices: what was noticed on the way is added to it.

    Raises:
        CorpusError: the file cannot be parsed, a row has other cells than the header, or two columns have one name.
    """
    found: list[str] = []
    try:
        if file.suffix.lower() == ".parquet":
            table = _read_parquet(file)
        elif file.suffix.lower() == ".jsonl":
            table = _read_json_lines(file, found)
        else:
            table = _read_delimited(file, found)
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parsing errors are ValueErrors
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"{file} cannot be read as {file.suffix[1:]}: {error}") from error
    table.columns = [str(name).strip() for name in table.columns]
    if twice := [name for name, n in Counter(table.columns).items() if n > 1]:
        raise CorpusError(f"{file}: more than one column is named {' and '.join(twice)}; rename all but one")
    if notices is not None:
        notices += found
    return table


def _read_parquet(file: Path) -> pd.DataFrame:
    table = pd.read_parquet(file)
    if any(name is not None for name in table.index.names):  # a column that pandas wrote as the index
        table = table.reset_index()
    categories = {name: object for name, dtype in table.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)}
    return table.astype(categories)


def _read_json_lines(file: Path, notices: list[str]) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(io.StringIO(decode(file, notices)), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_distinct)
        except ValueError as error:
            raise CorpusError(f"{file} cannot be read as jsonl: line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise CorpusError(f"{file} cannot be read as jsonl: line {number} is no JSON object with a key per column")
        rows.append(row)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in columns})


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON, of which Python would take the last of two equal keys."""
    if twice := [name for name, n in Counter(name for name, _ in pairs).items() if n > 1]:
        raise ValueError(f"it has more than one value for {' and '.join(twice)}")
    return dict(pairs)


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def decode(file: Path, notices: list[str]) -> str:
    """The text of a file: UTF-8, UTF-16 or UTF-32 by its first bytes, or Windows-1252, which a notice then says.

    Raises:
        CorpusError: it is in none of these encodings, as far as can be told.
    """
    content = file.read_bytes()
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    if encoding is None and content[:2000].count(0) > len(content[:2000]) / 4:  # letters of two bytes, one of them 0
        encoding = "utf-16-le" if content[1:2000:2].count(0) > content[:2000:2].count(0) else "utf-16-be"
    try:
        return content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise CorpusError(f"{file} begins as {encoding} and is none: {error}; save it as UTF-8") from error
        _refuse_mixture(file, content, error.start)
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # which has a character for every byte
    number, line = next((i, line) for i, line in enumerate(text.splitlines(), start=1) if not line.isascii())
    controls = any("\x80" <= character <= "\x9f" for character in text)
    # A western word has a letter of ASCII. One that has none is in another script, whose encoding this is not.
    strange = any(all(letter > "\x7f" for letter in word) for word in _WORD.findall(text)) or _FOREIGN.search(text)
    if controls or strange:
        raise CorpusError(
            f"{file} is neither UTF-8 nor UTF-16, and read as Windows-1252 its line {number} is {line.strip()[:60]!r}: "
            "save it as UTF-8"
        )
    notices.append(
        f"{file.name} is not UTF-8 and was read as Windows-1252 (line {number}: {line.strip()[:60]}); if characters "
        "are wrong, save it as UTF-8"
    )
    return text


def _refuse_mixture(file: Path, content: bytes, place: int) -> None:
    """Raise a CorpusError if a text that is not UTF-8 at some place is UTF-8 at others: no encoding reads all of it."""
    if _UTF_8.search(content):
        line = content[:place].count(b"\n") + 1
        shown = content.splitlines()[line - 1].decode("utf-8", errors="replace").strip()[:60]
        raise CorpusError(f"{file} is UTF-8 in part only: line {line} is not ({shown!r}); save it as UTF-8")


# ── delimited ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _read_delimited(file: Path, notices: list[str]) -> pd.DataFrame:
    lines = io.StringIO(decode(file, notices), newline="").readlines()
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    stated = _SEP_LINE.match(lines[first]) if lines else None
    first += stated is not None
    if not any(line.strip() for line in lines[first:]):
        raise ValueError("it has no line with the names of its columns")
    delimiter = stated["delimiter"] if stated else find_delimiter(lines[first], file)
    rows = _rows(file, lines, first, delimiter)
    names = [_named(name) for name in next(rows)[1]]
    width = len(names)
    while names and not names[-1]:  # from a delimiter at the end of each line
        names.pop()
    names = [name or f"column {i}" for i, name in enumerate(names, start=1)]
    begins, columns, wrong = _columns(file, names, width, rows, notices)
    if wrong:
        raise CorpusError(_ragged(file, names, wrong, lines, delimiter))
    notices += _look_into_broken_cells(file, names, lines, begins, columns, delimiter)
    if delimiter != ",":
        columns = [_with_points(column) for column in columns]
    columns = [[cell or None for cell in column] if "" in column else column for column in columns]
    table = pd.DataFrame({i: pd.Series(column, dtype=object) for i, column in enumerate(columns)})
    return table.set_axis(names, axis=1)


def _columns(
    file: Path, names: list[str], width: int, rows: Iterable[tuple[int, list[str]]], notices: list[str]
) -> tuple[list[int], list[list[str]], list[tuple[int, int]]]:
    """Where the rows begin, the cells of each column, and the rows that have other cells than the header: where they
    begin, and how many they have. Rows without any content are left out, and so is a header among the rows, where
    files were put together.

    Blank cells at the end of a row are left out if the header has as many, or if every row has some. Of one row among
    others, they may be cells that a delimiter too many has moved.

    Args:
        width: cells of the header, with its blank ones at the end.
    """
    begins: list[int] = []
    cells: list[str] = []  # row after row: Python's garbage collector would visit a list for each
    blank, repeated, wrong, longer = 0, 0, [], []
    n_columns, most = len(names), max(width, len(names))
    for number, given in rows:
        row = given if len(given) == n_columns else _without_blank_end(given, n_columns)
        if not row[0].strip() and not any(cell.strip() for cell in row):
            blank += 1
        elif names[0] in row[0] and n_columns > 1 and list(map(_named, row)) == names:
            repeated += 1
        elif len(row) != n_columns:
            wrong.append((number, len(row)))
        else:
            if len(given) > most:
                longer.append((number, len(given)))
            begins.append(number)
            cells += row
    if len(longer) < len(begins):
        wrong = sorted(wrong + longer)
    for n, why in ((repeated, "the header once more"), (blank, "nothing in any cell")):
        if n:
            notices.append(f"{counted(n, f'row of {file.name} is', f'rows of {file.name} are')} not read: {why}")
    return begins, [cells[i::n_columns] for i in range(n_columns)], wrong


def _named(cell: str) -> str:
    """The name of a column, without what no one sees of it."""
    return cell.strip().strip(_UNSEEN).strip()


def _without_blank_end(row: list[str], width: int) -> list[str]:
    """A row without the blank cells that go beyond its table, from a delimiter at the end of each line."""
    length = next((i for i in range(len(row), width, -1) if row[i - 1].strip()), width)
    return row[:length]


def find_delimiter(header: str, file: Path) -> str:
    """The delimiter that makes most cells of the header; a comma, or of a `.tsv` a tab, where there is none."""
    cells = {d: len(next(csv.reader([header], delimiter=d, skipinitialspace=True))) for d in _DELIMITERS}
    most = max(cells.values())
    usual = "\t" if file.suffix.lower() == ".tsv" else ","
    return usual if cells[usual] == most else max(cells, key=cells.get)


def _rows(file: Path, lines: list[str], first: int, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The number of the line where each row begins, and its cells; blank lines are no rows."""
    reader = csv.reader(lines[first:], delimiter=delimiter, strict=True, skipinitialspace=True)
    begins, n = first + 1, 0
    try:
        for row in reader:
            if row:
                yield begins, row
                n += 1
            begins = first + reader.line_num + 1
    except csv.Error as error:
        raise CorpusError(
            f"{file}: line {begins} (row {n}, {_shown(lines[begins - 1])}) has a quotation mark that is not closed, or "
            f"closed too early ({error}); {_QUOTES}"
        ) from error


def _ragged(file: Path, names: list[str], wrong: list[tuple[int, int]], lines: list[str], delimiter: str) -> str:
    """The message on rows whose cells are not those of the header."""
    named = [f"line {number} has {n} ({_shown(lines[number - 1])})" for number, n in wrong]
    written = "a tab" if delimiter == "\t" else f"{delimiter!r}"
    return (
        f"{file}: the header has {counted(len(names), 'column')} ({name_some(names)}), but {name_some(named, most=5)}: "
        f"a cell that holds {written} needs quotation marks around it, and a blank cell its delimiter"
    )


def _look_into_broken_cells(
    file: Path, names: list[str], lines: list[str], begins: list[int], columns: list[list[str]], delimiter: str
) -> list[str]:
    """A notice of cells that hold line breaks.

    Raises:
        CorpusError: one of them has swallowed other rows, because a quotation mark was left open. That is so where one
            of its lines but the last has as many cells as a row, and in some column what other rows have there.
    """
    several = [row for row, (begin, after) in enumerate(pairwise([*begins, len(lines) + 1])) if after - begin > 1]
    broken = [
        (begins[row], i, column[row])
        for row in several  # lines, of which some may be blank, or repeat the header
        for i, column in enumerate(columns)
        if "\n" in column[row] or "\r" in column[row]
    ]
    if not broken:
        return []
    known = [{cell.strip() for cell in column if cell.strip()} for column in columns]
    for number, i, cell in broken:
        for k in range(len(_LINE_BREAK.split(cell)) - 1):
            parts = [part.strip() for part in lines[number - 1 + k].split(delimiter)]
            others = range(i + 1 if k == 0 else 0, len(names))  # before the cell, its first line is its own row
            if len(parts) == len(names) and any(parts[j] in known[j] for j in others if j != i):
                raise CorpusError(
                    f"{file}: line {number} has a quotation mark in the column {names[i]} that is not closed before "
                    f"another row begins ({_shown(lines[number + k])}); {_QUOTES}"
                )
    where = name_some((f"line {number}" for number in dict.fromkeys(number for number, _, _ in broken)), most=5)
    return [
        f"{counted(len(broken), f'cell of {file.name} has', f'cells of {file.name} have')} line breaks ({where}); "
        "where that is not meant, a quotation mark is left open"
    ]


def _with_points(column: list[str]) -> list[str]:
    """A column of numbers with decimal commas, as a spreadsheet writes them, with points; any other as it is."""
    given = [cell.strip() for cell in column if cell.strip()]
    if not any("," in cell for cell in given) or not all(_DECIMAL_COMMA.fullmatch(cell) for cell in given):
        return column
    return [cell.replace(",", ".") for cell in column]


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:60]} …"
