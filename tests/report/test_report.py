"""Markdown tables against hand-written text, and atomic writing of files."""

import json

import numpy as np
import pytest

from modeling_mmer import files
from modeling_mmer.files import write_json, write_text
from modeling_mmer.report.tables import confusion_table, recall_table, results_table, retrieval_line, write_report

SPLIT = {
    "audio": {
        "n": 1234,
        "labelled": {"emotion": 1000, "valence": 2, "dominance": 1234},
        "ua": 0.666,
        "valence_ccc": 0.6561,
        "arousal_ccc": -0.05,
        "dominance_ccc": 0.0,
        "per_class_recall": {"neutral": 0.5, "anger": 1.0},
        "confusion_matrix": {"labels": ["neutral", "anger"], "rows": [[3, 3], [0, 6]]},
    },
    "text": {"n": 7, "per_class_recall": {"neutral": 0.25, "anger": None}},
    "retrieval": {"n": 32, "audio_to_text": 0.253, "text_to_audio": 0.207},
    "collapse": {"audio": {"input": 2.5, "output": 18.0}, "text": {"input": 3.0}},
}


def test_results_table():
    assert results_table(SPLIT) == (
        "| Input | Rows | UA (%) | Valence CCC | Arousal CCC | Dominance CCC |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| audio | 1,234 | 66.6 (n = 1,000) | 0.656 (n = 2) | -0.050 | 0.000 (n = 1,234) |\n"
        "| text | 7 | – | – | – | – |\n"
        "| audio + text | – | – | – | – | – |"
    )


def test_the_paper_s_rows_come_first_and_others_follow():
    table = results_table({"video": {"n": 1, "trust_ccc": 0.5}, "audio_text": {"n": 1, "ua": 0.0}})
    lines = table.splitlines()
    assert lines[0].endswith("| Dominance CCC | Trust CCC |")
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| audio", "| text", "| audio + text", "| video"]
    assert lines[4] == "| audio + text | 1 | 0.0 | – | – | – | – |"  # measured as 0 is not absent
    assert lines[5] == "| video | 1 | – | – | – | – | 0.500 |"


def test_retrieval_line():
    assert retrieval_line(SPLIT) == "Retrieval among 32: audio → text 25.3 %, text → audio 20.7 % (chance 3.1 %)."
    assert retrieval_line({"audio": {"n": 3}}) == ""


def test_recall_table():
    assert recall_table(SPLIT) == (
        "| Recall (%) | neutral | anger |\n| --- | ---: | ---: |\n| audio | 50.0 | 100.0 |\n| text | 25.0 | – |"
    )
    assert recall_table({"audio": {"n": 3, "ua": 0.5}}) == ""


def test_confusion_table():
    assert confusion_table({"labels": ["a|b", "c"], "rows": [[1, 2], [3, 4]]}) == (
        "| reference \\ predicted | a\\|b | c |\n| --- | ---: | ---: |\n| a\\|b | 1 | 2 |\n| c | 3 | 4 |"
    )
    with pytest.raises(ValueError, match="2 rows of 2"):
        confusion_table({"labels": ["a", "b"], "rows": [[1, 2]]})


def test_write_report(tmp_path):
    path = tmp_path / "new" / "report.md"
    results = {
        "model": "runs/demo",
        "corpus": "demo",
        "seed": 0,
        "trainable_parameters": 1234567,
        "splits": {"validation": {"audio": {"n": 5}}, "test": SPLIT},
    }
    write_report(path, results)
    text = path.read_text(encoding="utf-8")
    assert text.startswith(
        "# Emotion recognition: measured results\n\n"
        "- Model: `runs/demo`\n- Corpus: demo\n- Seed: 0\n- Trainable parameters: 1,234,567\n\n"
        "## Validation\n\n| Input |"
    )
    validation, test = text.split("## Test")
    assert "Retrieval" not in validation and "Confusion" not in validation and "distance" not in validation
    for part in (results_table(SPLIT), retrieval_line(SPLIT), recall_table(SPLIT)):
        assert f"\n\n{part}\n\n" in test
    assert "Confusion matrix, audio:\n\n| reference" in test and "Confusion matrix, text" not in test
    assert "| audio | 2.500 | 18.000 |\n| text | 3.000 | – |\n" in test
    assert text.endswith("|\n")
    assert list(path.parent.iterdir()) == [path]


def test_what_changes_the_meaning_of_figures_stands_above_their_tables(tmp_path):
    caveats = ["no split column: every row is in the split test", "12 rows\nare left out"]
    write_report(tmp_path / "report.md", {"corpus": "mine", "caveats": caveats, "splits": {"test": SPLIT}})
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    before, _ = text.split("## Test")
    assert before.endswith(
        "\n\nCaveats:\n\n- no split column: every row is in the split test\n- 12 rows are left out\n\n"
    )


def test_write_report_of_little(tmp_path):
    write_report(tmp_path / "report.md", {"corpus": ["one", "two"], "splits": {}})
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == (
        "# Emotion recognition: measured results\n\n- Corpus: one, two\n"
    )
    write_report(tmp_path / "report.md", {})
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == "# Emotion recognition: measured results\n"


class TestFiles:
    def test_json_of_numpy_values(self, tmp_path):
        path = tmp_path / "a" / "b" / "results.json"
        write_json(
            path, {"n": np.int64(3), "ua": np.float32(0.5), "rows": np.eye(2, dtype=int), "path": tmp_path, "é": 1}
        )
        loaded = json.loads(path.read_text(encoding="utf-8"))
        assert loaded == {"n": 3, "ua": 0.5, "rows": [[1, 0], [0, 1]], "path": str(tmp_path), "é": 1}

    @pytest.mark.parametrize(
        ("value", "error"), [(float("nan"), ValueError), (np.float32("inf"), ValueError), (object(), TypeError)]
    )
    def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(self, tmp_path, value, error):
        path = tmp_path / "results.json"
        write_json(path, {"ua": 0.5})
        with pytest.raises(error):
            write_json(path, {"ua": value})
        assert json.loads(path.read_text()) == {"ua": 0.5}
        assert list(tmp_path.iterdir()) == [path]

    def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch):
        path = tmp_path / "report.md"
        write_text(path, "old")

        def interrupted(source, target):
            assert source.parent == target.parent  # a rename across file systems would not be one step
            assert source.read_text() == "new"
            raise KeyboardInterrupt

        monkeypatch.setattr(files.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_text(path, "new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    def test_text_is_replaced_with_the_usual_permissions(self, tmp_path):
        plain = tmp_path / "plain"
        plain.write_text("x")
        write_text(tmp_path / "ours", "é\n")
        write_text(tmp_path / "ours", "ü\n")
        assert (tmp_path / "ours").read_bytes() == "ü\n".encode()
        assert (tmp_path / "ours").stat().st_mode == plain.stat().st_mode
