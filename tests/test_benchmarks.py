"""The benchmarks at a size that takes seconds: every subject has its rows, and each row a ratio. Nothing is timed."""

import importlib
import json
import math
import re
import sys

import pytest
import torch
from conftest import REPOSITORY

from modeling_mmer.features.shards import Shards


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
    monkeypatch.setattr(benchmarks.machine, "seconds_of_process", lambda code: 1.0 + len(code))  # processes take long
    monkeypatch.setattr(benchmarks.machine, "numbers_of", lambda code: [float(len(code)), 1.0])
    output = tmp_path / "benchmarks.md"
    status = benchmarks.main(["--size", "small", "--rounds", "1", "--output", str(output)])
    text, kept = output.read_text(encoding="utf-8"), json.loads(output.with_suffix(".json").read_text())
    assert {row["subject"] for row in kept["rows"]} == set("abcdefghijkl")
    for row in kept["rows"]:
        assert row["ratios"] and all(math.isfinite(ratio) and ratio >= 0 for ratio in row["ratios"]), row
        assert f"| {row['what']} | {row['against']} | **" in text
    assert f"torch {torch.__version__}" in text and status == 0

    assert benchmarks.main(["--size", "small", "--rounds", "2", "--only", "c", "--output", str(output)]) == 0
    again = json.loads(output.with_suffix(".json").read_text())["rows"]
    assert [row["what"] for row in again] == [row["what"] for row in kept["rows"]]
    assert [len(row["ratios"]) for row in again if row["subject"] == "c"] == [2, 2]  # the others were kept
    assert [row for row in again if row["subject"] != "c"] == [row for row in kept["rows"] if row["subject"] != "c"]


def test_memory_is_that_of_each_quarter_of_the_files(benchmarks, monkeypatch):
    judged, scorer = [], benchmarks.machine.Scorer

    class Watched(scorer):
        def __call__(self, columns):
            judged.append(super().__call__(columns))

    monkeypatch.setattr(benchmarks.machine, "Scorer", Watched)
    peaks = benchmarks.machine.peaks_of_quarters("small", "float32")
    assert len(peaks) == 4 and all(2**26 < peak < 2**36 for peak in peaks)  # bytes of a process with torch in it
    assert [len(quarter["emotion"]) for quarter in judged] == [2, 2, 2, 2]
    assert not any(error for quarter in judged for error in quarter["error"])


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


def test_the_script_for_a_gpu_runs_in_its_form_for_a_cpu(benchmarks, tmp_path, monkeypatch, capsys):
    import gpu

    monkeypatch.setattr(gpu, "TABLE", ("c",))
    monkeypatch.setitem(gpu.PARTS, "the tests marked gpu", lambda size, device: "no tests within a test")
    monkeypatch.setitem(gpu.PARTS, "half precision", lambda size, device: gpu.half_precision(size, device, steps=30))
    output = tmp_path / "gpu.md"
    how = ["--device", "cpu", "--size", "small", "--rounds", "1", "--output", str(output)]
    assert gpu.main(how) == 0
    text = output.read_text(encoding="utf-8")
    found = {line.split(" | ")[0]: line.split(" | ")[1:3] for line in text.splitlines() if line.startswith("| ")}
    for name in ("float32", "bfloat16", "float16"):
        first, last = map(float, found[f"| {name}"])
        assert last < first
    assert "one process: gradients differ by at most" in text and "hours on this device" in text
    assert "context `full`" in text and "FAILED" not in text

    monkeypatch.setitem(gpu.PARTS, "one process", lambda size, device: 1 / 0)
    assert gpu.main([*how, "--minutes", "0.0"]) == 0  # nothing begins
    assert "No time was left for one process." in output.read_text(encoding="utf-8")
    with monkeypatch.context() as only:
        for name in gpu.PARTS.keys() - {"one process"}:
            only.delitem(gpu.PARTS, name)
        only.setattr(gpu, "TABLE", ())
        assert gpu.main(how) == 1
    assert "one process FAILED: ZeroDivisionError" in output.read_text(encoding="utf-8")


def test_without_a_gpu_the_script_says_what_to_do(benchmarks, capsys, tmp_path):
    import gpu

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit):
        gpu.main(["--output", str(tmp_path / "gpu.md")])
    assert "--device cpu --size small" in capsys.readouterr().err


def test_a_packed_cache_is_compared_with_a_file_for_each_utterance(benchmarks, tmp_path, monkeypatch, capsys):
    cache_files = importlib.import_module("cache_files")
    monkeypatch.setattr(cache_files, "ROUNDS", 1)
    Shards(tmp_path / "cache").write({f"{i:064}": torch.ones(2, 3 + i, 4).half() for i in range(5)})
    cache_files.main(str(tmp_path / "cache"))
    output = capsys.readouterr().out
    assert re.search(r"^files +1 +5 +5 ×$", output, re.M) and len(re.findall(r"\d ×$", output, re.M)) >= 4
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
