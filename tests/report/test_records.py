"""Tables from records of runs that diverged or have folds."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modeling_mmer.evaluation.statistics import CONCORDANCE, paired_bootstrap
from modeling_mmer.model.configuration_mmer import COMBINATIONS
from modeling_mmer.report.comparison import compare
from modeling_mmer.report.records import Records, RunRecord, predictions_path
from modeling_mmer.report.reproduction import write_reproduction
from modeling_mmer.reproduction.beside import recorded_grid

FAILED = "The loss is nan (its terms: mae) at step 7: training has diverged. Utterances of the batch: a, b."
MACHINE = {"devices": ["cpu"], "threads": 1}
LAYERS = {"audio": [0.25, 0.75], "text": [1.0]}
EMOTIONS = np.array(["neutral", "anger"])


def leave(folder: Path, run: str, seed: int, fold: int | None = None, ua: float | None = 0.5, n: int = 40, **more):
    """The record of a run, of one that diverged with `ua` None; and predictions that are right in a share `ua`."""
    if ua is None:
        return RunRecord(run, seed, fold, failed=FAILED, machine=MACHINE).write(folder)
    figures = {c: {"n": n, "ua": ua} for c in COMBINATIONS}
    figures["collapse"] = {"audio": {"n": n, "input": 2.0, "output": 3.0}}
    RunRecord(run, seed, fold, splits={"test": figures}, machine=MACHINE, **more).write(folder)
    references = EMOTIONS[np.arange(n) % 2]
    predicted = np.where(np.arange(n) // 2 < ua * n / 2, references, EMOTIONS[1 - np.arange(n) % 2])
    ids = [f"{0 if fold is None else fold}-{i}" for i in range(n)]
    table = {"utterance_id": ids, "emotion": predicted, "reference_emotion": references}
    tables = [pd.DataFrame(table).assign(combination=c) for c in COMBINATIONS]
    path = folder / predictions_path(RunRecord(run, seed, fold).key)
    path.parent.mkdir(exist_ok=True)
    pd.concat(tables).to_parquet(path)


def report(folder: Path) -> dict[str, list[list[str]]]:
    """Write the report; the cells of each section's table, without links and bold type."""
    write_reproduction(folder, [recorded_grid(folder, folder)], "made up")
    sections = {}
    for part in (folder / "README.md").read_text().split("\n## ")[1:]:
        lines = [line for line in part.splitlines() if line.startswith("|")][2:]
        shown = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", line).replace("*", "") for line in lines]
        sections[part.partition("\n")[0]] = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown]
    return sections


def row(table: list[list[str]], title: str) -> list[str]:
    return next(cells for cells in table if cells[0] == title)


def test_a_diverged_seed_is_named_and_the_others_count(tmp_path):
    for seed, ua in enumerate((0.5, None, 0.7)):
        leave(tmp_path, "contr_mae", seed, ua=ua)
        leave(tmp_path, "shared", seed, ua=0.4)
    sections = report(tmp_path)
    systems = sections["Table 1: unweighted accuracy"]
    full, shared = row(systems, "+ contr + MAE"), row(systems, "Shared Transformer")
    assert full[1] == f"60.0 ± {100 * np.std([0.5, 0.7], ddof=1):.1f}" and full[-1] == "2, without 1"
    assert shared[-1] == "3"
    compared = row(sections["Better than?"], "Shared Transformer")
    assert compared[1].startswith("+20.0 (") and compared[-1] == "2"
    assert sections["Not counted"] == [
        ["contr_mae", "1", "–", "The loss is nan (its terms: mae) at step 7: diverged"]
    ]  # fmt: skip
    summary = json.loads((tmp_path / "runs/contr_mae.json").read_text())
    assert summary["seeds"] == [0, 2] and summary["seeds_left_out"] == [1]
    assert summary["mean"]["audio_ua"] == pytest.approx(0.6)


def test_a_seed_whose_fold_diverged_does_not_count_and_is_never_the_best(tmp_path):
    for fold in (1, 2):
        for seed in (0, 1):
            leave(tmp_path, "shared", seed, fold, ua=0.4)
            leave(tmp_path, "contr_mae", seed, fold, ua=(None if fold == 2 else 1.0) if seed == 0 else 0.5)
            leave(tmp_path, "mae", seed, fold, ua=1.0 if fold == 1 else None)
    sections = report(tmp_path)
    full = row(sections["Table 1: unweighted accuracy"], "+ contr + MAE")
    assert full[1] == "50.0" and full[-1] == "1, without 0"
    assert "+ MAE" not in [cells[0] for cells in sections["Table 1: unweighted accuracy"]]
    assert [cells[:3] for cells in sections["Not counted"]] == [
        ["contr_mae", "0", "2"], ["mae", "0", "2"], ["mae", "1", "2"],
    ]  # fmt: skip
    compared = row(sections["Better than?"], "Shared Transformer")
    assert compared[1].startswith("+10.0 (") and compared[-1] == "1"
    assert Records(tmp_path).figure("mae", "audio_ua") is None


def test_folds_are_averaged_within_a_seed(tmp_path):
    for seed, fold, ua in ((0, 1, 0.5), (0, 2, 0.7), (1, 1, 0.8), (1, 2, 0.9)):
        leave(tmp_path, "shared", seed, fold, ua=ua)
    figure = Records(tmp_path).figure("shared", "audio_ua")
    assert figure.by_seed == pytest.approx({0: 0.6, 1: 0.85})
    assert figure.mean == pytest.approx(0.725) and figure.deviation == pytest.approx(np.std([0.6, 0.85], ddof=1))
    assert Records(tmp_path).figure("shared", "text_valence_ccc") is None


def test_an_utterance_that_is_tested_in_every_fold_is_drawn_as_one(tmp_path):
    """A corpus with folds beside one without: the interval is that of utterances, not of their copies."""
    generator = np.random.default_rng(0)
    references = generator.normal(4, 1, 60)
    noise = {"contr_mae": 1.0, "shared": 1.5}
    predicted = {run: references + generator.normal(0, sigma, 60) for run, sigma in noise.items()}
    (tmp_path / "predictions").mkdir()
    for run, values in predicted.items():
        for fold in (1, 2, 3):
            RunRecord(run, 0, fold).write(tmp_path)
            table = {"utterance_id": [f"u{i:02}" for i in range(60)], "combination": "audio", "valence": values}
            pd.DataFrame(table | {"reference_valence": references}).sample(frac=1, random_state=fold).to_parquet(
                tmp_path / predictions_path(RunRecord(run, 0, fold).key)
            )
    grid = recorded_grid(tmp_path, tmp_path)
    found = compare(*(grid.system(run) for run in predicted), ["audio"], "valence", [0])
    one, other = predicted.values()
    expected = paired_bootstrap(CONCORDANCE, [one], [other], references)
    assert (found.value, found.low, found.high) == pytest.approx(expected)


def test_the_number_of_utterances_of_table_2_is_theirs(tmp_path):
    leave(tmp_path, "mae", 0, n=18)
    report(tmp_path)
    assert "averaged over 18 random test utterances" in (tmp_path / "README.md").read_text()


def test_a_record_is_read_as_it_was_written(tmp_path):
    leave(tmp_path, "mae", 3, 2, seconds={"training": 1.5}, caveats=["odd"], layer_weights=LAYERS)
    leave(tmp_path, "mae", 4, 2, ua=None)
    records = Records(tmp_path).all
    assert [record.key for record in records] == ["mae-seed-3-fold-2", "mae-seed-4-fold-2"]
    assert records[0].measured and records[0].layer_weights == LAYERS and records[0].caveats == ["odd"]
    assert not records[1].measured and records[1].splits == {"test": {}}
    assert "failed" not in json.loads((tmp_path / records[0].path).read_text())
    report(tmp_path)
    assert "- odd" in (tmp_path / "README.md").read_text()
