"""The guide to timelines: its code runs, prints what it shows, and its picture is drawn by the script."""

import json
import re

import pytest
from conftest import REPOSITORY

from modeling_mmer.plots import picture, plot_timeline
from scripts import draw_timeline

GUIDE = (REPOSITORY / "docs" / "timelines.md").read_text(encoding="utf-8")


def test_the_code_prints_what_the_guide_shows(tmp_path, monkeypatch, capsys):
    pytest.importorskip("praatio", reason="needs praatio, of the extra timelines")
    monkeypatch.chdir(tmp_path)
    lines = "".join(json.dumps(row) + "\n" for row in draw_timeline.rows())
    (tmp_path / "call.jsonl").write_text(lines)
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", GUIDE, re.DOTALL)
    exec(code, {})  # our own guide
    assert capsys.readouterr().out == shown
    assert {file.name for file in tmp_path.iterdir()} == {"call.jsonl", "call.TextGrid", "call.svg", "plane.png"}


def test_the_picture_is_of_the_size_that_the_script_draws():
    """Its paths depend on matplotlib's version, so only its size and the words in its comments are compared."""
    figure = plot_timeline(draw_timeline.rows(), (draw_timeline.sound(), draw_timeline.RATE), label_scale=(1, 7))
    drawn, kept = picture(figure).decode(), draw_timeline.PICTURE.read_text()
    assert re.search(r'viewBox="[^"]+"', drawn).group() == re.search(r'viewBox="[^"]+"', kept).group()
    assert re.findall(r"<!-- (.*?) -->", drawn) == re.findall(r"<!-- (.*?) -->", kept)
