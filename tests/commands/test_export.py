"""`mmer export`: the folder has the requested form and gives the same outputs in another process, or is not written."""

import json
from unittest.mock import Mock, create_autospec

import pytest
import torch
from conftest import randomize, real_input_config, real_input_processor
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalTokenNotFoundError
from processes import run
from safetensors.torch import load_file, save_file
from transformers import AutoModel, WhisperModel, pipeline

from modeling_mmer import MMERForEmotionRecognition
from modeling_mmer.commands import export, main

CARD = """---
model-index:
- name: whole
  results:
  - dataset:
      name: whole
---
<!-- model: runs/whole -->

# whole

On the corpus `whole`: model="runs/whole"
![](curves.png)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A self-contained checkpoint with a card."""
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(0)
    randomize(MMERForEmotionRecognition(real_input_config())).save_pretrained(folder)
    real_input_processor().save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    (folder / "curves.png").write_bytes(b"a picture")
    (folder / "results.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """A checkpoint that names its encoders, two folders."""
    folder, config = tmp_path_factory.mktemp("light"), real_input_config()
    torch.manual_seed(3)
    WhisperModel(config.audio_config).save_pretrained(folder / "whisper")
    AutoModel.from_config(config.text_config).save_pretrained(folder / "roberta")
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    encoders = str(folder / "whisper"), str(folder / "roberta")
    MMERForEmotionRecognition.from_audio_text_pretrained(*encoders, **sizes).save_pretrained(folder / "model")
    real_input_processor().save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(autouse=True)
def quickly(request, monkeypatch):
    """Exports are verified in processes that need not import the libraries; where they are the point, as users do."""
    if "fresh" not in request.keywords:
        monkeypatch.setattr(export, "subprocess", Mock(run=lambda command, cwd, **_: run(*command[1:], cwd=cwd)))


def run_export(model, folder, *options):
    main(["export", str(model), "--output_dir", str(folder), *options])
    return load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())


def hub(monkeypatch, **failures):
    """A stand-in for the hub's client with its very signatures; nothing is sent."""
    api = create_autospec(HfApi, instance=True)
    api.create_repo.return_value.repo_id = "someone/mmer"
    api.upload_folder.return_value.commit_url = "the commit"
    for name, error in failures.items():
        getattr(api, name).side_effect = error
    monkeypatch.setattr(export, "HfApi", lambda: api)
    return api


# ── what is written ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fresh
def test_an_export_as_it_is_holds_the_same_weights_and_the_card(whole, tmp_path, capsys):
    weights, config = run_export(whole, tmp_path / "out")
    expected = load_file(whole / "model.safetensors")
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert config["dtype"] == "float32" and config["audio_encoder_name_or_path"] is None
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"README.md", "curves.png", "results.json", "pipeline_mmer.py", "processor_config.json"} <= names
    assert {"handler.py", "requirements.txt"} <= names
    renamed = CARD.replace("runs/whole", "out").replace("# whole", "# out").replace("- name: whole", "- name: out")
    assert (tmp_path / "out" / "README.md").read_text() == renamed
    assert not [name for name in names if "verification" in name]
    assert "self-contained" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_for_inference_in_half_precision(whole, bfloat16_attention, tmp_path, capsys):
    weights, config = run_export(whole, tmp_path / "out", "--inference_only", "--dtype", "bfloat16")
    assert config["dtype"] == "bfloat16"
    assert all(w.dtype == torch.bfloat16 for w in weights.values() if w.is_floating_point())
    assert not [name for name in weights if name.startswith(("decoders.", "contrastive_head."))]
    assert "embeddings" in capsys.readouterr().out
    pipe = pipeline("multimodal-emotion-recognition", model=str(tmp_path / "out"), dtype="auto", trust_remote_code=True)
    assert set(pipe({"text": "I won."})["emotion"]["scores"]) == set(pipe.model.config.emotion_labels)


def test_a_light_model_becomes_self_contained(light, tmp_path, capsys):
    weights, config = run_export(light, tmp_path / "light")
    assert "only be loaded on this machine" in capsys.readouterr().out
    assert config["audio_encoder_name_or_path"] and not [name for name in weights if "encoders." in name]
    weights, config = run_export(light, tmp_path / "whole", "--form", "self_contained")
    assert config["audio_encoder_name_or_path"] is None
    encoder = load_file(light.parent / "roberta" / "model.safetensors")
    word = "embeddings.word_embeddings.weight"
    assert torch.equal(weights[f"model.encoders.text.encoder.{word}"], encoder[word])


def test_a_self_contained_model_becomes_light_again_if_the_encoders_are_its_own(light, whole, tmp_path, capsys):
    weights, _ = run_export(light, tmp_path / "first")
    run_export(light, tmp_path / "whole", "--form", "self_contained")
    names = ["--audio_encoder", str(light.parent / "whisper"), "--text_encoder", str(light.parent / "roberta")]
    again, config = run_export(tmp_path / "whole", tmp_path / "again", "--form", "light", *names)
    assert again.keys() == weights.keys() and all(torch.equal(again[name], weights[name]) for name in weights)
    assert config["text_encoder_name_or_path"] == str(light.parent / "roberta")
    with pytest.raises(SystemExit):
        run_export(whole, tmp_path / "other", "--form", "light", *names)
    assert "does not have the weights" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_the_card_of_a_run_goes_with_its_checkpoints(whole, tmp_path):
    (tmp_path / "run").mkdir()
    checkpoint = tmp_path / "run" / "checkpoint-7"
    whole.rename(checkpoint)
    try:
        for name in ("README.md", "curves.png"):
            (checkpoint / name).rename(tmp_path / "run" / name)
        run_export(checkpoint, tmp_path / "out")
        assert (tmp_path / "out" / "README.md").is_file() and (tmp_path / "out" / "curves.png").is_file()
    finally:
        for name in ("README.md", "curves.png"):
            (tmp_path / "run" / name).rename(checkpoint / name)
        checkpoint.rename(whole)


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_that_gives_other_outputs_is_not_kept(whole, tmp_path, monkeypatch, capsys):
    saved = MMERForEmotionRecognition.save_pretrained

    def spoilt(self, folder, **kwargs):
        saved(self, folder, **kwargs)
        weights = load_file(folder / "model.safetensors")
        weights["heads.emotion.3.bias"] += 1e-3
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(MMERForEmotionRecognition, "save_pretrained", spoilt)
    with pytest.raises(SystemExit) as end:
        run_export(whole, tmp_path / "out")
    assert end.value.code == 1 and "outputs of the export differ" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_load_is_not_kept(whole, tmp_path, monkeypatch, capsys):
    saved = MMERForEmotionRecognition.save_pretrained

    def spoilt(self, folder, **kwargs):
        saved(self, folder, **kwargs)
        (folder / "embedding.py").unlink()

    monkeypatch.setattr(MMERForEmotionRecognition, "save_pretrained", spoilt)
    with pytest.raises(SystemExit):
        run_export(whole, tmp_path / "out")
    assert "cannot be loaded in a fresh process" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_bad_input_ends_with_a_message(whole, light, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    for model, options, says in (
        (whole, ["--output_dir", str(tmp_path / "full")], "already exists"),
        (whole, ["--output_dir", str(tmp_path / "new"), "--form", "light"], "does not store its encoders' names"),
        (light, ["--output_dir", str(tmp_path / "new"), "--push", "someone/mmer"], "--form self_contained"),
        (tmp_path / "nowhere", ["--output_dir", str(tmp_path / "new")], "nowhere"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["export", str(model), *options])
        assert end.value.code == 1 and says in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export", "--output_dir", "somewhere"])
    assert not (tmp_path / "new").exists()


# ── the hub ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_push_creates_the_repository_and_uploads_the_folder_once(whole, tmp_path, monkeypatch, capsys):
    api = hub(monkeypatch)
    run_export(whole, tmp_path / "out", "--push", "someone/mmer", "--private", "--revision", "v1")
    api.create_repo.assert_called_once_with("someone/mmer", private=True, exist_ok=True)
    api.create_branch.assert_called_once_with("someone/mmer", branch="v1", exist_ok=True)
    (upload,) = api.upload_folder.call_args_list
    assert upload.kwargs["folder_path"] == tmp_path / "out" and upload.kwargs["revision"] == "v1"
    assert "the commit" in capsys.readouterr().out
    assert 'model="someone/mmer"' in (tmp_path / "out" / "README.md").read_text()


def test_without_a_token_the_export_stays_and_the_remedy_is_named(whole, tmp_path, monkeypatch, capsys):
    hub(monkeypatch, create_repo=LocalTokenNotFoundError("no token"))
    with pytest.raises(SystemExit) as end:
        run_export(whole, tmp_path / "out", "--push", "someone/mmer")
    assert end.value.code == 1 and "hf auth login" in capsys.readouterr().err
    assert (tmp_path / "out" / "model.safetensors").is_file()
