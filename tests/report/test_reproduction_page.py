"""The report of `mmer reproduce`: what a reader sees is what the records say, from one grid or from two."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pages import Page

from modeling_mmer.model.configuration_mmer import COMBINATIONS
from modeling_mmer.report.records import Records, RunRecord, predictions_path
from modeling_mmer.report.reproduction import write_reproduction
from modeling_mmer.report.reproduction_plots import draw_ua
from modeling_mmer.report.reproduction_tables import ua_strips
from modeling_mmer.reproduction.beside import recorded_grid

EMOTIONS = np.array(["neutral", "happiness", "sadness", "anger"])
N = 120
REFERENCES, VALENCE = EMOTIONS[np.arange(N) % 4], np.linspace(1, 5, N)
SKILLS = {"probe": 0.5, "cascade": 0.3, "shared": 0.55, "contr": 0.9, "contr_mae": 0.7}
RESAMPLES = np.random.default_rng(0).integers(N, size=(2000, N))
UA_TABLE, CCC_TABLE = "Table 1: unweighted accuracy", "Table 1: concordance of the dimensions"


def mean_recall(predicted: np.ndarray, references: np.ndarray) -> float:
    return float(np.mean([(predicted == references)[references == emotion].mean() for emotion in EMOTIONS]))


def train(folder: Path, run: str, seed: int, skill: float, preset: str = "paper", **settings) -> None:
    """The record and the predictions of a run that is right in about a share `skill`, the figures those of its
    predictions."""
    generator = np.random.default_rng([seed, *run.encode(), *preset.encode()])
    tables, figures = [], {}
    for combination in COMBINATIONS:
        predicted = np.where(generator.random(N) < skill, REFERENCES, EMOTIONS[generator.integers(4, size=N)])
        valence = VALENCE + generator.normal(0, 1 / skill, N)
        spread = np.mean((VALENCE - valence) ** 2) + 2 * np.mean(
            (VALENCE - VALENCE.mean()) * (valence - valence.mean())
        )
        ccc = 2 * np.mean((VALENCE - VALENCE.mean()) * (valence - valence.mean())) / spread
        recall = dict.fromkeys(EMOTIONS.tolist(), 0.5)
        ua = mean_recall(predicted, REFERENCES)
        figures[combination] = {"n": N, "ua": ua, "valence_ccc": ccc, "per_class_recall": recall}
        table = {"utterance_id": [f"u{i:03}" for i in range(N)], "combination": combination, "emotion": predicted}
        table |= {"reference_emotion": REFERENCES, "valence": valence, "reference_valence": VALENCE}
        tables.append(pd.DataFrame(table))
    settings = {"system": "probe" if run == "probe" else "mmer", "num_train_epochs": 6.0, **settings}
    machine = {"devices": ["cpu"], "threads": 1}
    record = RunRecord(
        run, seed, trainable_parameters=9, epochs=6, preset=preset, settings=settings, machine=machine,
        splits={"test": figures},
    )  # fmt: skip
    record.write(folder)
    path = folder / predictions_path(record.key)
    path.parent.mkdir(exist_ok=True)
    pd.concat(tables).to_parquet(path)


def write(folder: Path, *beside: str) -> tuple[Page, str]:
    """The report of a folder: its page and its Markdown."""
    grids = [recorded_grid(folder / name, folder) for name in (".", *beside)]
    write_reproduction(folder, grids, "made up")
    return Page((folder / "index.html").read_text()), (folder / "README.md").read_text()


def emotions(folder: Path, run: str, seed: int, combination: str) -> np.ndarray:
    table = pd.read_parquet(folder / f"predictions/{run}-seed-{seed}.parquet")
    return table[table["combination"] == combination].sort_values("utterance_id")["emotion"].to_numpy().astype(str)


def resampled_ua(folder: Path, run: str, combination: str) -> np.ndarray:
    """UA (2000,) of each resample of the utterances, averaged over two seeds."""
    hits = np.mean([emotions(folder, run, seed, combination) == REFERENCES for seed in (0, 1)], axis=0)[RESAMPLES]
    of_class = [REFERENCES[RESAMPLES] == emotion for emotion in EMOTIONS]
    return np.mean([(hits * drawn).sum(1) / drawn.sum(1) for drawn in of_class], axis=0)


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    for run, skill in SKILLS.items():
        for seed in (0, 1):
            train(folder, run, seed, skill, state_normalization="none", dropout=0.5, learning_rate=0.001)
    return folder


@pytest.fixture(scope="module")
def resamples(one) -> dict[str, dict[str, np.ndarray]]:
    return {run: {c: resampled_ua(one, run, c) for c in COMBINATIONS} for run in SKILLS}


@pytest.fixture(scope="module")
def page(one) -> Page:
    return write(one)[0]


TITLES = {
    "probe": "Linear probe (the floor)", "cascade": "Cascade", "shared": "Shared Transformer", "contr": "+ contr",
    "contr_mae": "+ contr + MAE",
}  # fmt: skip


def row(page: Page, section: str, title: str) -> list:
    return next(cells for cells in page.sections[section] if cells[0].text == title)


def in_units(page: Page, column: int, x: float) -> float:
    """What a place on the axis of a column means, by the two outer ones of its ticks."""
    (low, x_low), *_, (high, x_high) = page.sections[UA_TABLE][0][column].ticks.items()
    return low + (x - x_low) * (high - low) / (x_high - x_low)


def test_every_figure_is_once_in_its_table(one, page):
    shown = Counter(
        (cell.link, cell.text)
        for s in (UA_TABLE, CCC_TABLE)
        for cells in page.sections[s]
        for cell in cells
        if cell.link
    )
    expected = Counter()
    for run in SKILLS:
        summary = json.loads((one / f"runs/{run}.json").read_text())
        for name, mean in summary["mean"].items():
            deviation = summary["standard_deviation"][name]
            text = (
                f"{100 * mean:.1f} ± {100 * deviation:.1f}" if name.endswith("ua") else f"{mean:.3f} ± {deviation:.3f}"
            )
            expected[f"runs/{run}.json", text] += 1
    assert shown == expected and shown.total() == len(SKILLS) * 6


def test_dots_are_means_and_intervals_those_of_a_bootstrap(page, resamples, one):
    for run, title in TITLES.items():
        for column, combination in enumerate(COMBINATIONS, start=1):
            cell = row(page, UA_TABLE, title)[column]
            ua = [mean_recall(emotions(one, run, seed, combination), REFERENCES) for seed in (0, 1)]
            assert in_units(page, column, cell.dot) == pytest.approx(100 * np.mean(ua), abs=0.05)
            drawn = [in_units(page, column, x) for x in cell.lines["interval"]]
            bounds = np.percentile(resamples[run][combination], [2.5, 97.5])
            assert drawn == pytest.approx(100 * bounds, abs=0.05)


def test_lines_are_where_the_floor_and_chance_are(page, one):
    for column, combination in enumerate(COMBINATIONS, start=1):
        floor = np.mean([mean_recall(emotions(one, "probe", seed, combination), REFERENCES) for seed in (0, 1)])
        for title in TITLES.values():
            lines = row(page, UA_TABLE, title)[column].lines
            assert [in_units(page, column, x) for x in lines["floor"]] == pytest.approx([100 * floor] * 2, abs=0.05)
            assert [in_units(page, column, x) for x in lines["chance"]] == pytest.approx([25] * 2, abs=0.05)
        assert in_units(page, column, 0) > 10  # the axis does not begin at zero


def test_the_plot_has_the_same_lines_and_dots(one, resamples):
    figure = draw_ua(ua_strips([recorded_grid(one, one)]))
    titles = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert titles == list(TITLES.values())
    for panel, combination in zip(figure.axes, COMBINATIONS, strict=True):
        floor = np.mean([mean_recall(emotions(one, "probe", seed, combination), REFERENCES) for seed in (0, 1)])
        for y, run in enumerate(SKILLS):
            drawn = [line for line in panel.lines if np.mean(line.get_ydata()) == y]
            upright = sorted(line.get_xdata()[0] for line in drawn if np.ptp(line.get_ydata()) == 1)
            assert upright == pytest.approx(sorted([25, 100 * floor]))
            (interval,) = (
                line.get_xdata() for line in drawn if np.ptp(line.get_ydata()) == 0 and len(line.get_xdata()) == 2
            )
            assert interval == pytest.approx(100 * np.percentile(resamples[run][combination], [2.5, 97.5]))
            (dot,) = (line.get_xdata()[0] for line in drawn if len(line.get_xdata()) == 1)
            ua = [mean_recall(emotions(one, run, seed, combination), REFERENCES) for seed in (0, 1)]
            assert dot == pytest.approx(100 * np.mean(ua))
        assert panel.get_xlim()[0] > 10


def test_the_sentence_names_what_the_full_objective_is_better_than(page, one, resamples):
    """Exactly those whose interval, of UA over all combinations together, is above zero."""
    together = {run: np.mean(list(of_run.values()), axis=0) for run, of_run in resamples.items()}
    bounds = {run: np.percentile(together["contr_mae"] - of_run, [2.5, 97.5]) for run, of_run in together.items()}
    better = {run for run, (low, _) in bounds.items() if low > 0}
    worse = {run for run, (_, high) in bounds.items() if high < 0}
    assert better == {"probe", "cascade", "shared"} and worse == {"contr"}  # or else this test would show little
    sentence, _, rest = page.text[UA_TABLE].partition("UA in %")
    assert sentence.startswith("In UA over audio, text and both together, + contr + MAE is better than") and rest
    named_better, named_worse = sentence.partition("is better than")[2].split("it is worse than")
    assert {run for run, title in TITLES.items() if f"{title} (+" in named_better} == better
    assert {run for run, title in TITLES.items() if f"{title} (−" in named_worse} == worse
    assert named_better.count("(+") == 3 and named_worse.count("(") == 1
    first = row(page, "Better than?", TITLES["cascade"])[1]
    ours, theirs = (
        100 * np.mean([mean_recall(emotions(one, run, s, c), REFERENCES) for s in (0, 1) for c in COMBINATIONS])
        for run in ("contr_mae", "cascade")
    )
    value = ours - theirs
    low, high = 100 * bounds["cascade"]
    assert first.text == f"{value:+.1f} ({low:+.1f}, {high:+.1f})"
    assert f"Cascade ({value:+.1f})" in sentence
    assert first.lines["interval"][0] > first.lines["zero"][0]


def test_a_level_floor_is_named_and_others_that_are_level_are_counted(tmp_path):
    for run in ("probe", "shared", "cascade", "contr_mae"):
        train(tmp_path, run, 0, skill=0.6)
    page, _ = write(tmp_path)
    sentence = page.text[UA_TABLE].partition("UA in %")[0]
    assert re.search(
        r"MAE cannot be told apart from Linear probe \(the floor\) \([+−]\d\.\d\) and 2 others\.", sentence
    )


def test_the_papers_figures_are_small_beside_ours(page, one):
    cells = row(page, UA_TABLE, "+ contr + MAE")
    assert [cell.small.strip() for cell in cells[1:4]] == ["66.6", "54.5", "68.3"]
    assert row(page, CCC_TABLE, "+ contr + MAE")[1].small.strip() == "0.656"
    assert row(page, UA_TABLE, TITLES["probe"])[1].small == ""  # the paper has no floor
    assert not [title for title in page.sections if title.startswith("Published")]
    markdown = (one / "README.md").read_text()
    assert "66.6" not in markdown.split("## Published: Table 1")[0]


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """The recommended preset, and the paper's in a folder inside."""
    folder = tmp_path_factory.mktemp("two")
    paper = {"state_normalization": "none", "readout": "cls", "dropout": 0.5, "learning_rate": 0.001}
    recommended = {**paper, "state_normalization": "standardize", "readout": "attention", "dropout": 0.3}
    for run in ("probe", "shared", "contr_mae"):
        train(folder, run, 0, SKILLS[run] + 0.1, "recommended", **recommended)
        for seed in (0, 1):
            train(folder / "paper", run, seed, SKILLS[run] - 0.1, "paper", **paper)
    return folder


def test_two_grids_stand_in_one_table_each_with_its_records(two):
    page, markdown = write(two, "paper")
    table = page.sections[UA_TABLE][1:]
    assert [cells[0].text for cells in table] == [
        *("recommended", TITLES["probe"], TITLES["shared"], TITLES["contr_mae"]),
        *("paper", TITLES["probe"], TITLES["shared"], TITLES["contr_mae"]),
    ]
    for cells, folder in ((table[3], "runs"), (table[7], "paper/runs")):
        for cell, combination in zip(cells[1:4], COMBINATIONS, strict=True):
            assert cell.link == f"{folder}/contr_mae.json"
            mean = json.loads((two / cell.link).read_text())["mean"][f"{combination}_ua"]
            assert cell.text.split(" ")[0] == f"{100 * mean:.1f}"
    assert table[3][1].small == "" and table[7][1].small.strip() == "66.6"
    floors = [cells[1].lines["floor"] for cells in table if cells[0].text in TITLES.values()]
    assert floors == [floors[0]] * 3 + [floors[3]] * 3 and floors[0] != floors[3]
    links = set(re.findall(r"\]\((.*?)\)", markdown)) | {c.link for t in page.sections.values() for r in t for c in r}
    assert all((two / link).is_file() for link in links if link) and "paper/runs/shared-seed-1.json" in links
    assert re.search(
        r"MAE of recommended is better than .*Linear probe \(the floor\) of paper \(\+", page.text[UA_TABLE]
    )
    assert re.search(r"^\| \*\*paper\*\* \|( +\|)+$", markdown, re.M)


def test_what_each_system_got_is_told(two):
    page, _ = write(two, "paper")
    header, *rows = ([cell.text for cell in cells] for cells in page.sections["What each system got"])
    assert header == ["Systems", "states", "heads read", "dropout", "learning rate", "batch", "epochs", "seeds"]
    probe = ["standardised", "mean of states", "none", "0.001", "–", "6 of 6"]
    assert rows == [
        ["recommended", ""],
        ["Linear probe (the floor)", *probe, "1"],
        *(
            [
                [
                    "Shared Transformer, + contr + MAE",
                    "standardised",
                    "CLS, attention over tokens",
                    "0.3",
                    *probe[3:],
                    "1",
                ]
            ]
        ),
        ["paper", ""],
        ["Linear probe (the floor)", *probe, "2"],
        *([["Shared Transformer, + contr + MAE", "raw", "CLS", "0.5", *probe[3:], "2"]]),
    ]
    told = page.text["What each system got"]
    assert "state_normalization standardize (none), readout attention (cls), dropout 0.3 (0.5)." in told


def test_a_record_without_a_preset_is_the_papers(tmp_path):
    train(tmp_path, "probe", 0, 0.5)
    path = tmp_path / "runs/probe-seed-0.json"
    content = json.loads(path.read_text())
    del content["preset"]
    path.write_text(json.dumps(content))
    assert Records(tmp_path).preset == "paper"


def test_without_predictions_there_are_dots_without_intervals(tmp_path):
    for run in ("probe", "contr_mae"):
        train(tmp_path, run, 0, SKILLS[run])
        (tmp_path / f"predictions/{run}-seed-0.parquet").unlink()
    page, _ = write(tmp_path)
    cell = row(page, UA_TABLE, "+ contr + MAE")[1]
    assert cell.dot is not None and set(cell.lines) == {"floor", "chance"}
    assert page.text[UA_TABLE].startswith("UA in %") and "+" not in page.text[UA_TABLE]
