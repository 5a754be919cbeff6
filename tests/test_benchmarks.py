"""The benchmarks at a size that takes seconds: every subject has its rows, and each row a ratio. Nothing is timed."""

import json
import math
import sys

import pytest
import torch
from conftest import REPOSITORY


@pytest.fixture
def benchmarks(monkeypatch):
    """The modules of the folder, which are imported by their own names, and the number of threads as before."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    threads, before = torch.get_num_threads(), set(sys.modules)
    import run

    yield run
    torch.set_num_threads(threads)
    for name in set(sys.modules) - before:
        if str(REPOSITORY / "benchmarks") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_every_subject_has_rows_with_ratios(benchmarks, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks.machine, "seconds_of_process", lambda code: 1.0 + len(code))  # which take seconds
    output = tmp_path / "benchmarks.md"
    assert benchmarks.main(["--size", "small", "--rounds", "1", "--output", str(output)]) == 0
    text, kept = output.read_text(encoding="utf-8"), json.loads(output.with_suffix(".json").read_text())
    assert {row["subject"] for row in kept["rows"]} == set("abcdefghijkl")
    for row in kept["rows"]:
        assert row["ratios"] and all(math.isfinite(ratio) and ratio >= 0 for ratio in row["ratios"]), row
        assert f"| {row['what']} | {row['against']} | **" in text
    assert f"torch {torch.__version__}" in text

    assert benchmarks.main(["--size", "small", "--rounds", "2", "--only", "c", "--output", str(output)]) == 0
    again = json.loads(output.with_suffix(".json").read_text())["rows"]
    assert [row["what"] for row in again] == [row["what"] for row in kept["rows"]]
    assert [len(row["ratios"]) for row in again if row["subject"] == "c"] == [2, 2]  # the others were kept
    assert [row for row in again if row["subject"] != "c"] == [row for row in kept["rows"] if row["subject"] != "c"]


def test_a_ratio_is_the_median_of_what_ran_in_turn(benchmarks, monkeypatch):
    ran, taken = [], iter([9.0, 9.0, 9.0, 2.0, 3.0, 8.0, 2.0, 5.0, 8.0, 4.0, 4.0, 8.0])
    clock = benchmarks.Clock("cpu", rounds=3)
    monkeypatch.setattr(type(clock), "seconds", lambda self, run: run() or next(taken))
    one, two, three = (lambda name=name: ran.append(name) for name in "123")
    rows = clock.compare("x", ("one", one), {"two": two, "three": three}, units={"three": 2.0})
    assert ran == list("123") * 4  # the first round does not count
    assert [row.ratios for row in rows] == [[1.5, 2.5, 1.0], [2.0, 2.0, 1.0]]
    assert [row.ratio for row in rows] == [1.5, 2.0]


def test_unknown_subjects_are_refused(benchmarks, capsys):
    with pytest.raises(SystemExit):
        benchmarks.main(["--only", "a,z"])
    assert "--only z: there are a, b" in capsys.readouterr().err
