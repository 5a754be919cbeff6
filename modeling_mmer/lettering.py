"""Names from the data in plots: never read as maths, and in fonts that have their characters."""

from contextlib import suppress
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text
from transformers.utils import logging

logger = logging.get_logger(__name__)

DEFAULT_FONT = "DejaVu Sans"  # included in matplotlib


def printable(text: object) -> str:
    """Escape a name from the data for a plot: `$` does not start maths, and a character that no installed font has is
    replaced by its code point."""
    missing = {c for c in str(text) if not c.isspace() and ord(c) not in _characters() and _family_with(c) is None}
    if missing:
        logger.warning_once(
            "Some characters of a label are in no installed font, so plots show their code points. Install a font such "
            "as Noto Sans CJK."
        )
    shown = "".join(f"[U+{ord(c):04X}]" if c in missing else c for c in str(text))
    return shown.replace("$", r"\$")


@cache
def _characters() -> frozenset[int]:
    """The characters of the default font."""
    return frozenset(get_font(findfont(DEFAULT_FONT)).get_charmap())


@cache
def _installed() -> dict[str, frozenset[int]]:
    """Font family → characters, without last-resort fonts, which draw a box for every character."""
    families = {}
    for font in fontManager.ttflist:
        with suppress(OSError, RuntimeError):  # a font that was removed or is unreadable
            families.setdefault(font.name, frozenset(get_font(font.fname).get_charmap()))
    return {name: characters for name, characters in families.items() if "last resort" not in name.lower()}


def _family_with(character: str) -> str | None:
    return next((name for name, characters in _installed().items() if ord(character) in characters), None)


def find_fonts(figure: Figure) -> None:
    """Give the texts of a figure additional fonts where their characters need them."""
    texts = figure.findobj(Text)
    characters = {c for text in texts for c in text.get_text() if not c.isspace() and ord(c) not in _characters()}
    if families := {family for c in characters if (family := _family_with(c)) is not None}:
        for text in texts:
            text.set_fontfamily([DEFAULT_FONT, *sorted(families)])
