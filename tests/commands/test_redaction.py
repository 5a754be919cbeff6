"""Command lines without secrets, and values in recipes: null, `~`, lists and mappings."""

import os
import shlex
from pathlib import Path

import pytest
import torch

from modeling_mmer.commands import main
from modeling_mmer.commands.arguments import StartArguments, parse, recipe_options
from modeling_mmer.redaction import command_line, redacted
from modeling_mmer.training.arguments import CorpusArguments, RunArguments

SECRET = "hf_abcdefghijklmnop"
PARSED = (CorpusArguments, StartArguments, RunArguments)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--hub_token", "s3cret", "--seed", "1"], ["--hub_token", "***", "--seed", "1"]),
        (["--hub-token=s3cret"], ["--hub-token=***"]),
        (["--wandb_api_key", "s3cret", "more"], ["--wandb_api_key", "***", "***"]),
        (["--password=s3cret=", "WANDB_API_KEY=s3cret"], ["--password=***", "WANDB_API_KEY=***"]),
        (["HF_TOKEN=s3cret", "train.py"], ["HF_TOKEN=***", "train.py"]),
        (["--model", f"https://me:{SECRET}@hub/x", SECRET], ["--model", "https://***@hub/x", "***"]),
        (["--column_map", "text=tokens", "--include_num_input_tokens_seen", "all"], None),
        (["--label_map", "calm=neutral", "--corpus_dir=a/b"], None),
    ],
)  # fmt: skip
def test_secrets_are_hidden_and_nothing_else(words, shown):
    assert redacted(words) == (words if shown is None else shown)


def test_a_command_can_be_typed_again():
    words = ["--corpus_dir", "my corpus", "--label_map", "it's=neutral", "--hub_token", SECRET]
    line = command_line(["/usr/bin/mmer", "reproduce", *words])
    assert shlex.split(line) == ["mmer", "reproduce", *words[:-1], "***"]


def test_no_token_stays_in_the_arguments_that_the_trainer_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    (run,) = parse((RunArguments,), ["--hub_token", SECRET, "--output_dir", str(tmp_path)], "test")
    torch.save(run, tmp_path / "training_args.bin")
    assert SECRET.encode() not in (tmp_path / "training_args.bin").read_bytes()
    assert os.environ["HF_TOKEN"] == SECRET  # where the hub's library looks


def test_an_unknown_option_is_not_told_with_its_secret(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--corpus", "demo", "--hub_tokn", SECRET, "--my_api_key=s3cret"])
    error = capsys.readouterr().err
    assert "--hub_tokn" in error and SECRET not in error and "s3cret" not in error


def recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_null_is_an_option_that_was_not_given(tmp_path):
    path = recipe(
        tmp_path, "corpus: demo\nfeature_cache: null\nlabel_map: ~\nsave_total_limit:\nmodel: null\nseed: 3\n"
    )
    corpus, start, run = parse(PARSED, [str(path)], "test")
    assert corpus.feature_cache is None and corpus.label_map is None and start.model is None
    assert run.save_total_limit == 1 and run.seed == 3  # the default stays
    with pytest.raises(SystemExit, match="empty entry in the list of corpus_dir"):
        recipe_options(recipe(tmp_path, "corpus_dir: [a, null]\n"), "test")


def test_lists_truth_values_numbers_and_mappings_keep_their_types(tmp_path):
    text = "corpus: [demo, folder]\nlabel_scale: [-1, 1.5]\nself_contained: true\nload_best_model_at_end: false\n"
    text += "learning_rate: 1e-4\nlr_scheduler_kwargs: {num_cycles: 2}\nfold: 1\n"
    corpus, start, run = parse(PARSED, [str(recipe(tmp_path, text))], "test")
    assert corpus.corpus == ["demo", "folder"] and corpus.label_scale == [-1, 1.5] and corpus.fold == "1"
    assert start.self_contained is True and run.load_best_model_at_end is False
    assert run.learning_rate == 1e-4 and run.lr_scheduler_kwargs == {"num_cycles": 2}


def test_the_home_folder_in_every_path_of_a_recipe_and_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "recipe.yaml").write_text(
        "corpus: [folder, folder]\ncorpus_dir: [~/one, two]\nfeature_cache: ~/cache\n"
    )
    given = ["--audio_encoder=~/whisper", "--text_encoder", "~/roberta", "--model=~/model", "--output_dir", "~/out"]
    corpus, start, run = parse(PARSED, ["~/recipe.yaml", *given, "--label_map", "a=~b"], "test")
    assert corpus.corpus_dir == [f"{tmp_path}/one", "two"] and corpus.feature_cache == f"{tmp_path}/cache"
    assert (start.audio_encoder, start.text_encoder) == (f"{tmp_path}/whisper", f"{tmp_path}/roberta")
    assert start.model == f"{tmp_path}/model" and run.output_dir == f"{tmp_path}/out"
    assert corpus.label_map == ["a=~b"]


@pytest.mark.parametrize("command", ["eval", "export"])
def test_the_home_folder_in_the_name_of_a_model(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    more = ["--corpus", "demo"] if command == "eval" else []
    with pytest.raises(SystemExit):
        main([command, "~/nowhere", *more, "--output_dir", str(tmp_path / "out")])
    assert f"{tmp_path}/nowhere" in capsys.readouterr().err
