"""What a report is made of: columns of figures, cells, and sections with a table or a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any, Literal

from ..model.configuration_mmer import COMBINATIONS, MODALITIES
from ..model.tasks import DIMENSIONS
from .strips import Axis, Strip
from .tables import combination_name, markdown_table

Unit = Literal["percent", "decimal", "distance"]


@dataclass(frozen=True)
class Column:
    """A column of figures.

    Args:
        figure: its flat name in a record, such as `audio_ua`.
        header: the header of the column.
        unit: of its values.
        combination: the combination whose run of a row has the figure.
        published: format specification of the paper's own values.
    """

    figure: str
    header: str
    unit: Unit = "percent"
    combination: str = "audio"
    published: str = ".1f"

    def shown(self, value: float, like: float) -> str:
        """A value with the number of digits of `like`."""
        if self.unit == "percent":
            return f"{100 * value:.1f}"
        return f"{value:.3f}" if self.unit == "decimal" else f"{value:.1f}" if abs(like) >= 1 else f"{value:.2g}"


INPUTS = {name: " + ".join(m[0] for m in modalities) for name, modalities in COMBINATIONS.items()}
UA = [Column(f"{c}_ua", f"UA % {i}", combination=c) for c, i in INPUTS.items()]
UA_OF_INPUTS = [replace(column, header=combination_name(column.combination)) for column in UA]
CCC = [
    Column(f"{c}_{dimension}_ccc", f"{dimension[:3].capitalize()}. {i}", "decimal", c, ".3f")
    for dimension in DIMENSIONS
    for c, i in INPUTS.items()
]
RETRIEVAL = [Column(f"retrieval_{m}_to_{other}", f"Retr. {m[0]} %") for m, other in permutations(MODALITIES, 2)]
COLLAPSE = [
    Column(f"collapse_{m}_{place}", f"{m[0]} {place}", "distance", published="#.2g")
    for m in MODALITIES
    for place in ("input", "output")
]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: what it says.
        link: where its text leads.
        strong: whether it is printed in bold.
        published: the paper's figure, which the page prints small beside it.
        strip: where its figure lies, which the page draws beside it.
    """

    text: str
    link: str | None = None
    strong: bool = False
    published: str | None = None
    strip: Strip | None = None

    def __str__(self) -> str:  # Markdown
        text = f"**{self.text}**" if self.strong else self.text
        return f"[{text}]({self.link})" if self.link else text


@dataclass(frozen=True)
class Group:
    """Rows of a table that stand together under a title; without one if it is empty."""

    title: str
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Args:
        lead: what its table says, in a sentence.
        text: how to read its table.
        header, groups: the table.
        axes: column of the table → the axis of its strips.
        legend: what is drawn in strips (`interval`, or a line) → what it means.
        picture: a file. The page shows it only if there is no table, which has strips instead.
        folded: whether the page shows it only on demand.
        on_page: whether the page has it too.
    """

    title: str
    lead: str = ""
    text: str = ""
    header: Sequence[str] = ()
    groups: Sequence[Group] = ()
    axes: Mapping[int, Axis] = field(default_factory=dict)
    legend: Mapping[str, str] = field(default_factory=dict)
    picture: str | None = None
    folded: bool = False
    on_page: bool = True

    def __str__(self) -> str:  # Markdown
        parts = [f"## {self.title}", self.lead]
        if self.picture:
            parts.append(f"![{self.title}]({self.picture})")
        parts.append(self.text)
        if self.groups:
            parts.append(markdown_table(self.header, [row for group in self.groups for row in self.titled(group)]))
        return "\n\n".join(part for part in parts if part)

    @property
    def has_published(self) -> bool:
        return any(cell.published for group in self.groups for row in group.rows for cell in row)

    def room(self) -> float:
        """The width, in digits, that strips leave to the figures beside them. The paper's are smaller."""
        cells = [cell for group in self.groups for row in group.rows for cell in row if cell.strip]
        figures = [len(cell.text) + 0.85 * len(cell.published or "") for cell in cells]
        return max([*figures, *(len(self.header[column]) for column in self.axes)])

    def titled(self, group: Group) -> list[Sequence[Cell]]:
        """The rows of a group below a row with its title."""
        title = [[Cell(group.title, strong=True), *[Cell("")] * (len(self.header) - 1)]] if group.title else []
        return [*title, *group.rows]


def plain(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The arguments of a section for a table without groups."""
    cells = [[cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row] for row in rows]
    return {"header": header, "groups": [Group("", cells)]}
