"""Reads the page of `mmer reproduce` as a browser does: sections, rows, and what their cells show."""

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class PageCell:
    """A cell: its text, the small figure beside it, its link, and what is drawn in it, at x in percent."""

    text: str = ""
    small: str = ""
    link: str | None = None
    lines: dict[str, tuple[float, float]] = field(default_factory=dict)
    dot: float | None = None
    ticks: dict[float, float] = field(default_factory=dict)  # the number of a tick → its x


class Page(HTMLParser):
    """`sections`: title → the rows of its table, each a list of cells; `text`: title → its paragraphs."""

    def __init__(self, html: str):
        super().__init__()
        self.sections: dict[str, list[list[PageCell]]] = {}
        self.text: dict[str, str] = {}
        self.title, self.inside, self.tick = "", [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag in ("meta", "img"):
            return
        self.inside.append(tag)
        if tag in ("h2", "summary"):
            self.title = ""
        elif tag == "tr":
            self.sections.setdefault(self.title, []).append([])
        elif tag in ("th", "td"):
            self.row.append(PageCell())
        elif tag == "a":
            self.row[-1].link = attributes["href"]
        elif tag == "text":
            self.tick = percent(attributes["x"])

    def handle_startendtag(self, tag, attributes):
        attributes = dict(attributes)
        if "td" in self.inside and tag == "line":
            self.row[-1].lines[attributes["class"]] = (percent(attributes["x1"]), percent(attributes["x2"]))
        elif "td" in self.inside and tag == "circle":
            self.row[-1].dot = percent(attributes["cx"])

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        here = {*self.inside}
        if here & {"h2", "summary"}:
            self.title += data
        elif "text" in here:
            self.row[-1].ticks[float(data.replace("−", "-"))] = self.tick
        elif "small" in here and here & {"th", "td"}:
            self.row[-1].small += data
        elif here & {"th", "td"}:
            self.row[-1].text += data.strip()
        elif "p" in here:
            self.text[self.title] = self.text.get(self.title, "") + data

    @property
    def row(self) -> list[PageCell]:
        return self.sections[self.title][-1]


def percent(written: str) -> float:
    return float(written.removesuffix("%"))
