"""`mmer reproduce`: each run is executed once, also after interruptions, and the tables have the figures of runs."""

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import REPOSITORY
from pages import Page
from processes import run, start

from modeling_mmer.commands import main
from modeling_mmer.model.configuration_mmer import MMERConfig
from modeling_mmer.report.reproduction import write_reproduction
from modeling_mmer.reproduction.beside import recorded_grid
from modeling_mmer.reproduction.systems import RUNS, chosen_runs, make_plan
from modeling_mmer.training.resuming import last_checkpoint

OPTIONS = {name: getattr(MMERConfig, name) for name in MMERConfig.__annotations__ if hasattr(MMERConfig, name)}


def command(encoders: Path, output: Path, *more: str) -> list[str]:
    """Four steps of each run on the demo corpus."""
    return [
        *("reproduce", "--corpus", "demo", "--audio_context", "trimmed", "--disable_tqdm", "true"),
        *("--audio_encoder", str(encoders / "whisper"), "--text_encoder", str(encoders / "roberta")),
        *("--feature_cache", str(encoders / "features"), "--output_dir", str(output), "--hidden_size", "32"),
        *("--max_steps", "4", "--eval_strategy", "steps", "--save_strategy", "steps", "--eval_steps", "2"),
        *("--save_steps", "2", "--logging_steps", "2", "--learning_rate", "3e-3", *more),
    ]


@pytest.fixture(scope="module")
def tables(demo_encoders, tmp_path_factory) -> Path:
    """Tables 1 to 3 and two of the choices with one seed, then two rows with a second."""
    folder = tmp_path_factory.mktemp("tables")
    os.environ["HF_HUB_OFFLINE"] = "1"
    main(command(demo_encoders, folder, "--only", "table1", "table2", "table3", "num_hidden_layers_4"))
    first = {path.name: path.stat().st_mtime_ns for path in folder.glob("runs/*-seed-0.json")}
    main(command(demo_encoders, folder, "--only", "shared", "separate", "--seeds", "2"))
    assert first == {path.name: path.stat().st_mtime_ns for path in folder.glob("runs/*-seed-0.json")}
    return folder


def records(folder: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("runs/*-seed-*.json")}


def section(text: str, title: str) -> list[list[str]]:
    """The cells of the table under a title, header and rule left out."""
    part = text.split(f"## {title}")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def shown(cell: str) -> str:
    """A cell without its link and its bold type."""
    return re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cell).replace("*", "")


def test_every_row_of_the_tables_is_there(tables):
    text = (tables / "README.md").read_text()
    assert [row[0].replace("*", "") for row in section(text, "Table 1: unweighted")] == [
        *("Linear probe (the floor)", "CIF-MMIN", "Cascade", "Separate models", "Late fusion", "Shared Transformer"),
        *("+ contr", "+ MAE", "+ contr + MAE", "+ contr + MAE, states standardised (ours)"),
    ]
    assert [row[0] for row in section(text, "Table 2")] == ["random init", "projected (h)", "original (H)"]
    assert [row[0] for row in section(text, "Table 3")] == [*("RoPE w/o contr", "RoPE w/o g", "Absolute PE", "RoPE")]
    assert [row[0] for row in section(text, "Choices")] == [
        *("layers: 2", "layers: 4", "states: none", "states: standardize")  # of what was tried, and the options' own
    ]
    models = {row[0]: row[-2] for row in section(text, "Table 1: unweighted")}
    assert models["Separate models"] == "3" and models["Shared Transformer"] == "1"


def test_numbers_are_the_mean_over_seeds_and_link_to_their_run(tables):
    text, runs = (tables / "README.md").read_text(), records(tables)
    rows = {row[0]: row for row in section(text, "Table 1: unweighted accuracy")}
    of_dimensions = {row[0]: row for row in section(text, "Table 1: concordance")}
    ua = [100 * runs[f"shared-seed-{seed}"]["splits"]["test"]["audio_text"]["ua"] for seed in (0, 1)]
    cell = rows["Shared Transformer"][3]
    assert shown(cell) == f"{np.mean(ua):.1f} ± {np.std(ua, ddof=1):.1f}" and "(runs/shared.json)" in cell
    ccc = runs["late_fusion-seed-0"]["splits"]["test"]["audio_text"]["valence_ccc"]
    assert shown(of_dimensions["Late fusion"][3]) == f"{ccc:.3f}"
    assert rows["Late fusion"][1] == rows["Separate models"][1]  # from one modality they are the same models
    arousal = runs["separate_audio-seed-0"]["splits"]["test"]["audio"]["arousal_ccc"]
    summary = json.loads((tables / "runs/separate_audio.json").read_text())
    other = runs["separate_audio-seed-1"]["splits"]["test"]["audio"]["arousal_ccc"]
    assert summary["mean"]["audio_arousal_ccc"] == pytest.approx((arousal + other) / 2)
    assert summary["records"] == ["separate_audio-seed-0.json", "separate_audio-seed-1.json"]
    links = set(re.findall(r"\]\((.*?)\)", text)) | set(re.findall(r'(?:href|src)="(.*?)"', html(tables)))
    assert links and all((tables / link).is_file() for link in links)
    parameters = sum(runs[f"separate_{c}-seed-0"]["trainable_parameters"] for c in ("audio", "text", "audio_text"))
    assert rows["Separate models"][-3] == f"{parameters:,}"
    assert "CIF-MMIN" in rows and "CIF-MMIN" not in of_dimensions  # it judges emotion alone


def test_the_floor_trains_four_times_as_long_as_the_others(demo_encoders, tmp_path):
    whole = ["--max_steps", "-1", "--num_train_epochs", "1", "--eval_strategy", "epoch", "--save_strategy", "epoch"]
    main(command(demo_encoders, tmp_path, "--only", "probe", "shared", *whole, "--early_stopping_patience", "2"))
    runs = records(tmp_path)
    probe, shared = runs["probe-seed-0"], runs["shared-seed-0"]
    assert (probe["epochs"], shared["epochs"]) == (4, 1)
    assert [run["settings"]["early_stopping_patience"] for run in (probe, shared)] == [8, 2]


def html(folder: Path) -> str:
    return (folder / "index.html").read_text()


def test_the_page_has_the_same_figures_as_the_markdown(tables):
    text, page = (tables / "README.md").read_text(), Page(html(tables))
    for title in (
        "Table 1: unweighted accuracy",
        "Table 1: concordance",
        "Table 2",
        "Table 3",
        "Better than?",
        "Choices",
    ):
        full = next(name for name in page.sections if name.startswith(title))
        assert [[cell.text for cell in row] for row in page.sections[full][1:]] == [
            [shown(cell) for cell in row] for row in section(text, title)
        ]


def test_published_figures_stand_apart(tables):
    text = (tables / "README.md").read_text()
    measured, published = text.split("## Published: Table 1")
    assert "66.6" in published and "MSP-Podcast 1.11" in published and "MSP-Podcast" not in measured
    assert section(text, "Published: Table 1")[-1][1:4] == ["66.6", "54.5", "68.3"]


def test_better_than_is_the_difference_on_the_same_utterances(tables):
    text = (tables / "README.md").read_text()
    row = next(row for row in section(text, "Better than?") if row[0] == "Shared Transformer")
    both = [pd.read_parquet(tables / f"predictions/{name}-seed-0.parquet") for name in ("contr_mae", "shared")]
    recalls = []
    for table in both:
        table = table[(table["combination"] == "text") & table["reference_emotion"].notna()]
        hit = table["emotion"] == table["reference_emotion"]
        recalls.append(hit.groupby(table["reference_emotion"]).mean().mean())
    assert shown(row[3]).startswith(f"{100 * (recalls[0] - recalls[1]):+.1f} (".replace("-", "−"))


def test_records_tell_how_a_run_was_made(tables):
    record = records(tables)["mae-seed-0"]
    assert record["settings"]["lambda_contrastive"] == 0 and record["settings"]["lambda_mae"] == 10
    assert record["settings"]["column_map"] is None  # one cannot be given for a corpus of its own columns
    assert record["settings"]["rows"]["train"] > 0 and record["settings"]["learning_rate"] == 3e-3
    assert sum(record["layer_weights"]["audio"]) == pytest.approx(1)
    assert record["seconds"]["training"] > 0 and record["machine"]["torch"]
    assert np.shape(record["similarities"]) == (32, 32)
    assert not list((tables / "unfinished").glob("*/"))


def test_a_finished_run_is_never_made_again(demo_encoders, tables, capsys):
    before = {path: path.read_bytes() for path in tables.glob("runs/*-seed-*.json")}
    main(command(demo_encoders, tables, "--only", "table1"))
    assert "0 remain" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in tables.glob("runs/*-seed-*.json")}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["--dropout", "0.25"], "dropout was 0.5 and is 0.25"),
        (["--label_map", "calm=neutral"], "label_map was None and is ['calm=neutral']"),
        (["--adam_beta2", "0.9"], "adam_beta2 was 0.999 and is 0.9"),
        (["--cache_dtype", "bfloat16"], "cache_dtype was 'float16' and is 'bfloat16'"),
    ],
)
def test_other_settings_need_another_folder(demo_encoders, tables, capsys, changed, told):
    """Also for a run that the folder does not have yet, which the tables would hold against the others."""
    with pytest.raises(SystemExit) as end:
        main(command(demo_encoders, tables, "--only", "num_hidden_layers_8", *changed))
    message = capsys.readouterr().err
    assert end.value.code == 1 and told in message and "--output_dir" in message
    assert not list((tables / "unfinished").glob("*/"))


def test_another_column_map_needs_another_folder(demo_encoders, tmp_path, capsys):
    """Even where the column holds the same labels: the map is what a record says of where they came from."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    emotions = ["neutral", "happiness", "sadness", "anger"] * 3
    splits = ["train"] * 4 + ["validation"] * 4 + ["test"] * 4
    columns = {"text": [f"so it goes, {i}" for i in range(12)], "split": splits, "first": emotions, "second": emotions}
    pd.DataFrame(columns).to_csv(corpus / "metadata.csv", index=False)
    options = command(demo_encoders, tmp_path / "tables", "--only", "probe", "--max_steps", "2")
    options += ["--corpus", "folder", "--corpus_dir", str(corpus), "--feature_cache", str(tmp_path / "features")]
    main([*options, "--column_map", "emotion=first"])
    before = (tmp_path / "tables/runs/probe-seed-0.json").read_bytes()
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([*options, "--column_map", "emotion=second", "--seeds", "2"])
    message = capsys.readouterr().err
    assert end.value.code == 1 and "--output_dir" in message
    assert "column_map was ['emotion=first'] and is ['emotion=second']" in message
    assert (tmp_path / "tables/runs/probe-seed-0.json").read_bytes() == before
    assert not list((tmp_path / "tables").rglob("*seed-1*"))


def test_a_run_that_was_begun_under_other_settings_is_not_gone_on_with(demo_encoders, tmp_path, monkeypatch, capsys):
    options = command(demo_encoders, tmp_path, "--only", "probe")

    def stopped(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("modeling_mmer.reproduction.runs.evaluate", stopped)
        main(options)
    state_file = Path(last_checkpoint(tmp_path / "unfinished/probe-seed-0"), "trainer_state.json")
    before = state_file.read_text()
    with pytest.raises(SystemExit) as end:
        main([*options, "--learning_rate", "1e-3"])
    assert end.value.code == 1 and "learning_rate was 0.003 and is 0.001" in capsys.readouterr().err
    assert state_file.read_text() == before and not (tmp_path / "runs").exists()
    state = json.loads(before)
    state["stateful_callbacks"]["Fingerprint"]["args"]["seconds"] = 1000.0  # what the first leg took
    state_file.write_text(json.dumps(state))
    options += ["--logging_steps", "1", "--save_total_limit", "3", "--hub_token", "hf_abcdefghijklmnop"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/mmer", *options])
    monkeypatch.setenv("HF_TOKEN", "")  # which is to be as before
    main(options)
    record = records(tmp_path)["probe-seed-0"]
    assert 1000 <= record["seconds"]["training"] < 1100
    assert record["command"].startswith("mmer reproduce ") and record["command"].endswith("--hub_token '***'")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if b"hf_abcdefghijklmnop" in path.read_bytes()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "everything"], "no row or table everything"),
        (["--seeds", "0"], "--seeds must be"),
        (["--corpus", "nowhere"], "nowhere"),
    ],
)
def test_bad_options_end_before_any_run(demo_encoders, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as end:
        main(command(demo_encoders, tmp_path, *options))
    assert end.value.code == 1 and message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_killed_grid_goes_on_with_the_run_that_was_open(demo_encoders, tmp_path):
    """`kill -9` twice: what was finished stays as it is, and the figures are those of a grid that was left alone."""
    options = command(demo_encoders, tmp_path / "killed", "--only", "probe", "shared", "contr", "--max_steps", "24")
    records_there = tmp_path / "killed/runs"
    for finished in (1, 2):
        process = start(["reproduce.py", *options[1:]])
        open_run = ("shared", "contr")[finished - 1]
        checkpoints = tmp_path / f"killed/unfinished/{open_run}-seed-0"
        deadline = time.monotonic() + 120
        while not list(checkpoints.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.join()
        assert len(list(records_there.glob("*-seed-*.json"))) == finished
        before = {path: path.stat().st_mtime_ns for path in records_there.glob("*-seed-*.json")}
    main(options)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in records_there.glob("*-seed-*.json")}.items()
    main(command(demo_encoders, tmp_path / "alone", "--only", "probe", "shared", "contr", "--max_steps", "24"))
    for name in ("probe", "shared", "contr"):
        killed, alone = (records(tmp_path / of)[f"{name}-seed-0"]["splits"] for of in ("killed", "alone"))
        assert killed == alone


def test_two_processes_share_the_runs(demo_encoders, tmp_path):
    options = command(demo_encoders, tmp_path / "shared", "--only", "probe", "shared", "separate")
    outputs = [tmp_path / f"{number}.txt" for number in range(2)]
    started = [start(["reproduce.py", *options[1:]], stdout=output) for output in outputs]
    for process in started:
        process.join(300)
    assert [process.exitcode for process in started] == [0, 0]
    printed = [output.read_text() for output in outputs]
    made = [re.findall(r"^(\S+-seed-0): \d+ s", text, re.M) for text in printed]
    expected = ["probe", "shared", "separate_audio", "separate_text", "separate_audio_text"]
    assert sorted(made[0] + made[1]) == sorted(f"{name}-seed-0" for name in expected)


def test_runs_come_after_those_they_need_and_only_once():
    plan = make_plan(OPTIONS)
    names = [run.name for run in chosen_runs(plan, None)]
    assert len(names) == len(set(names))
    for name in names:
        assert all(names.index(needed) < names.index(name) for needed in plan.runs[name].needs)
    assert set(RUNS) <= set(names)
    assert [run.name for run in chosen_runs(plan, ["late_fusion"])] == [
        *("separate_audio", "separate_text", "late_fusion")
    ]


def test_the_full_objective_on_standardised_states_is_trained_once():
    plan = make_plan({**OPTIONS, "state_normalization": "standardize"})
    assert "standardized" not in [row.name for table in plan.tables.values() for row in table]
    assert "standardized" in [row.name for row in make_plan(OPTIONS).tables["table1"]]


def test_the_other_preset_stands_beside(demo_encoders, tables, tmp_path):
    """Rows of both, each with the records of its folder; rivals get the states of the preset too."""
    options = ("--preset", "recommended", "--only", "probe", "cascade", "contr_mae", "--beside", str(tables))
    main(command(demo_encoders, tmp_path / "recommended", *options))
    page = Page(html(tmp_path / "recommended"))
    rows = page.sections["Table 1: unweighted accuracy"][1:]
    titles = [row[0].text for row in rows]
    assert titles[:5] == ["recommended", "Linear probe (the floor)", "Cascade", "+ contr + MAE", "paper"]
    ours, papers = (row for row in rows if row[0].text == "+ contr + MAE")
    for row, folder in ((ours, tmp_path / "recommended"), (papers, tables)):
        (of_run,) = (r for name, r in records(folder).items() if name == "contr_mae-seed-0")
        assert row[1].text == f"{100 * of_run['splits']['test']['audio']['ua']:.1f}"
        assert (tmp_path / "recommended" / row[1].link).resolve() == folder / "runs/contr_mae.json"
    made = records(tmp_path / "recommended")
    assert {record["preset"] for record in made.values()} == {"recommended"}
    assert made["cascade-seed-0"]["settings"]["state_normalization"] == "standardize"
    assert {record["preset"] for record in records(tables).values()} == {"paper"}
    got = {row[0].text: row for row in page.sections["What each system got"]}
    assert got["Cascade, + contr + MAE"][1].text == "standardised"


@pytest.mark.parametrize(
    ("preset", "change", "message"),
    [
        ("recommended", None, "no records of runs"),
        ("paper", {}, "has the preset paper, which the report has already"),
        ("recommended", {"content": {"test": "another"}}, "has other rows of the corpus than this command"),
        ("recommended", {"text_encoder": "sha256:0"}, "has other text encoder than this command"),
    ],
)
def test_what_cannot_stand_beside_is_refused_before_any_run(
    demo_encoders, tables, tmp_path, capsys, preset, change, message
):
    (tmp_path / "other/runs").mkdir(parents=True)
    if change is not None:
        record = records(tables)["contr_mae-seed-0"]
        record["settings"] |= change
        (tmp_path / "other/runs/contr_mae-seed-0.json").write_text(json.dumps(record))
    with pytest.raises(SystemExit) as end:
        options = ("--preset", preset, "--only", "probe", "--beside", str(tmp_path / "other"))
        main(command(demo_encoders, tmp_path / "own", *options))
    assert end.value.code == 1 and message in capsys.readouterr().err
    assert not (tmp_path / "own/runs").exists()


def test_a_choice_that_the_options_have_is_the_full_objective_itself():
    rows = {row.title: row.name for row in make_plan({**OPTIONS, "num_hidden_layers": 4}).tables["choices"]}
    assert rows["layers: 4"] == "contr_mae" and rows["layers: 2"] == "num_hidden_layers_2"
    assert rows["states: standardize"] == "standardized" and rows["form of Eq. 6: ratio"] == "contrastive_form_ratio"


def test_a_corpus_with_folds_is_trained_on_each(iemocap, demo_encoders, tmp_path):
    options = command(demo_encoders, tmp_path, "--only", "probe", "--max_steps", "2")
    main([*options, "--corpus", "iemocap", "--corpus_dir", str(iemocap)])
    of_folds = [json.loads((tmp_path / f"runs/probe-seed-0-fold-{fold}.json").read_text()) for fold in range(1, 6)]
    ua = [record["splits"]["test"]["text"]["ua"] for record in of_folds]
    assert json.loads((tmp_path / "runs/probe.json").read_text())["mean"]["text_ua"] == pytest.approx(np.mean(ua))
    rows = section((tmp_path / "README.md").read_text(), "Table 1")
    assert shown(rows[0][2]) == f"{100 * np.mean(ua):.1f}"


PUBLISHED = sorted(page.parent for page in (REPOSITORY / "docs/tables").glob("*/**/index.html"))


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: str(folder.relative_to(REPOSITORY)))
def test_the_committed_tables_are_those_of_their_records(folder, tmp_path):
    """Each report under `docs/tables/` is what the records there give."""
    made = tmp_path / "tables"
    shutil.copytree(folder, made, ignore=shutil.ignore_patterns("models", "unfinished", "*.lock"))
    title = (folder / "README.md").read_text().splitlines()[0]
    grids = sorted({path.parent for path in made.glob("**/runs")}, key=lambda path: len(path.parts))
    write_reproduction(made, [recorded_grid(grid, made) for grid in grids], title.rpartition(" ")[2])
    for name in ("README.md", "index.html"):
        assert (tmp_path / "tables" / name).read_text() == (folder / name).read_text()


def make_msp_podcast(root: Path) -> None:
    """Thirty utterances of noise, laid out as a release."""
    generator = np.random.default_rng(0)
    labels, partitions = ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"], []
    for folder in ("Labels", "Audios", "Transcripts"):
        (root / folder).mkdir(parents=True)
    for i in range(30):
        name, split = f"MSP-PODCAST_{i:04}_0001", ("Train", "Train", "Development", "Test1", "Test1")[i % 5]
        act, val, dom = generator.uniform(1, 7, 3).round(2)
        labels.append(f"{name}.wav,{'NHSA'[i // 5 % 4]},{act},{val},{dom},{i},Female,{split}")
        partitions.append(f"{split}; {name}.wav")
        soundfile.write(root / f"Audios/{name}.wav", generator.normal(0, 0.1, 4000), 16_000)
        (root / f"Transcripts/{name}.txt").write_text("so it goes\n")
    (root / "Labels/labels_consensus.csv").write_text("\n".join(labels))
    (root / "Partitions.txt").write_text("\n".join(partitions))


def test_the_recipe_at_the_papers_scale_runs_on_a_corpus_of_the_same_form(demo_encoders, tmp_path):
    root = tmp_path / "msp"
    make_msp_podcast(root)
    options = [
        *("recipes/reproduce_msp_podcast.yaml", "--corpus_dir", str(root), "--seeds", "1", "--cache_layers", "0", "2"),
        *("--audio_encoder", str(demo_encoders / "whisper"), "--text_encoder", str(demo_encoders / "roberta")),
        *("--audio_context", "trimmed", "--feature_cache", str(tmp_path / "features"), "--max_steps", "1"),
        *("--dataloader_num_workers", "0", "--output_dir", str(tmp_path / "tables"), "--only", "table1"),
        *("--num_hidden_layers", "1", "--hidden_size", "16", "--eval_strategy", "steps", "--save_strategy", "steps"),
        *("--eval_steps", "1", "--save_steps", "1"),
    ]
    done = run("reproduce.py", *options)
    assert done.returncode == 0, done.stderr
    assert "Linear probe" in (tmp_path / "tables/README.md").read_text()
    assert len(list((tmp_path / "tables/runs").glob("*-seed-0.json"))) == 13


def test_a_run_that_diverges_is_recorded_and_the_others_go_on(demo_encoders, tmp_path, capsys):
    options = command(demo_encoders, tmp_path, "--only", "late_fusion", "probe", "--learning_rate", "1e38")
    for _ in range(2):  # it would diverge again, and is not tried again
        with pytest.raises(SystemExit) as end:
            main(options)
        assert "diverged" in str(end.value.code) and "late_fusion-seed-0" in str(end.value.code)
    assert "0 remain" not in capsys.readouterr().out.splitlines()[0]
    failed = json.loads((tmp_path / "runs/separate_audio-seed-0.json").read_text())
    assert "diverged" in failed["failed"] and failed["splits"] == {"test": {}}
    assert not (tmp_path / "runs/late_fusion-seed-0.json").exists()
    assert "diverged" in (tmp_path / "README.md").read_text()
