"""Saved models load without the package and without a network, in all ways, and give the same outputs as before."""

import ast
import json
import os
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from conftest import REPOSITORY, randomize, real_input_config, real_input_processor
from isolated import LOADED, elsewhere, saved
from transformers import AutoModel, WhisperModel, pipeline

from modeling_mmer import MMERForEmotionRecognition, MMERProcessor
from modeling_mmer.corpora.demo import DEMO_FOLDER

AUDIO = DEMO_FOLDER / "audio" / "test_001.opus"
INPUTS = [{"audio": str(AUDIO)}, {"text": "I am so glad."}, {"audio": str(AUDIO), "text": "I am so glad."}]
ALLOWED = {"torch", "transformers", "numpy", "huggingface_hub"}


def flat(output) -> list[float]:
    if isinstance(output, dict):
        return [number for key in sorted(output) for number in flat(output[key])]
    if isinstance(output, list):
        return [number for item in output for number in flat(item)]
    return [output] if isinstance(output, int | float) else []


def light_folder(tmp_path) -> Path:
    config = real_input_config()
    torch.manual_seed(3)
    WhisperModel(config.audio_config).save_pretrained(tmp_path / "whisper")
    AutoModel.from_config(config.text_config).save_pretrained(tmp_path / "roberta")
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    encoders = str(tmp_path / "whisper"), str(tmp_path / "roberta")
    model = MMERForEmotionRecognition.from_audio_text_pretrained(*encoders, **sizes)
    return saved(model, tmp_path / "saved")


@pytest.fixture(params=["light", "self-contained", "trained", "checkpoint"])
def folder(request, tmp_path) -> Path:
    if request.param == "light":
        return light_folder(tmp_path)
    if request.param == "self-contained":
        torch.manual_seed(0)
        return saved(randomize(MMERForEmotionRecognition(real_input_config())), tmp_path / "saved")
    run, _ = request.getfixturevalue("trained")
    return run if request.param == "trained" else next(run.glob("checkpoint-*"))


@pytest.mark.slow
def test_every_way_of_loading_gives_the_same_outputs_elsewhere(folder, tmp_path):
    model, processor = MMERForEmotionRecognition.from_pretrained(folder).eval(), MMERProcessor.from_pretrained(folder)
    batch = processor(audio=[i.get("audio") for i in INPUTS], text=[i.get("text") for i in INPUTS])
    with torch.no_grad():
        logits, core = model(**batch).logits, model.model(**batch).last_hidden_state[:, 0]
    pipe = pipeline("multimodal-emotion-recognition", model=model, processor=processor)
    found = json.loads(elsewhere(LOADED, str(folder), json.dumps(INPUTS), folder=tmp_path / "elsewhere"))
    expected = {
        "AutoModel": ("MMERModel", core.tolist()),
        "AutoModelForAudioClassification": ("MMERForEmotionRecognition", logits.tolist()),
        "AutoModelForSequenceClassification": ("MMERForEmotionRecognition", logits.tolist()),
        # in the batches that it was run in there: other shapes of batch may round another way, beyond 1e-6
        "pipeline": ("MMERPipeline", pipe(INPUTS, batch_size=2)),
        "again": ("MMERPipeline", pipe(INPUTS)),
    }
    assert found.keys() == expected.keys()
    for way, (name, values) in expected.items():
        assert found[way][0] == name
        assert flat(found[way][1]) == pytest.approx(flat(values), abs=1e-6), way
    assert (folder / "model.safetensors").is_file() and not list(folder.glob("pytorch_model*"))


SIDE_BY_SIDE = """
import json, sys, torch
from transformers import AutoModelForAudioClassification, AutoProcessor, pipeline
folders, inputs, trust = sys.argv[1:3], [{"text": "I am so glad."}], {"trust_remote_code": True}
pipes = [pipeline(model=folder, **trust) for folder in folders]
models = [AutoModelForAudioClassification.from_pretrained(folder, **trust).eval() for folder in folders]
batch = AutoProcessor.from_pretrained(folders[0], **trust)(text=[i["text"] for i in inputs])
with torch.no_grad():
    logits = [model(**batch).logits.tolist() for model in models]
labels = [pipe(inputs)[0]["emotion"]["label"] for pipe in pipes]
deep = [sys.modules[type(model).__module__.rpartition(".")[0] + ".encoders"] for model in (*models, pipes[0].model)]
print(json.dumps([logits, labels, [getattr(module, "VERSION", "first") for module in deep]]))
"""


def test_exports_whose_folders_share_a_name_load_side_by_side(tmp_path):
    """Two folders named `final`, with other weights and code of another version, in one process."""
    folders, expected = [tmp_path / name / "final" for name in ("one", "two")], []
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        model = randomize(MMERForEmotionRecognition(real_input_config()))
        saved(model, folder)
        with torch.no_grad():
            expected.append(model(**real_input_processor()(text=["I am so glad."])).logits)
    negated = "_first = TaskHeads.forward\nTaskHeads.forward = lambda *a: {t: -v for t, v in _first(*a).items()}\n"
    for name, change in (("heads.py", negated), ("encoders.py", 'VERSION = "second"\n')):
        path = folders[1] / name
        path.write_text(f"{path.read_text(encoding='utf-8')}\n\n{change}", encoding="utf-8")
    logits, labels, versions = json.loads(elsewhere(SIDE_BY_SIDE, *map(str, folders), folder=tmp_path))
    expected[1] = -expected[1]
    torch.testing.assert_close(torch.tensor(logits), torch.stack(expected), atol=1e-5, rtol=1e-5)
    assert labels == [model.config.emotion_labels[one.argmax(-1)] for one in expected]
    assert versions == ["first", "second", "first"]


def imports_of(path: Path) -> list[tuple[int, str]]:
    """(relative level, module) of a file's imports, but those inside `try` or a function, which may be lacking."""
    found, waiting = [], list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
        elif isinstance(node, ast.ClassDef | ast.If):
            waiting += node.body
    return found


def test_the_files_of_a_checkpoint_import_only_what_everyone_has(tmp_path):
    torch.manual_seed(0)
    folder = saved(MMERForEmotionRecognition(real_input_config()), tmp_path / "saved")
    files = sorted(folder.glob("*.py"))
    names = {path.stem for path in files}
    assert {"modeling_mmer", "configuration_mmer", "processing_mmer", "pipeline_mmer"} <= names
    for path in files:
        assert path.read_text() == (REPOSITORY / "modeling_mmer/model" / path.name).read_text()
        for level, module in imports_of(path):
            assert module != "__future__", path.name
            if level:
                assert level == 1 and module in names, (path.name, module)
            else:
                top = module.split(".")[0]
                assert top in ALLOWED or top in sys.stdlib_module_names, (path.name, module)


def test_a_push_sends_a_folder_that_holds_its_code(tmp_path):
    torch.manual_seed(0)
    model, sent = MMERForEmotionRecognition(real_input_config()), set()

    def upload(self, working_dir, repo_id, files_timestamps, *_, **__):
        assert repo_id == "someone/mmer"
        sent.update(os.listdir(working_dir))

    with (
        patch("transformers.utils.hub.hf_api") as api,
        patch("transformers.utils.hub.create_and_tag_model_card"),
        patch("transformers.utils.hub.PushToHubMixin._upload_modified_files", upload),
    ):
        api.return_value.create_repo.return_value.repo_id = "someone/mmer"
        model.push_to_hub("someone/mmer")
        code = {path.name for path in (REPOSITORY / "modeling_mmer/model").glob("*_mmer.py")} - {"processing_mmer.py"}
        assert {"config.json", "model.safetensors", "encoders.py", "windows.py"} | code <= sent
        sent.clear()
        real_input_processor().push_to_hub("someone/mmer")
        assert {"processor_config.json", "tokenizer.json", "processing_mmer.py"} <= sent
