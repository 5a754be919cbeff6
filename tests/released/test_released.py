"""The model that comes with the package: its files, its answers by the names of its encoders, and its card."""

import csv
import json
import re
import tomllib
from fnmatch import fnmatch
from functools import partial

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, real_path
from hub import offline, put
from safetensors import safe_open
from transformers import AutoModel, AutoModelForAudioClassification, AutoProcessor, pipeline

import modeling_mmer
from modeling_mmer import MMERConfig, MMERForEmotionRecognition
from modeling_mmer.commands import main

RELEASED = REPOSITORY / "modeling_mmer" / "released"
NAMES = {"openai/whisper-base": "whisper-base-encoder", "sentence-transformers/all-MiniLM-L6-v2": "minilm"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A cache of the hub with the two encoders under their names."""
    folders = {name: real_path("models", folder) for name, folder in NAMES.items()}
    cache = tmp_path_factory.mktemp("hub")
    for name, folder in folders.items():
        put(cache, name, folder)
    with offline(cache):
        yield cache


@pytest.fixture(scope="module")
def pipe(hub):
    return modeling_mmer.pipeline(str(RELEASED))


def metadata(corpus: str) -> list[dict[str, str]]:
    with open(real_path("data", corpus, "metadata.csv"), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def figures() -> dict:
    return json.loads((RELEASED / "figures.json").read_text(encoding="utf-8"))["corpora"]


def test_the_folder_is_light_and_has_weights_of_ours_alone():
    assert sum(path.stat().st_size for path in RELEASED.iterdir()) < 8e6
    assert not list(RELEASED.glob("*.py"))
    with safe_open(RELEASED / "model.safetensors", framework="pt") as weights:
        assert weights.keys() and not [name for name in weights.keys() if "encoders." in name]  # noqa: SIM118
    config = json.loads((RELEASED / "config.json").read_text())
    assert {config["audio_encoder_name_or_path"], config["text_encoder_name_or_path"]} == NAMES.keys()
    # The commit of the copies that it was trained on is not on the hub.
    assert not config.get("audio_encoder_revision") and not config.get("text_encoder_revision")


def test_the_weights_have_a_licence_apart_from_the_codes():
    licence = (RELEASED / "LICENSE").read_text(encoding="utf-8")
    assert "CC BY-NC-SA 4.0" in licence and "NonCommercial purposes" in licence
    assert (REPOSITORY / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")
    assert "license: cc-by-nc-sa-4.0" in (RELEASED / "README.md").read_text(encoding="utf-8").partition("\n---\n")[0]


def test_the_distribution_includes_the_folder():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["modeling_mmer"]
    for path in RELEASED.iterdir():
        assert any(fnmatch(path.relative_to(REPOSITORY / "modeling_mmer").as_posix(), p) for p in patterns), path
    assert "modeling_mmer/released/LICENSE" in project["project"]["license-files"]
    assert "CC-BY-NC-SA-4.0" in project["project"]["license"]


def test_it_answers_a_recording_a_text_and_both(pipe):
    row = next(row for row in metadata("ravdess") if (row["split"], row["emotion"]) == ("test", "angry"))
    recording = str(real_path("data", "ravdess", row["file_name"]))
    inputs = [{"audio": recording}, {"text": "I am so glad that we won!"}, {"audio": recording, "text": row["text"]}]
    outputs = pipe(inputs)
    assert [output["modalities"] for output in outputs] == [["audio"], ["text"], ["audio", "text"]]
    for output in outputs:
        assert output["emotion"]["label"] in MMERConfig.from_pretrained(RELEASED).emotion_labels
        assert 1 <= output["valence"] <= 5
    assert outputs[0]["emotion"]["label"] == "anger" and outputs[1]["emotion"]["label"] == "happiness"


@pytest.mark.parametrize("unnamed", [modeling_mmer.pipeline, partial(pipeline, "multimodal-emotion-recognition")])
def test_pipelines_take_it_where_no_model_is_named(pipe, unnamed):
    said = {"text": "I am so glad that we won!"}
    found, expected = unnamed(device="cpu")(said), pipe(said)
    assert found["emotion"]["scores"] == pytest.approx(expected["emotion"]["scores"], abs=1e-5)
    assert found["valence"] == pytest.approx(expected["valence"], abs=1e-5)


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForAudioClassification])
def test_the_auto_classes_load_it_from_the_installed_package(hub, auto):
    model = auto.from_pretrained(RELEASED)
    assert type(model).__module__.startswith("modeling_mmer.") and model.dtype == torch.float32
    assert type(AutoProcessor.from_pretrained(RELEASED)) is modeling_mmer.MMERProcessor


def test_a_model_that_starts_from_it_is_saved_with_its_code(tmp_path):
    MMERForEmotionRecognition.from_pretrained(RELEASED, with_encoders=False).save_pretrained(tmp_path)
    assert (tmp_path / "pipeline_mmer.py").is_file()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["auto_map"]["AutoModel"] == "modeling_mmer.MMERModel" and config["custom_pipelines"]


def test_the_card_has_the_recorded_figures_and_a_remeasurement_agrees(hub):
    """One class of one corpus: the recall of angry voices, counted here one recording at a time."""
    of_corpora = figures()
    card = (RELEASED / "README.md").read_text(encoding="utf-8")
    for name, of in of_corpora.items():
        for combination, tasks in of["combinations"].items():
            emotion = tasks["emotion"]
            cells = f"{combination.replace('_', ' + ')}: emotion | {emotion['n']} | {100 * emotion['value']:.1f} ["
            row = re.escape(f"| {cells}")
            assert re.search(row, card.partition(f"### {name}\n")[2].partition("\n### ")[0]), (name, combination)
    rows = [row for row in metadata("emodb") if row["split"] == "test"]
    labels = [row["emotion"] for row in rows if row["emotion"] in ("neutral", "happiness", "sadness", "anger")]
    assert of_corpora["emodb"]["combinations"]["audio"]["emotion"]["n"] == len(labels)
    model, processor = (
        MMERForEmotionRecognition.from_pretrained(RELEASED).eval(),
        AutoProcessor.from_pretrained(RELEASED),
    )
    hits = {label: [] for label in labels}
    for row in rows:
        if row["emotion"] in hits:
            with torch.no_grad():
                output = model(**processor(audio=[str(real_path("data", "emodb", row["file_name"]))]))
            hits[row["emotion"]].append(model.config.emotion_labels[int(output.logits.argmax())] == row["emotion"])
    ua = np.mean([np.mean(of_class) for of_class in hits.values()])
    assert ua == pytest.approx(of_corpora["emodb"]["combinations"]["audio"]["emotion"]["value"], abs=0.03)


def test_the_first_page_shows_what_it_answers(hub, capsys):
    page = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```\n(text  \(text\)\n.*?)```", page, re.DOTALL)
    assert 'mmer predict --text "I am so glad that we won."' in page
    with pytest.raises(SystemExit, match="^0$"):
        main(["predict", "--text", "I am so glad that we won."])
    printed = capsys.readouterr().out[: len(shown)]
    number = r"\d\.\d+"
    assert re.sub(number, "", printed) == re.sub(number, "", shown)
    found, expected = ([float(n) for n in re.findall(number, text)] for text in (printed, shown))
    assert found == pytest.approx(expected, abs=0.11)  # they are rounded
