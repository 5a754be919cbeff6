"""Names from the data in plots are not parsed as maths, and all their characters are readable."""

import pytest
from matplotlib.text import Text

from modeling_mmer import lettering
from modeling_mmer.report import plots

JAPANESE = "怒り"


def confusion(*labels: str) -> dict:
    rows = [[int(i == j) for j in range(len(labels))] for i in range(len(labels))]
    return {"audio": {"confusion_matrix": {"labels": list(labels), "rows": rows}}}


@pytest.mark.filterwarnings("error")  # matplotlib warns of a character that it has no picture of
@pytest.mark.parametrize("labels", [(JAPANESE, "joy"), (r"$\frac$", "joy"), ("$x$", "a$b"), ("⌒", "ärger")])
def test_any_label_can_be_drawn(tmp_path, monkeypatch, labels):
    drawn = []
    save = plots.save
    monkeypatch.setattr(plots, "save", lambda figure, path: (save(figure, path), drawn.append(figure)))
    assert plots.plot_confusion(tmp_path / "confusion.png", confusion(*labels))
    texts = [text.get_text() for text in drawn[0].findobj(Text)]
    for label in labels:
        shown = lettering.printable(label)
        assert shown in texts
        if label != JAPANESE:  # of which no font may be installed
            assert shown.replace(r"\$", "$") == label


@pytest.mark.filterwarnings("error")
def test_a_label_of_mathematical_signs_is_no_formula():
    for name in ("$x$", r"$\frac$"):
        literal, is_math = Text(0, 0, lettering.printable(name))._preprocess_math(lettering.printable(name))
        assert not is_math and literal == name


def test_a_character_that_no_font_has_is_its_code_point(monkeypatch):
    monkeypatch.setattr(lettering, "_installed", dict)
    assert lettering.printable("怒 a\n$") == "[U+6012] a\n\\$"
    monkeypatch.setattr(lettering, "_installed", lambda: {"Some CJK": frozenset(map(ord, JAPANESE))})
    assert lettering.printable(JAPANESE) == JAPANESE
