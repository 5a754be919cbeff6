"""The guides in `docs/` are followed: what their blocks say is run in the order of the page, on a small corpus and tiny
encoders.

`ELSEWHERE` has what is not run here, because it needs the hub, a cluster, a browser or hours, or because other tests
run it. `test_readme.py` checks its options.
"""

import csv
import io
import re
import shlex
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import soundfile
import torch
from conftest import REPOSITORY, run
from test_readme import PAGES, blocks
from transformers import RobertaConfig, WhisperConfig

from modeling_mmer import MMERConfig, MMERForEmotionRecognition
from modeling_mmer.commands import main
from modeling_mmer.training.balance import CAVEAT
from modeling_mmer.training.presets import PRESETS

CORPUS = "modeling_mmer/corpora/demo_data"
ELSEWHERE = {
    "make ": "the README's two commands",
    "source ": "the environment that make has made",
    "pip install": "the extras",
    "mmer space": "tests/space",
    "mmer export": "tests/commands/test_export.py and tests/exporting run exports with these options",
    "python graphs/": "tests/exporting/test_onnx.py",
    "mmer reproduce": "tests/reproduction runs the grid with these options",
    "python reproduce.py": "tests/reproduction",
    "torchrun": "tests/scoring and tests/training start several processes",
    "accelerate": "tests/conftest.py trains the demo recipe with it",
    "python train.py": "corpora of others; tests/corpora and tests/commands/test_commands.py",
    "python eval.py": "tests/commands/test_commands.py",
    "mmer train recipes/spoken_": "tests/training/test_without_labels.py trains in both stages",
    "mmer predict calls --transcribe": "a recogniser of the hub; tests/scoring/test_transcripts.py",
    "mmer predict calls.parquet": "with --engine ray; tests/scoring/test_ray_engine.py",
}
# Training in small form: the options of the guide, with tiny encoders and two steps.
SMALL = (
    *("--max_steps", "2", "--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps"),
    *("--save_steps", "2", "--per_device_train_batch_size", "8", "--report_to", "none", "--disable_tqdm", "true"),
)


def commands(page: str) -> list[str]:
    """The commands of a page that are run here."""
    lines = [line for block in blocks(PAGES[page], "sh") for line in block.splitlines()]
    return [line for line in lines if not line.startswith(tuple(ELSEWHERE))]


@pytest.fixture(scope="module")
def place(trained, demo_encoders, tmp_path_factory) -> Path:
    """Where a reader is who follows the guides: `make demo` was run, and there are recordings. The demo corpus is half
    of itself."""
    folder = tmp_path_factory.mktemp("place")
    corpus = folder / CORPUS
    corpus.mkdir(parents=True)
    (corpus / "audio").symlink_to(REPOSITORY / CORPUS / "audio")
    with open(REPOSITORY / CORPUS / "metadata.csv", newline="", encoding="utf-8") as table:
        header, *rows = csv.reader(table)
    with open(corpus / "metadata.csv", "w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([header, *rows[::2]])
    (folder / "runs").mkdir()
    (folder / "runs/demo").symlink_to(trained[0])
    (folder / "runs/demo_encoders").symlink_to(demo_encoders)
    (folder / "calls").mkdir()
    for name in ("test_001", "test_002"):
        samples, rate = soundfile.read(corpus / f"audio/{name}.opus")
        soundfile.write(folder / f"calls/{name}.wav", samples, rate)
    shutil.copy(folder / "calls/test_001.wav", folder / "call.wav")
    (folder / "call.rttm").write_text("SPEAKER call 1 0.1 1.2 <NA> <NA> ann <NA> <NA>\n")
    pd.DataFrame({"audio": ["calls/test_001.wav"], "text": ["Really?"]}).to_parquet(folder / "calls.parquet")
    return folder


@pytest.fixture
def follow(place, monkeypatch, capsys):
    """Runs a command of a guide in that place, and returns what it prints."""
    monkeypatch.chdir(place)

    def run_command(line: str) -> str:
        before, piped, line = line.rpartition(" | ")
        if piped:
            assert before == "find calls -type f"
            listed = "".join(f"{path}\n" for path in sorted(Path("calls").iterdir()))
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
        program, *words = shlex.split(line, comments=True)
        assert program == "mmer", line
        capsys.readouterr()
        try:
            main(tiny(words))
        except SystemExit as ended:
            assert not ended.code, capsys.readouterr().err
        return capsys.readouterr().out

    return run_command


def tiny(words: list[str]) -> list[str]:
    """A command with the demo's encoders and model in place of those that would be downloaded, and two steps."""
    own = {
        "openai/whisper-base": "runs/demo_encoders/whisper",
        "sentence-transformers/all-MiniLM-L6-v2": "runs/demo_encoders/roberta",
        "modeling_mmer/released": "runs/demo",
        "runs/features": "runs/demo_encoders/features",
    }
    words = [own.get(word, word) for word in words]
    if words[0] == "predict" and "--model" not in words:
        words += ["--model", "runs/demo"]
    return [*words, *(SMALL if words[0] == "train" else ())]


def test_use(follow, place):
    one, both, text, *_ = [follow(line) for line in commands("docs/use.md")]
    assert "call.wav" in one and "(audio)" not in both and "(text)" in text
    assert len(pd.read_parquet(place / "scores.parquet")) == 2
    assert '"ann"' in (place / "call.TextGrid").read_text()


def test_large_archives(follow, place):
    (line,) = commands("docs/scale_out.md")
    follow(line)
    assert line.endswith("--shard 3/64") and (place / "scores-00003-of-00064.parquet").is_file()


def test_timelines(follow, place):
    (line,) = commands("docs/timelines.md")
    follow(line)
    assert {path.name for path in (place / "timelines").glob("*.srt")} == {"test_001.srt", "test_002.srt"}


def test_train(follow, place):
    described, trained, judged, predicted = [follow(line) for line in commands("docs/train.md")]
    assert "| rows | 104 | 26 | 36 | 166 |" in described
    assert "demo_data, test" in judged and "Model: runs/mine" in predicted
    written = {path.name for path in (place / "runs/mine").iterdir()}
    assert {"model.safetensors", "results.json", "report.md", "README.md", "training_curves.png"} <= written
    assert (place / "runs/mine_test/predictions.parquet").is_file()
    reports = [(place / run / "report.md").read_text(encoding="utf-8") for run in ("runs/mine", "runs/mine_test")]
    assert [CAVEAT in report for report in reports] == [True, False]  # the second has no figures on validation


def test_finetune(follow, place):
    *_, predicted = [follow(line) for line in commands("docs/finetune.md")]
    assert set(re.findall(r"(calm|upset) [01]\.\d+", predicted)) == {"calm", "upset"}
    (snippet,) = blocks(PAGES["docs/finetune.md"], "python")
    assert snippet.count("modeling_mmer/released") == 2
    names = {}
    exec(snippet.replace("modeling_mmer/released", "runs/demo"), names)
    trained = {name.split(".")[0] for name, p in names["model"].named_parameters() if p.requires_grad}
    assert "heads" in trained and "model" not in trained
    assert (place / "runs/heads/model.safetensors").is_file()


def test_add_a_modality(place):
    faces, train, use = blocks(PAGES["docs/add_a_modality.md"], "python")
    assert commands("docs/add_a_modality.md") == ["python train_faces.py"] and "num_train_epochs=4" in train
    (place / "faces.py").write_text(faces)
    (place / "train_faces.py").write_text(train.replace("num_train_epochs=4", "max_steps=1"))
    (place / "use_faces.py").write_text(use)
    trained = run("train_faces.py", cwd=place)
    assert trained.returncode == 0, trained.stderr
    table = [line.split(" | ")[0] for line in trained.stdout.splitlines() if line.startswith("| ")]
    promised = "audio, text, audio + text, face, audio + face, text + face, audio + text + face".split(", ")
    assert table[2:] == [f"| {combination}" for combination in promised]
    used = run("use_faces.py", cwd=place)
    assert used.returncode == 0, used.stderr
    assert re.fullmatch(r"\['face'\] \w+ 0\.\d+\n\['text', 'face'\] \w+ 0\.\d+\n", used.stdout)


def test_how_it_works_names_all_that_the_presets_differ_in():
    _, _, table = PAGES["docs/how_it_works.md"].partition("## `paper` and `recommended`")
    rows = [line.split("|")[1:4] for line in table.splitlines() if line.startswith("| `")]
    paper, recommended = PRESETS["paper"], PRESETS["recommended"]
    named = [name for option, *_ in rows for name in re.findall(r"`(\w+)`", option)]
    assert sorted(named) == sorted(name for name, value in recommended.items() if value != paper[name])
    for option, of_paper, _ in rows:
        if "readout" not in option:
            shown = [paper[name] for name in re.findall(r"`(\w+)`", option)]
            shown = [f"{value:g}" if isinstance(value, float) else str(value).lower() for value in shown]
            assert of_paper.strip() == "; ".join(shown)


@pytest.mark.parametrize(("preset", "millions"), [("paper", "1.8"), ("recommended", "2.3")])
def test_how_it_works_says_how_many_parameters_are_trained(preset, millions):
    audio = WhisperConfig(d_model=1024, encoder_layers=24, encoder_attention_heads=16, encoder_ffn_dim=4096)
    text = RobertaConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
    names = {"audio_encoder_name_or_path": "whisper-medium", "text_encoder_name_or_path": "roberta-large"}
    with torch.device("meta"):
        model = MMERForEmotionRecognition(MMERConfig(audio_config=audio, text_config=text, **names, **PRESETS[preset]))
    assert f"{model.num_parameters(only_trainable=True) / 1e6:.1f}" == millions
    assert millions in PAGES["docs/how_it_works.md"]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(PAGES[page], "python")])
def test_each_page_with_code_is_read_by_tests_that_run_it(page):
    tests = [file.read_text(encoding="utf-8") for file in (REPOSITORY / "tests").rglob("test_*.py")]
    assert any(Path(page).name in test and ("exec(" in test or "run(" in test) for test in tests)
