"""A run does not resume the checkpoint of a run with other settings, and reports the differences. Paths and display are
not settings."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import REPOSITORY
from safetensors.torch import load_file

from modeling_mmer.commands import main
from modeling_mmer.corpora import load_corpora
from modeling_mmer.corpora.digests import content_digests
from modeling_mmer.training.fingerprint import difference, read_fingerprint

DEMO = REPOSITORY / "modeling_mmer/corpora/demo_data"


def options(folder: Path, **changed: object) -> list[str]:
    """Four steps on a copy of the demo corpus; `None` leaves an option out."""
    chosen = {
        **{"corpus": "folder", "corpus_dir": folder / "corpus", "output_dir": folder / "run"},
        **{"audio_encoder": folder / "encoders/whisper", "text_encoder": folder / "encoders/roberta"},
        **{"feature_cache": folder / "features", "audio_context": "trimmed", "hidden_size": 16, "max_steps": 4},
        **{"num_hidden_layers": 1, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps"},
        **{"save_steps": 2, "save_total_limit": 5, "learning_rate": 3e-3, "disable_tqdm": "true"},
    } | changed
    return [str(word) for name, value in chosen.items() if value is not None for word in (f"--{name}", value)]


@pytest.fixture(scope="module")
def folder(demo_encoders, tmp_path_factory) -> Path:
    """A corpus, encoders, and a run that is finished."""
    folder = tmp_path_factory.mktemp("fingerprint")
    shutil.copytree(DEMO, folder / "corpus")
    (folder / "encoders").symlink_to(demo_encoders)
    main(["train", *options(folder)])
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys, argv: list[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(["train", *argv])
    assert end.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"learning_rate": 1e-3, "seed": 1}, "learning_rate was 0.003 and is 0.001; seed was 42 and is 1"),
        ({"learning_rate": 1e-3, "resume_from_checkpoint": None}, "learning_rate was 0.003 and is 0.001"),
        ({"optim": "sgd"}, "optim was 'adamw_torch"),
        ({"adam_beta2": 0.9}, "adam_beta2 was 0.999 and is 0.9"),
        ({"label_map": "calm=neutral"}, "label_map was None and is ['calm=neutral']"),
        ({"cache_dtype": "bfloat16"}, "cache_dtype was 'float16' and is 'bfloat16'"),
        ({"dropout": 0.25}, "dropout was 0.3 and is 0.25"),
    ],
)
def test_another_run_s_folder_is_refused_and_left_as_it_is(folder, capsys, changed, told):
    before = contents(folder / "run")
    message = refused(capsys, options(folder, **({"resume_from_checkpoint": "true"} | changed)))
    assert told in message and str(folder / "run") in message and "--output_dir" in message
    assert contents(folder / "run") == before


def test_a_named_checkpoint_of_another_run_is_refused_in_a_new_folder(folder, tmp_path, capsys):
    named = {"resume_from_checkpoint": folder / "run/checkpoint-4", "output_dir": tmp_path / "new"}
    assert "max_steps was 4 and is 6" in refused(capsys, options(folder, **named, max_steps=6))
    assert not (tmp_path / "new").exists()


def test_other_rows_are_another_run(folder, tmp_path, capsys):
    shutil.copytree(folder / "corpus", tmp_path / "corpus")
    table = pd.read_csv(tmp_path / "corpus/metadata.csv")
    row = table.index[(table["split"] == "train") & table["text"].notna()][0]
    table.loc[row, "text"] += " indeed"
    table.to_csv(tmp_path / "corpus/metadata.csv", index=False)
    message = refused(capsys, options(folder, corpus_dir=tmp_path / "corpus", resume_from_checkpoint="true"))
    assert "content was" in message and "rows was" not in message


def test_places_display_and_workers_are_no_difference(folder, tmp_path):
    """The requeued command, with everything elsewhere, goes on from its checkpoint and ends as the whole run."""
    shutil.copytree(folder / "run/checkpoint-2", tmp_path / "run/checkpoint-2")
    shutil.copytree(folder / "corpus", tmp_path / "moved/corpus")
    shutil.copytree(folder / "encoders/whisper", tmp_path / "listener")
    elsewhere = {"corpus_dir": tmp_path / "moved/corpus", "audio_encoder": tmp_path / "listener"}
    elsewhere |= {"feature_cache": tmp_path / "features", "output_dir": tmp_path / "run"}
    shown = {"logging_steps": 1, "save_total_limit": 2, "dataloader_num_workers": 1}
    main(["train", *options(folder, resume_from_checkpoint="true", **elsewhere, **shown)])
    found, expected = (load_file(of / "run/model.safetensors") for of in (tmp_path, folder))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_a_checkpoint_of_unknown_settings_is_refused(folder, tmp_path, capsys):
    shutil.copytree(folder / "run/checkpoint-4", tmp_path / "run/checkpoint-4")
    state = json.loads((tmp_path / "run/checkpoint-4/trainer_state.json").read_text())
    del state["stateful_callbacks"]["Fingerprint"]
    (tmp_path / "run/checkpoint-4/trainer_state.json").write_text(json.dumps(state))
    message = refused(capsys, options(folder, output_dir=tmp_path / "run", resume_from_checkpoint="true"))
    assert "checkpoint-4 is from a run whose settings are not recorded" in message


def test_a_fingerprint_holds_no_place_and_no_token(folder):
    settings = read_fingerprint(folder / "run/checkpoint-4")["settings"]
    assert settings["rows"]["train"] > 0 and settings["mmer"] and settings["world_size"] == 1
    text = json.dumps(settings)
    assert str(folder) not in text and "token" not in settings


def test_the_digest_is_of_the_rows_and_their_order():
    corpus = load_corpora(["demo"], None, emotion_labels=["neutral", "happiness", "sadness", "anger"])
    one = content_digests(corpus)
    assert one == content_digests(corpus) and set(one) == set(corpus.splits) and len(set(one.values())) == len(one)
    corpus.splits["train"] = corpus.splits["train"].select(range(len(corpus.splits["train"]) - 1, -1, -1))
    again = content_digests(corpus)
    assert again["train"] != one["train"] and again["test"] == one["test"]


def test_a_difference_names_what_is_new_and_what_is_gone():
    assert difference({"a": 1, "b": [2]}, {"b": [2], "c": "x"}) == "a was 1 and is None; c was None and is 'x'"
    assert difference({"a": 1}, {"a": 1.0}) == ""
