"""The model card: its figures are those of `results.json`, its snippets run, and unknown facts are left out."""

import json
import re
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, tiny_config
from isolated import elsewhere

from modeling_mmer.report.card import Provenance, write_card
from modeling_mmer.report.plots import plot_confusion, plot_training

DEMO_CARD = REPOSITORY / "model_cards" / "demo"
RESULTS = {
    "model": "runs/mine",
    "corpus": "mine",
    "seed": 3,
    "trainable_parameters": 12345,
    "splits": {
        "validation": {"audio": {"n": 5, "ua": 0.9}},
        "test": {
            "audio": {"n": 40, "ua": 0.25, "arousal_ccc": 0.5},
            "audio_text": {"n": 30, "ua": 0.625},
            "retrieval": {"n": 32, "audio_to_text": 0.5, "text_to_audio": 0.25},
        },
    },
}


def read(folder: Path) -> tuple[dict, str]:
    """The YAML and the text of a card."""
    _, head, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


def indexed(head: dict) -> dict[tuple[str, str], float]:
    """(combination, metric) → value in `model-index`."""
    (model,) = head["model-index"]
    found = [
        ((result["dataset"]["config"], metric["name"]), metric["value"])
        for result in model["results"]
        for metric in result["metrics"]
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def table(text: str) -> dict[str, list[str]]:
    """Row name → cells of the figures."""
    lines = re.findall(r"^\| (audio|text|audio \+ text) \|(.*)\|$", text, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in lines[:3]}


@pytest.mark.parametrize("name", ["of a run", "of an evaluation", "the committed one"])
def test_the_figures_are_those_of_the_results(name, trained, tmp_path):
    folder, _ = trained
    if name == "of an evaluation":
        from modeling_mmer.commands import main

        main(["eval", str(folder), "--corpus", "demo", "--output_dir", str(tmp_path), "--use_cpu"])
        folder = tmp_path
    if name == "the committed one":
        folder = DEMO_CARD
    head, text = read(folder)
    figures = json.loads((folder / "results.json").read_text())["splits"]["test"]
    index = indexed(head)
    assert len(index) == 18
    for combination in ("audio", "text", "audio_text"):
        measured = figures[combination]
        assert index[combination, "UA (macro recall of emotion)"] == measured["ua"]
        assert index[combination, "Macro F1 of emotion"] == measured["macro_f1"]
        assert index[combination, "CCC of arousal"] == measured["arousal_ccc"]
        expected = [str(measured["n"]), f"{100 * measured['ua']:.1f}"]
        expected += [f"{measured[f'{d}_ccc']:.3f}" for d in ("valence", "arousal", "dominance")]
        if labelled := measured.get("labelled"):  # the committed card is older
            counts = [labelled[task] for task in ("emotion", "valence", "arousal", "dominance")]
            expected[1:] = [f"{cell} (n = {n})" for cell, n in zip(expected[1:], counts, strict=True)]
        assert table(text)[combination.replace("_", " + ")] == expected
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert head["license"] == "apache-2.0" and head["language"] == "en"
    assert len(re.findall(r"!\[", text)) == 2
    assert re.findall(r"^# .*$", text, re.MULTILINE)[0] == f"# {head['model-index'][0]['name']}" != "# "
    parameters = json.loads((folder / "results.json").read_text())["trainable_parameters"]
    assert f"Trainable parameters: {parameters:,}" in text


@pytest.mark.slow
def test_the_snippets_of_a_card_run_where_the_package_is_not(trained, tmp_path):
    folder, _ = trained
    snippets = re.findall(r"```python\n(.*?)```", read(folder)[1], re.DOTALL)
    assert len(snippets) == 2 and all(json.dumps(str(folder)) in snippet for snippet in snippets)
    pipe, model = (elsewhere(snippet, folder=tmp_path) for snippet in snippets)
    assert re.search(r"'emotion': \{'label': '(neutral|happiness|sadness|anger)'", pipe)
    assert re.match(r"\['\w+', '\w+'\] tensor\(\[\d\.\d+, \d\.\d+\]\)", model)


def test_the_committed_card_is_of_the_template_as_it_is(trained):
    folder, _ = trained
    parts = [re.findall(r"^#+ .*$|```\w+$|\*\*.*?\*\*", read(f)[1], re.MULTILINE) for f in (folder, DEMO_CARD)]
    assert parts[0][1:] == parts[1][1:] and len(parts[0]) > 12
    assert read(DEMO_CARD)[0].keys() == read(folder)[0].keys()


def test_what_was_not_measured_or_is_not_known_is_absent(tmp_path):
    write_card(tmp_path, RESULTS, tiny_config(emotion_labels=["calm", "tense"], label_scale=[1, 5]), Provenance())
    head, text = read(tmp_path)
    assert indexed(head) == {
        ("audio", "UA (macro recall of emotion)"): 0.25,
        ("audio", "CCC of arousal"): 0.5,
        ("audio_text", "UA (macro recall of emotion)"): 0.625,
    }
    assert table(text)["text"] == ["–"] * 5
    assert head["license"] == "other" and "language" not in head and "base_model" not in head
    assert "Licence of the data: not stated" in text and "calm, tense" in text and "from 1 to 5" in text
    assert "![" not in text and ": None" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_what_changes_the_meaning_of_the_figures_stands_under_them(tmp_path):
    results = RESULTS | {"caveats": ["no split column: every row is in the split test", "speakers are shared"]}
    write_card(tmp_path, results, tiny_config(), Provenance(notices=["columns not used: id"]))
    figures, rest = read(tmp_path)[1].split("## How to use")
    assert re.search(
        r"\n\nRetrieval among 32: .*\n\nCaveats:\n\n- no split column: .*\n- speakers are shared\n\n", figures
    )
    assert "- columns not used: id\n" in rest and "shared" not in rest


def test_the_model_is_called_what_it_will_be_called_and_hub_encoders_are_named(tmp_path):
    config = tiny_config(audio_encoder_name_or_path="openai/whisper-medium", text_encoder_name_or_path=str(tmp_path))
    write_card(tmp_path, RESULTS, config, Provenance(), "someone/mmer")
    head, text = read(tmp_path)
    assert head["base_model"] == ["openai/whisper-medium"]
    assert text.count('"someone/mmer"') == 3 and "runs/mine" not in text
    assert "\n# mmer\n" in text and head["model-index"][0]["name"] == "mmer"


def test_pictures_are_drawn_of_what_is_there_and_are_the_same_again(tmp_path):
    matrix = {"labels": ["a", "b"], "rows": [[3, 1], [0, 0]]}
    log = [
        {"step": 1, "loss": 2.0},
        {"epoch": 1, "eval_loss": 1.0, "eval_audio_ua": 0.5, "eval_audio_arousal_ccc": 0.1},
    ]
    assert plot_confusion(tmp_path / "a.png", {"audio": {"confusion_matrix": matrix}, "text": {}})
    assert plot_confusion(tmp_path / "b.png", {"audio": {"confusion_matrix": matrix}})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert plot_training(tmp_path / "c.png", log, tiny_config())
    assert not plot_confusion(tmp_path / "d.png", {"audio": {"ua": 1.0}}) and not plot_training(
        tmp_path / "d.png", [], tiny_config()
    )
    assert not (tmp_path / "d.png").exists()


def test_a_push_does_not_write_over_the_card(tmp_path):
    from trainers import toy_trainer

    (tmp_path / "README.md").write_text("ours")
    toy_trainer(tmp_path).create_model_card(model_name="x")
    assert (tmp_path / "README.md").read_text() == "ours"
