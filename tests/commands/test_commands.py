"""`train.py` and `eval.py` as run by a user: their outputs, and errors for invalid input."""

import json
import re
from dataclasses import fields

import pandas as pd
import pytest
import torch
import yaml
from conftest import REPOSITORY, demo_options, real_input_processor, run, tiny_config, tiny_model
from safetensors.torch import load_file

from modeling_mmer import MMERForEmotionRecognition, MMERProcessor
from modeling_mmer.commands import main
from modeling_mmer.commands.arguments import ModelArguments, StartArguments, explicit_options, parse, recipe_options
from modeling_mmer.commands.reproduce import ARGUMENTS as REPRODUCE_ARGUMENTS
from modeling_mmer.commands.train import ARGUMENTS as TRAIN_ARGUMENTS
from modeling_mmer.commands.train import fine_tuning_overrides, trained_model
from modeling_mmer.corpora import load_corpora
from modeling_mmer.training.arguments import RunArguments
from modeling_mmer.training.preparation import balanced_weights, build_trainer
from modeling_mmer.training.presets import PRESETS

RECIPES = sorted((REPOSITORY / "recipes").glob("*.yaml"))


# ── what a run leaves ───────────────────────────────────────────────────────────────────────────────────────────────


def test_training_writes_a_model_that_loads_results_and_a_report(trained):
    folder, printed = trained
    results = json.loads((folder / "results.json").read_text())
    assert results["corpus"] == "demo" and results["seed"] == 42
    assert set(results["splits"]) == {"validation", "test"}
    test = results["splits"]["test"]
    for combination, n in (("audio", 66), ("text", 66), ("audio_text", 60)):
        assert test[combination]["n"] == n
        assert {"ua", "macro_f1", "sentiment_ua", "valence_ccc", "arousal_ccc", "dominance_ccc"} <= set(
            test[combination]
        )
    model = MMERForEmotionRecognition.from_pretrained(folder)
    trainable = sum(p.numel() for name, p in model.named_parameters() if "encoders." not in name)
    assert results["trainable_parameters"] == trainable
    assert f"{trainable:,}" in printed
    (caveat,) = [caveat for caveat in results["caveats"] if caveat.startswith("synthetic")]
    assert f"- {caveat}" in printed.split("audio + text")[-1]  # under the table, not among what scrolled away
    assert f"- {caveat}" in (folder / "report.md").read_text() and f"- {caveat}" in (folder / "README.md").read_text()
    assert (folder / "report.md").read_text().count(f"{100 * test['audio']['ua']:.1f}") >= 1
    assert f"{100 * test['audio_text']['ua']:.1f}" in printed


def test_evaluating_a_checkpoint_gives_the_figures_of_its_training(trained, tmp_path):
    folder, _ = trained
    done = run("eval.py", str(folder), "--corpus", "demo", "--output_dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    after_training = json.loads((folder / "results.json").read_text())["splits"]["test"]
    found = json.loads((tmp_path / "results.json").read_text())["splits"]["test"]
    for combination in ("audio", "text", "audio_text"):
        for name in ("n", "ua", "macro_f1", "sentiment_ua"):
            assert found[combination][name] == pytest.approx(after_training[combination][name], abs=0.02), name
        for name in ("valence_ccc", "arousal_ccc", "dominance_ccc"):
            # the training read float16 states from its cache
            assert found[combination][name] == pytest.approx(after_training[combination][name], abs=5e-3), name
    assert set(found["collapse"]) == {"audio", "text"}
    assert all(found["collapse"][m][place] > 0 for m in ("audio", "text") for place in ("input", "output"))


def test_predictions_belong_to_their_utterances_and_explain_the_figures(trained, tmp_path):
    folder, _ = trained
    done = run("eval.py", str(folder), "--corpus", "demo", "--split", "validation", "--output_dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    figures = json.loads((tmp_path / "results.json").read_text())["splits"]["validation"]
    metadata = pd.read_csv(REPOSITORY / "modeling_mmer/corpora/demo_data/metadata.csv").set_index("utterance_id")
    assert table.groupby("combination").size().to_dict() == {
        c: figures[c]["n"] for c in ("audio", "text", "audio_text")
    }
    references = table.reference_emotion.fillna("unlabelled")
    assert references.tolist() == metadata.emotion.fillna("unlabelled")[table.utterance_id].tolist()
    for row in table.to_dict("records"):
        probabilities = {name: row[f"emotion_{name}"] for name in ("neutral", "happiness", "sadness", "anger")}
        assert sum(probabilities.values()) == pytest.approx(1)
        assert max(probabilities, key=probabilities.get) == row["emotion"]
    rated = table[(table.combination == "audio") & table.reference_emotion.notna()]
    recalls = [(group.emotion == emotion).mean() for emotion, group in rated.groupby("reference_emotion")]
    assert figures["audio"]["ua"] == pytest.approx(sum(recalls) / len(recalls))
    confusion = figures["audio"]["confusion_matrix"]
    assert sum(map(sum, confusion["rows"])) == len(rated)


# ── fine-tuning ─────────────────────────────────────────────────────────────────────────────────────────────────────

TWO_CLASSES = ["--emotion_labels", "low", "high"]
TWO_CLASSES += ["--label_map", "neutral=low", "sadness=low", "happiness=high", "anger=high"]


def test_a_checkpoint_is_fine_tuned_to_other_labels(trained, demo_encoders, tmp_path):
    """One short epoch at a tiny rate: the new head learns, and the rest stays near what it was trained to be."""
    folder, _ = trained
    options = ["--feature_cache", str(demo_encoders / "features"), "--output_dir", str(tmp_path), *TWO_CLASSES]
    options += ["--num_train_epochs", "1", "--learning_rate", "1e-3", "--lambda_mae", "0"]
    done = run("train.py", "--corpus", "demo", "--model", str(folder), *options)
    assert done.returncode == 0, done.stderr
    before, after = (MMERForEmotionRecognition.from_pretrained(f) for f in (folder, tmp_path))
    assert after.config.emotion_labels == ["low", "high"]
    expected = before.config.to_dict() | {
        "emotion_labels": ["low", "high"],
        "id2label": {0: "low", 1: "high"},
        "label2id": {"low": 0, "high": 1},
        "lambda_mae": 0,
        "_name_or_path": str(tmp_path),
    }
    assert after.config.to_dict() == expected  # no default in place of what the checkpoint says
    figures = json.loads((tmp_path / "results.json").read_text())["splits"]["test"]
    assert figures["audio_text"]["ua"] > 0.7
    trained_before = before.model.transformer.state_dict()
    for name, weight in after.model.transformer.state_dict().items():
        assert torch.nn.functional.cosine_similarity(weight.flatten(), trained_before[name].flatten(), 0) > 0.7, name


def test_fine_tuning_starts_from_the_checkpoints_weights(trained):
    folder, _ = trained
    start = StartArguments(model=str(folder))
    overrides = fine_tuning_overrides(start, {}, {"emotion_labels": ["low", "high"]})
    model, _ = trained_model(start, overrides)
    stored = load_file(folder / "model.safetensors")
    found = model.state_dict()
    renewed = {"heads.emotion.3.weight", "heads.emotion.3.bias"}
    assert stored.keys() == found.keys()
    for name in stored.keys() - renewed:
        assert torch.equal(found[name], stored[name]), name
    assert found["heads.emotion.3.weight"].shape[0] == 2


def test_what_a_checkpoint_cannot_be_fine_tuned_to_is_refused(trained, demo_encoders, tmp_path, capsys):
    folder, _ = trained
    partial = tmp_path / "partial"
    model = MMERForEmotionRecognition.from_pretrained(folder)
    model.decoders = None
    model.save_pretrained(partial)
    MMERProcessor.from_pretrained(folder).save_pretrained(partial)
    for options, says in (
        (["--model", str(folder), "--intermediate_size", "16"], "size of the model"),
        (["--model", str(folder), "--text_encoder", str(demo_encoders / "roberta")], "leave out --text_encoder"),
        (["--model", str(partial)], "--lambda_mae 0"),
        (["--model", str(tmp_path / "nowhere")], "nowhere"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["train", "--corpus", "demo", "--output_dir", str(tmp_path / "run"), *options])
        assert end.value.code == 1
        assert re.search(says, capsys.readouterr().err)


# ── options ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_parses_and_says_something(recipe):
    if recipe.stem.startswith("reproduce_"):
        *_, run_arguments = parse(REPRODUCE_ARGUMENTS, [str(recipe)], "mmer reproduce")
        assert run_arguments.output_dir == f"docs/tables/{recipe.stem.removeprefix('reproduce_')}"
    else:
        *_, run_arguments = parse(TRAIN_ARGUMENTS, [str(recipe)], "mmer train")
        assert run_arguments.output_dir == f"runs/{recipe.stem}"


def test_options_win_over_the_recipe_and_the_recipe_over_the_preset(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"corpus": "demo", "preset": "paper", "dropout": 0.2, "num_hidden_layers": 4}))
    corpus, _, model, _ = parse(TRAIN_ARGUMENTS, [str(recipe), "--dropout", "0.1"], "mmer train")
    assert corpus.corpus == ["demo"]
    assert (model.dropout, model.num_hidden_layers, model.lambda_mae) == (0.1, 4, 10)
    *_, model, _ = parse(TRAIN_ARGUMENTS, [str(recipe), "--preset", "recommended"], "mmer train")
    assert model.dropout == 0.2 and model.lambda_mae == PRESETS["recommended"]["lambda_mae"]


def test_a_preset_names_options_alone_and_the_papers_is_the_defaults():
    options = {f.name: f for of_class in (ModelArguments, RunArguments) for f in fields(of_class)}
    assert all(preset.keys() <= options.keys() for preset in PRESETS.values())
    assert {name: options[name].default for name in PRESETS["paper"]} == PRESETS["paper"]
    assert PRESETS["paper"].keys() >= PRESETS["recommended"].keys()


def test_training_is_as_recommended_and_the_tables_are_the_papers_unless_asked():
    for arguments, command, preset in (
        (TRAIN_ARGUMENTS, "train", "recommended"),
        (REPRODUCE_ARGUMENTS, "reproduce", "paper"),
    ):
        for asked, expected in (([], preset), (["--preset", "paper"], "paper"), (["--preset=recommended"], None)):
            *_, model, run = parse(arguments, ["--corpus", "demo", *asked], f"mmer {command}")
            for name, value in PRESETS[expected or "recommended"].items():
                assert getattr(model, name, getattr(run, name, None)) == value, (command, asked, name)


def test_an_unknown_preset_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse(TRAIN_ARGUMENTS, ["--corpus", "demo", "--preset", "best"], "mmer train")
    assert "invalid choice: 'best'" in capsys.readouterr().err


def test_a_preset_changes_nothing_of_a_checkpoint_to_start_from(trained):
    words = ["--corpus", "demo", "--model", str(trained[0]), "--preset", "recommended"]
    _, start, model, _ = parse(TRAIN_ARGUMENTS, words, "mmer train")
    overrides = fine_tuning_overrides(start, explicit_options(words, start), explicit_options(words, model))
    assert not overrides.keys() & PRESETS["recommended"].keys()


def test_recipes_find_the_test_data_through_the_environment(monkeypatch):
    monkeypatch.setenv("MMER_TEST_DATA", "/some/where")
    assert "/some/where/data/spoken" in recipe_options(REPOSITORY / "recipes" / "spoken.yaml", "mmer train")
    monkeypatch.delenv("MMER_TEST_DATA")
    beside = REPOSITORY.parent / "shared" / "data" / "spoken"
    assert str(beside) in recipe_options(REPOSITORY / "recipes" / "spoken.yaml", "mmer train")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--corpus", "demo", "--no_such_option", "1"], "no_such_option"),
        (["--corpus", "demo", "--position_type", "relative"], "position_type"),
        ([], "--corpus"),
        (["--corpus", "nowhere"], "nowhere"),
        (["--corpus", "folder", "--corpus_dir", "no/such/folder"], "no/such/folder"),
        (["--corpus", "demo", "--label_map", "calm"], "--label_map"),
        (["--corpus", "demo", "--audio_encoder", "no/such/encoder"], "no/such/encoder"),
        (["--corpus", "demo", "--contrastive_form", "ratio", "--contrastive_projection", "false"], "ratio"),
        (["--corpus", "demo", "--max_frames_per_batch", "0"], "--max_frames_per_batch"),
        (["--corpus", "demo", "--resume_from_checkpoint", "no/such/checkpoint"], "no/such/checkpoint"),
        (["--corpus", "demo", "--feature_cache", ""], "--feature_cache is empty"),
        (["--corpus", "demo", "--model="], "--model is empty"),
        (["--corpus", "demo", "--learning_rate", "nan"], "--learning_rate must be"),
        (["--corpus", "demo", "--per_device_eval_batch_size", "0"], "--per_device_eval_batch_size must be"),
        (["--corpus", "folder", "--corpus_dir", ""], "--corpus_dir is empty"),
        (["missing.yaml"], "missing.yaml"),
    ],
)
def test_bad_input_ends_with_a_message_and_no_traceback(options, says, demo_encoders, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if "--corpus" in options and "--audio_encoder" not in options:
        options = [*demo_options(demo_encoders, tmp_path), *options]
    with pytest.raises(SystemExit) as ended:
        main(["train", *options])
    message = capsys.readouterr().err + str(ended.value.code)
    assert ended.value.code not in (0, None)
    assert says in message and "Traceback" not in message
    assert len(message.splitlines()) < 6, "a message that nobody finds"


def test_an_unknown_recipe_key_is_an_error_that_names_it(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("corpus: demo\nlearning_rat: 0.1\n")
    with pytest.raises(SystemExit) as ended:
        main(["train", str(recipe)])
    assert ended.value.code != 0
    assert "learning_rat" in capsys.readouterr().err


def test_eval_needs_a_model_that_exists():
    for options in ((), ("--corpus", "demo"), ("no/such/model", "--corpus", "demo")):
        done = run("eval.py", *options)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr and done.stderr.strip()


def test_the_test_split_is_neither_trained_on_nor_selected_by(tmp_path):
    corpus = load_corpora(["demo"], emotion_labels=tiny_config().emotion_labels)
    model, run = tiny_model(), RunArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    trainer = build_trainer(model, run, corpus.splits, real_input_processor(), None)
    for dataset, split in ((trainer.train_dataset, "train"), (trainer.eval_dataset, "validation")):
        assert dataset["utterance_id"] == corpus.splits[split]["utterance_id"]
    assert run.load_best_model_at_end and not set(corpus.splits["test"]["utterance_id"]) & {
        *trainer.train_dataset["utterance_id"],
        *trainer.eval_dataset["utterance_id"],
    }


def test_usage_names_the_commands(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert re.search(r"train.*eval", capsys.readouterr().out, re.DOTALL)


def test_balanced_weights_make_every_class_weigh_the_same():
    labels = ["neutral"] * 6 + ["anger"] * 3 + ["sadness"] + [None] * 5 + ["disgust"]
    weights = balanced_weights(labels, ["neutral", "happiness", "sadness", "anger"])
    assert [6 * weights[0], 1 * weights[2], 3 * weights[3]] == pytest.approx([2.5, 2.5, 2.5])
    assert weights[1] == 0
