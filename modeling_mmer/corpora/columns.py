"""Columns and the fields of the schema: found by their usual names, mapped by the user, or proposed to the user.

Names are compared without regard to case, blanks, hyphens and underscores: `File Name` is `file_name`.
"""

import shlex
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from .emotions import known_share
from .recordings import AUDIO_SUFFIXES
from .rows import clean_strings
from .schema import TASKS, CorpusError, canonical_split, counted
from .votes import FIELD as VOTES

_OTHER_NAMES = {
    "emotion": ("EmoClass", "major_emotion", "label"),
    "valence": ("EmoVal",),
    "arousal": ("EmoAct", "activation"),
    "dominance": ("EmoDom", "domination"),
}
COLUMN_NAMES = {
    "utterance_id": ("utterance_id",),
    "audio": ("audio", "path", "file", "file_name", "wav"),
    "start": (
        *("start", "start_time", "begin", "begin_time", "onset", "start_s", "start_sec", "begin_s", "begin_sec"),
        *("start_ms", "start_time_ms", "begin_ms", "begin_time_ms", "onset_ms"),
    ),
    "end": (
        *("end", "end_time", "offset", "stop", "stop_time", "end_s", "end_sec"),
        *("end_ms", "end_time_ms", "offset_ms", "stop_ms"),
    ),
    "text": ("text", "transcription", "transcript", "utterance", "sentence", "to_translate"),
    **{task: (task, *_OTHER_NAMES.get(task, ())) for task in TASKS},
    VOTES: (VOTES,),
    "speaker": ("SpkrID", "speaker", "speaker_id"),
    "split": ("Split_Set", "split", "partition"),
}
_NESTED = (list, tuple, set, dict, bytes, np.ndarray)


def _plain(name: str) -> str:
    name = unicodedata.normalize("NFC", name).casefold()
    return "".join(character for character in name if character not in " \t\xa0_-")


_FIELD_OF = {_plain(name): field for field, names in COLUMN_NAMES.items() for name in (field, *names)}


def resolve_map(column_map: Mapping[str, str], columns: Sequence[str], has: str) -> dict[str, str]:
    """`column_map` with fields and columns by their own names; a usual name of a field stands for it, as in
    `file_name=wav`. An empty column leaves the field unread.

    Raises:
        CorpusError: an unknown field, perhaps because the two are turned around; an absent column; a field twice.
    """
    resolved: dict[str, str] = {}
    for given, wanted in column_map.items():
        field, column = _FIELD_OF.get(_plain(given)), _find(wanted, columns)
        if field is None:
            raise CorpusError(_unknown_field(given, wanted, columns))
        if wanted and column is None:
            raise CorpusError(f"column_map: {given}={wanted}, but {has}")
        if field in resolved:
            raise CorpusError(f"column_map: the field {field} is mapped twice, to {resolved[field]} and to {wanted}")
        resolved[field] = column or ""
    return resolved


def by_field(column_map: Mapping[str, str]) -> dict[str, str]:
    """`column_map` under the fields' own names, where they are known and not there already."""
    return {
        key if (field := _FIELD_OF.get(_plain(key))) is None or field in column_map else field: column
        for key, column in column_map.items()
    }


def _find(name: str, columns: Sequence[str]) -> str | None:
    """The column of that name, or else the only one that differs from it in case, blanks and underscores alone."""
    alike = [name] if name in columns else [column for column in columns if _plain(column) == _plain(name)]
    return alike[0] if len(alike) == 1 else None


def _unknown_field(given: str, wanted: str, columns: Sequence[str]) -> str:
    message = (
        f"column_map takes field=column, and there is no field {given!r}; the fields are {', '.join(COLUMN_NAMES)}"
    )
    field = _FIELD_OF.get(_plain(wanted))
    if field is not None and _find(given, columns):
        message += f". The other way round it is --column_map {field}={given}"
    return message


def recognise_columns(columns: Sequence[str], column_map: Mapping[str, str], name: str) -> dict[str, str]:
    """Field -> column, for the fields that the table has.

    Args:
        name: of the table, for messages.

    Raises:
        CorpusError: `column_map` (where "" leaves a field unread) names an unknown field or an absent column; a field
            has two candidates.
    """
    mapped = resolve_map(column_map, columns, f"{name} has the columns {', '.join(columns)}")
    found = {field: column for field, column in mapped.items() if column}
    for field, names in COLUMN_NAMES.items():
        usual = {_plain(name) for name in names}
        candidates = [column for column in columns if _plain(column) in usual and column not in mapped.values()]
        if field in mapped or not candidates:
            continue
        if len(candidates) > 1:
            options = " or ".join(f"--column_map {field}={shlex.quote(candidate)}" for candidate in candidates)
            raise CorpusError(
                f"{name}: {' and '.join(candidates)} could each be the {field}; say which, with {options}"
            )
        found[field] = candidates[0]
    return found


def require_input(table: pd.DataFrame, fields: Mapping[str, str], name: str) -> None:
    """Raise a CorpusError unless there is an audio or a text column; it proposes columns that look like one."""
    if fields.keys() & {"audio", "text"}:
        return
    proposed = propose_columns(table, fields)
    advice = " or ".join(proposed[field] for field in ("audio", "text") if field in proposed)
    raise CorpusError(
        f"{name} has neither an audio nor a text column: it has the columns {', '.join(map(str, table.columns))}, and "
        f"none of {', '.join(COLUMN_NAMES['audio'] + COLUMN_NAMES['text'])}; say which it is, with "
        f"{advice or '--column_map audio=COLUMN or --column_map text=COLUMN'} (the first line must name the columns)"
    )


def propose_columns(table: pd.DataFrame, fields: Mapping[str, str]) -> dict[str, str]:
    """For fields that the table seems to lack, the options that would read them from columns that look like them."""
    proposed: dict[str, str] = {}
    for column in table.columns:
        if column in fields.values():
            continue
        given = [value for value in table[column].dropna() if isinstance(value, str) and value.strip()]
        if not given:
            continue
        for field, looks_like in _LOOKS_LIKE.items():
            if field not in fields and field not in proposed and looks_like(given):
                proposed[field] = f"--column_map {field}={shlex.quote(column)}"
                break
    return proposed


_LOOKS_LIKE = {  # field → whether the values of a column look like it
    "split": lambda values: all(canonical_split(value) for value in set(values)),
    "emotion": lambda values: known_share(values) >= 0.5,
    "audio": lambda values: sum(value.lower().endswith(AUDIO_SUFFIXES) for value in values) >= len(values) / 2,
    "text": lambda values: sum(" " in value.strip() for value in values) >= len(values) / 2,
}


def unused_columns(table: pd.DataFrame, fields: Mapping[str, str]) -> list[str]:
    """A notice of the columns that no field is read from."""
    unused = [str(column) for column in table.columns if column not in fields.values()]
    return [f"columns not used: {', '.join(unused)}"] if unused else []


def as_fields(table: pd.DataFrame, fields: Mapping[str, str], name: str) -> pd.DataFrame:
    """The columns of a table under their fields' names.

    Raises:
        CorpusError: a cell holds more than one value.
    """
    for field, column in fields.items():
        if field != VOTES:
            require_single_values(table[column], field, column, name)
    return pd.DataFrame({field: table[column] for field, column in fields.items()}, index=table.index)


def require_single_values(values: Sequence, field: str, column: str, name: str) -> Sequence:
    """The values of a column, as they are.

    Raises:
        CorpusError: one of them is a list, or anything else that is more than one value.
    """
    if not pd.api.types.infer_dtype(values).startswith(("mixed", "bytes")):  # all are text, or numbers, or …
        return values
    if any(isinstance(value, _NESTED) for value in values):
        place, value = next((i, value) for i, value in enumerate(values, start=1) if isinstance(value, _NESTED))
        raise CorpusError(_nested(name, place, field, column, value))
    return values


def _nested(name: str, place: int, field: str, column: str, value: object) -> str:
    if field == "audio":
        return f"{name}: the audio column ({column}) must hold paths of files, not the audio itself"
    shown = " ".join(repr(value).split())[:60]
    return (
        f"{name}: row {place} has a {type(value).__name__} in the column {column}, which is read as {field}: {shown}; "
        f"give it one value in a row, or leave the field unread with --column_map {field}="
    )


def drop_emptied(table: pd.DataFrame, column_map: Mapping[str, str]) -> tuple[pd.DataFrame, list[str]]:
    """Leave out, and count, the rows that have nothing once `column_map` leaves audio or text unread."""
    unread = [_FIELD_OF[_plain(given)] for given, column in column_map.items() if not column]
    unread = [field for field in unread if field in ("audio", "text")]
    if not unread:
        return table, []
    kept = table.columns.intersection(["audio", "text"])
    empty = table[kept].apply(clean_strings).isna().all(axis=1)
    of = f"of {counted(len(table), 'row')}"
    said = counted(int(empty.sum()), f"{of} is left out", f"{of} are left out")
    notices = [f"{said}: nothing but the {unread[0]}, which is not read"] if empty.any() else []
    return table[~empty].reset_index(drop=True), notices
