"""A dimension takes one line of `tasks.py`; a class task takes one line there and its two fields of the config. From
the corpus to the report everything follows. Shown on a copy of the package with these lines."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from processes import REPOSITORY, run

EDITS = {
    "tasks.py": [
        ('"arousal", "dominance")', '"arousal", "dominance", "intensity")'),
        ('("emotion", "sentiment")', '("emotion", "sentiment", "tone")'),
    ],
    "configuration_mmer.py": [
        (
            "    mae_target: Literal[",
            '    tone_labels: list[str] | tuple[str, ...] = ("warm", "cold")\n'
            "    tone_class_weights: list[float | int] | None = None\n"
            "    mae_target: Literal[",
        )
    ],
}
SCRIPT = """
import json, sys
from pathlib import Path

sys.path.insert(1, "TESTS")
from conftest import real_input_config, real_input_processor
from modeling_mmer import MMERForEmotionRecognition, MMERTrainer
from modeling_mmer.corpora import load_corpora
from modeling_mmer.corpora.describe import describe
from modeling_mmer.plots import plot_timeline
from modeling_mmer.scoring import Scorer
from modeling_mmer.scoring.drawing import draw_table
from modeling_mmer.evaluation.figures import evaluate_split
from modeling_mmer.evaluation.predictions import write_predictions
from modeling_mmer.report.card import Provenance, write_card
from modeling_mmer.report.corpus import corpus_report
from modeling_mmer.report.tables import write_report
from modeling_mmer.training.arguments import RunArguments
from modeling_mmer.training.preparation import corpus_overrides
from modeling_mmer.training.settings import option_values

corpus = load_corpora("folder", "mine", emotion_labels=["neutral", "anger"], label_scale=(1, 5))
labels = {"emotion_labels": ["neutral", "anger"], "sentiment_labels": ["negative", "neutral", "positive"]}
labels["tone_labels"] = ["warm", "cold"]
config = real_input_config(**labels, **corpus_overrides(corpus, labels, "balanced"))
run = RunArguments(output_dir="out", max_steps=2, logging_steps=1, use_cpu=True, report_to="none", disable_tqdm=True,
                   per_device_train_batch_size=4, save_strategy="no", load_best_model_at_end=False)
model = MMERForEmotionRecognition(config)
trainer = MMERTrainer(model, run, train_dataset=corpus.splits["train"], eval_dataset=corpus.splits["validation"],
                      processing_class=real_input_processor())
trainer.train()
rows = corpus.splits["test"]
figures, predictions = evaluate_split(trainer, rows)
write_predictions(Path("predictions.parquet"), rows, predictions, config)
results = {"model": "m", "corpus": "mine", "seed": 0, "trainable_parameters": 1, "splits": {"test": figures}}
write_report("report.md", results)
write_card(Path("."), results, config, Provenance(log_history=trainer.state.log_history))
trainer.save_model("out")
scored = Scorer("out")({"text": ["so it is", "not at all"]})
scored = [dict(zip(scored, values)) | {"start": 0, "end": 1} for values in zip(*scored.values())]
drawn = {line.get_label() for panel in plot_timeline(scored).axes for line in panel.lines}
Path("seen.json").write_text(json.dumps({
    "log": trainer.state.log_history, "figures": figures, "corpus": corpus_report(describe(corpus)),
    "weights": config.tone_class_weights, "scored": scored, "table": draw_table(scored, 200), "drawn": sorted(drawn),
}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the script leaves where the package is one with a dimension `intensity` and a class task `tone`."""
    folder = tmp_path_factory.mktemp("new")
    shutil.copytree(REPOSITORY / "modeling_mmer", folder / "modeling_mmer", ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copytree(REPOSITORY / "model_cards", folder / "model_cards")
    for name, edits in EDITS.items():
        file = folder / "modeling_mmer/model" / name
        text = file.read_text()
        for old, new in edits:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        file.write_text(text)
    (folder / "mine").mkdir()
    words, lines = ["so it is", "not at all", "who knows", "go away", "come in"], ["text,emotion,Intensity,tone,split"]
    for i in range(24):
        split = "train" if i < 12 else "validation" if i < 18 else "test"
        intensity = "" if i == 20 else 1 + i % 5
        lines.append(
            f"{words[i % 5]} {i},{'angry' if i % 2 else 'neutral'},{intensity},{'warm' if i % 3 else 'cold'},{split}"
        )
    (folder / "mine/metadata.csv").write_text("\n".join(lines))
    done = run("-c", SCRIPT.replace("TESTS", str(REPOSITORY / "tests")), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_they_are_trained_and_logged(folder):
    seen = json.loads((folder / "seen.json").read_text())
    step = next(entry for entry in seen["log"] if "loss" in entry)
    assert step["loss_intensity"] > 0 and step["loss_tone"] > 0
    assert seen["weights"] == pytest.approx([12 / (2 * 8), 12 / (2 * 4)])  # eight of twelve are warm
    evaluation = next(entry for entry in seen["log"] if "eval_loss" in entry)
    assert -1 <= evaluation["eval_text_intensity_ccc"] <= 1 and 0 <= evaluation["eval_text_tone_ua"] <= 1


def test_their_figures_are_those_of_the_predictions(folder):
    figures = json.loads((folder / "seen.json").read_text())["figures"]["text"]
    table = pd.read_parquet(folder / "predictions.parquet")
    assert set(table["combination"]) == {"text"} and figures["labelled"]["intensity"] == 5 == len(table) - 1
    x, y = table.dropna(subset="reference_intensity")[["intensity", "reference_intensity"]].to_numpy().T
    expected = 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert figures["intensity_ccc"] == pytest.approx(expected, abs=1e-6)
    hits = table["tone"] == table["reference_tone"]
    assert figures["tone_ua"] == pytest.approx(hits.groupby(table["reference_tone"]).mean().mean())


def test_reports_and_card_have_them(folder):
    figures = json.loads((folder / "seen.json").read_text())["figures"]["text"]
    header, _, *rows = [line for line in (folder / "report.md").read_text().splitlines() if line.startswith("|")]
    assert header.rstrip(" |").endswith("Intensity CCC")
    row = next(line for line in rows if line.startswith("| text |"))
    assert row.rstrip(" |").endswith(f"{figures['intensity_ccc']:.3f} (n = 5)")
    card = (folder / "README.md").read_text()
    assert "name: CCC of intensity" in card and "name: UA of tone" in card
    assert "\n- Tone: warm, cold\n- Valence, arousal, dominance, intensity: numbers from 1.0 to 5.0\n" in card
    corpus = json.loads((folder / "seen.json").read_text())["corpus"]
    assert re.search(r"## Tone\n\n.*\n.*\n\| warm \| 8 \|", corpus) and re.search(
        r"\| intensity \| test \| 5 \|", corpus
    )


def test_results_of_the_scorer_have_them_in_table_and_plot(folder):
    seen = json.loads((folder / "seen.json").read_text())
    head, *lines = seen["table"].splitlines()
    assert [row["error"] for row in seen["scored"]] == ["", ""]
    assert head.split()[:6] == ["time", "emotion", "score", "val", "aro", "dom"] and head.split()[6] == "int"
    for row, line in zip(seen["scored"], lines, strict=True):
        assert row["error"] == "" and f"{row['intensity']:.1f}" in line and row["tone"] in ("warm", "cold")
    assert {"valence", "arousal", "dominance", "intensity"} <= set(seen["drawn"])
