"""Rows that are spans of a longer recording: their start and end, in seconds, as a table has them."""

import math
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from .recordings import Recording, Source, sources_of, span_fault
from .schema import CorpusError, counted

_MILLISECONDS = re.compile(  # ends the name of a column whose times are no seconds
    r"(?:[\s_(\[.-]|(?<=start)|(?<=begin)|(?<=onset)|(?<=end)|(?<=stop)|(?<=offset)|(?<=time)|(?<=duration))ms[)\]]?$",
    re.IGNORECASE,
)


def read_times(table: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """`start` and `end` as numbers, None where there is none or no audio; and which rows' are no times, and why."""
    has_audio = table["audio"].notna()
    given = table[["start", "end"]].where(has_audio, None)
    given = given.map(lambda value: value.strip() or None if isinstance(value, str) else value, na_action="ignore")
    times = given.apply(pd.to_numeric, errors="coerce").astype("float64")
    is_text = (times.isna() & given.notna()).any(axis=1)
    is_odd = ~is_text & ((times < 0).any(axis=1) | times.isin([math.inf]).any(axis=1))
    is_empty = ~is_text & (times["end"] <= times["start"].fillna(0))
    wrong = []
    for place in table.index[is_text | is_odd | is_empty]:
        start, end = (given[name][place] for name in ("start", "end"))
        what = "start comes after end" if is_empty[place] and times["start"][place] > times["end"][place] else ""
        wrong.append((place, f"start {start}, end {end}" + (f": {what}" if what else "")))
    return times, wrong


def measure(table: pd.DataFrame, headers: Mapping[str, Recording]) -> tuple[list[float | None], list[tuple[int, str]]]:
    """How long each row lasts by the headers of the recordings (path -> header), None where that is not known; and
    which rows' spans are not in their recording, and why."""
    seconds: list[float | None] = []
    wrong = []
    for place, source in enumerate(sources_of(table)):
        if source is None or isinstance(source, str):
            seconds.append(source and headers[source].seconds)
            continue
        whole = headers[source.path].seconds
        fault = whole and span_fault(source, whole)
        if fault:
            wrong.append((place, fault))
        seconds.append(None if not whole or fault else _until(source.end, whole) - (source.start or 0))
    return seconds, wrong


def shared_recordings(table: pd.DataFrame) -> list[str]:
    """Caveats: rows that hear the whole of one recording, as others do; recordings with spans in several splits."""
    with_audio = table[table["audio"].notna()]
    is_whole = with_audio["start"].isna() & with_audio["end"].isna()
    rows = with_audio.loc[is_whole, "audio"].value_counts()
    rows = rows[rows > 1]
    caveats = []
    if len(rows):
        caveats.append(
            f"{rows.sum()} rows share {counted(len(rows), 'recording')}, and each hears the whole of its recording; if "
            "they are parts of it, give their start and end in seconds, in columns of these names"
        )
    spans = with_audio[~is_whole]
    caveats += [said for field in ("start", "end") for said in _open_spans(spans, field)]
    divided = int((spans.groupby("audio")["split"].nunique() > 1).sum())
    if divided:
        caveats.append(
            f"{counted(divided, 'recording has', 'recordings have')} spans in more than one split, so scores are not "
            "on unseen recordings"
        )
    return caveats


def _open_spans(spans: pd.DataFrame, field: str) -> list[str]:
    """A caveat of spans that share a recording and lack one of their times, so that they overlap."""
    rows = spans.loc[spans[field].isna(), "audio"].value_counts()
    rows = rows[rows > 1]
    if rows.empty:
        return []
    heard = "from its beginning" if field == "start" else "to its end"
    nor = "" if field == "start" else " and no duration"
    return [
        f"{rows.sum()} rows share {counted(len(rows), 'recording')} and have no {field}{nor}, so that each hears its "
        f"recording {heard}; --column_map {field}=COLUMN names the column that has it"
    ]


def name_spans(ids: pd.Series, table: pd.DataFrame) -> pd.Series:
    """Ids that are paths, with the span of each row: `call#12.5-14`."""
    table = table.reindex(columns=["audio", "start", "end"])
    sources = sources_of(table.assign(**read_times(table)[0].to_dict("series")))
    return pd.Series([_with_span(given, source) for given, source in zip(ids, sources, strict=True)], index=ids.index)


def _with_span(given: str | None, source: Source | None) -> str | None:
    return given if given is None or source is None or isinstance(source, str) else f"{given}#{source.span}"


def _until(end: float | None, seconds: float) -> float:
    return seconds if end is None else min(end, seconds)


# ── columns of one's own ────────────────────────────────────────────────────────────────────────────────────────────
def with_times(table: pd.DataFrame, columns: Mapping[str, str], raw: Any) -> tuple[pd.DataFrame, list[str]]:
    """The table with `start` and `end` in seconds, however its columns tell them; and notices.

    Columns named for milliseconds are in these. The length of a row, in a column `duration`, stands in for its end; so
    does it beside a column `offset` alone, which then is a start.

    Args:
        table: under the fields' names.
        columns: field -> column of `raw`.
        raw: the columns as they were read, by name.

    Raises:
        CorpusError: there is an end, called an offset, and neither a start nor a duration.
    """
    if "audio" not in table or not {"start", "end"} & set(table.columns):
        return table, []
    table = table.copy()
    duration = next(filter(is_duration, raw), None)
    if "start" not in table and _bare(columns["end"]) == "offset":
        if duration is None:
            raise CorpusError(
                f"the column {columns['end']} could be where rows begin, or where they end; say which, with "
                f"--column_map start={columns['end']} or --column_map end={columns['end']}, or neither, with "
                "--column_map end="
            )
        table = table.rename(columns={"end": "start"})
    for field in table.columns.intersection(["start", "end"]):
        table[field] = in_seconds(table[field], columns.get(field, columns.get("end")))
    if "end" in table or duration is None:
        return table, []
    lasts = in_seconds(pd.Series(list(raw[duration]), index=table.index), duration)
    lasts = pd.to_numeric(lasts, errors="coerce")
    table["end"] = pd.to_numeric(table["start"], errors="coerce") + lasts
    return table, [f"rows end after their {duration}, counted from their start"]


def in_seconds(times: pd.Series, column: str) -> pd.Series:
    """The times of a column, which may be named for milliseconds; what is no number as it is."""
    if not _MILLISECONDS.search(column.strip()):
        return times
    numbers = pd.to_numeric(times, errors="coerce")
    return (numbers / 1000).where(numbers.notna(), times)


def is_duration(column: str) -> bool:
    return _bare(column) == "duration"


def _bare(column: str) -> str:
    """The name of a column in small letters, without its unit."""
    column = str(column).strip()
    return re.sub(r"[\s_-](?:s|sec)$", "", _MILLISECONDS.sub("", column).lower())
