"""`--help`: options are grouped by subject, and a command has only the options that it uses."""

import re
from dataclasses import fields

import pytest

from modeling_mmer.commands import main
from modeling_mmer.commands.arguments import ModelArguments, parse
from modeling_mmer.commands.eval import EvaluationArguments
from modeling_mmer.training.arguments import CorpusArguments, RunArguments, SourceArguments


def help_of(capsys, *command: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def explained(text: str) -> list[str]:
    """The options with a paragraph of their own."""
    return re.findall(r"^  --(\w+)", text, re.MULTILINE)


def test_training_explains_what_most_runs_touch_by_subject_and_names_the_rest(capsys):
    text = help_of(capsys, "train")
    groups = re.findall(r"^(\w.*):$", text, re.MULTILINE)
    assert groups[1:] == ["the corpus", "the initial model", "the model", "the run"]
    options = explained(text)
    assert len(options) == len(set(options)) and len(text.splitlines()) < 300
    assert {"corpus", "column_map", "audio_encoder", "dropout", "learning_rate", "seed"} <= set(options)
    rest = set(re.findall(r"--(\w+)", text.partition("Also all other options")[2]))
    every = {f.name for of_class in (CorpusArguments, ModelArguments, RunArguments) for f in fields(of_class)}
    assert rest >= {"adam_beta1", "optim"} and not rest & set(options)
    assert every <= rest | set(options)


def test_every_option_of_the_model_is_explained(capsys):
    text = help_of(capsys, "train")
    for f in fields(ModelArguments):
        assert re.search(rf"^  --{f.name}( \S+| \S+ …)?\s+[\w(]", text, re.MULTILINE), f.name


def test_an_evaluation_offers_what_it_reads_and_refuses_the_rest(capsys):
    text = help_of(capsys, "eval")
    offered = set(explained(text))
    assert {"corpus", "split", "training_rows", "per_device_eval_batch_size", "bf16", "use_cpu"} <= offered
    of_training = {"optim", "learning_rate", "num_train_epochs", "save_steps", "eval_strategy", "push_to_hub"}
    assert not of_training & set(re.findall(r"--(\w+)", text))
    with pytest.raises(SystemExit):
        parse((CorpusArguments, EvaluationArguments), ["--corpus", "demo", "--optim", "sgd"], "mmer eval")
    assert "--optim" in capsys.readouterr().err


def test_what_an_evaluation_is_told_reaches_the_trainer(tmp_path):
    options = ["--corpus", "demo", "--output_dir", str(tmp_path), "--per_device_eval_batch_size", "3", "--seed", "7"]
    _, evaluation = parse((CorpusArguments, EvaluationArguments), [*options, "--use_cpu"], "mmer eval")
    run = evaluation.for_trainer()
    assert (run.output_dir, run.per_device_eval_batch_size, run.seed, run.use_cpu) == (str(tmp_path), 3, 7, True)
    assert run.eval_strategy == "no" and run.save_strategy == "no" and run.remove_unused_columns is False


@pytest.mark.parametrize("command", [("corpus",), ("corpus", "describe")])
def test_the_corpus_command_explains_its_options(command, capsys):
    text = help_of(capsys, *command)
    assert {f.name for f in fields(SourceArguments)} | {"output_dir", "emotion_labels"} == set(explained(text))
    assert "counts, durations, labels" in text
