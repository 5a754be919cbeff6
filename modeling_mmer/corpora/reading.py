"""How a corpus was read for training: its columns, the names of its labels, its scale, its fold.

A corpus of the same columns can then be read alike when the model is evaluated, without repeating the options.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Reading:
    """What was said of one corpus, and what was found in it.

    Args:
        kind: of corpus: a published one's name, `folder`, or `hf` for what `datasets` loads.
        name: what reports call it.
        columns: field -> the column it was read from, of data of one's own; empty for published corpora.
        column_map: as it was given for this corpus.
        label_map: as it was given for this corpus.
        label_scale: that was said of data of one's own; None where the usual one was assumed, which is doubted anew,
            and for published corpora, which declare theirs.
        fold: of a corpus whose protocol is a cross-validation.
    """

    kind: str
    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    column_map: Mapping[str, str] = field(default_factory=dict)
    label_map: Mapping[str, str] = field(default_factory=dict)
    label_scale: tuple[float, float] | None = None
    fold: int | None = None

    @classmethod
    def from_dict(cls, values: Mapping) -> "Reading":
        """What `dataclasses.asdict` gave, after JSON made a list of the scale."""
        scale = values.get("label_scale")
        return cls(**{**values, "label_scale": None if scale is None else tuple(scale)})

    def fits(self, kind: str, header: Iterable[str] | None) -> bool:
        """Whether a corpus is of this kind, or (data of one's own) has the columns that were read here.

        The columns of the splits and of the votes may be absent: a file of test rows has no need of them.

        Args:
            header: the names of its columns; None for a published corpus.
        """
        if header is None or not self.columns:
            return kind == self.kind and header is None
        needed = {plain(column) for field, column in self.columns.items() if field not in ("split", "emotion_votes")}
        return needed <= {plain(column) for column in header}

    def within(self, header: Iterable[str] | None) -> "Reading":
        """The same without the mapping of columns that are not in `header`."""
        known = {plain(column) for column in header or ()}
        kept = {field: column for field, column in self.column_map.items() if not column or plain(column) in known}
        return replace(self, column_map=kept)

    def told(self, given: "Reading") -> str:
        """The options that are taken from here, as they would be written; empty if there are none.

        Args:
            given: what was said anew, which wins.
        """
        maps = {
            name: {key: value for key, value in getattr(self, name).items() if getattr(given, name).get(key) is None}
            for name in ("column_map", "label_map")
        }
        options = {name: " ".join(f"{old}={new}" for old, new in of_map.items()) for name, of_map in maps.items()}
        if self.label_scale is not None and given.label_scale is None:
            options["label_scale"] = " ".join(f"{bound:g}" for bound in self.label_scale)
        if self.fold is not None and given.fold is None:
            options["fold"] = str(self.fold)
        return ", ".join(f"--{name} {value}" for name, value in options.items() if value)

    def under(self, given: "Reading") -> "Reading":
        """What holds of the two: what was said anew (`given`), and for the rest what was said here."""
        return replace(
            given,
            column_map={**self.column_map, **given.column_map},
            label_map={**self.label_map, **given.label_map},
            label_scale=self.label_scale if given.label_scale is None else given.label_scale,
            fold=self.fold if given.fold is None else given.fold,
        )


def fitting(readings: Sequence[Reading], kind: str, known_as: Sequence[str], header: list[str] | None) -> Reading:
    """The reading of a corpus of the same kind or columns, one of the same name first; an empty one if there is
    none."""
    found = [reading for reading in readings if reading.fits(kind, header)]
    found.sort(key=lambda reading: reading.name not in known_as)  # stable
    return found[0].within(header) if found else Reading(kind, kind)


def plain(column: str) -> str:
    """A column's name without regard to case, spacing and how its accents are encoded."""
    return " ".join(unicodedata.normalize("NFC", str(column)).split()).casefold()
