"""Training without labels, and with labels of some rows alone."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import labels, raw_batch, tiny_config, tiny_model
from datasets import Dataset
from huggingface_hub.errors import StrictDataclassError
from trainers import toy_rows, toy_trainer, weights

from modeling_mmer.commands import main
from modeling_mmer.corpora.demo import DEMO_FOLDER
from modeling_mmer.model.configuration_mmer import MMERConfig

UNLABELLED = {"emotion": -100, "sentiment": -100, **dict.fromkeys(("valence", "arousal", "dominance"), float("nan"))}


def unlabel(rows: Dataset, keep: tuple[int, ...] = ()) -> Dataset:
    return rows.map(lambda row, i: {} if i in keep else UNLABELLED, with_indices=True)


def test_the_supervised_term_has_a_weight():
    batch, of_labels = raw_batch(), labels()
    state = torch.random.get_rng_state()
    losses = {}
    for weight in (1, 3):
        torch.random.set_rng_state(state)  # the same mask
        output = tiny_model(lambda_supervised=weight)(**batch, labels=of_labels)
        losses[weight] = output.loss.item(), output.losses["supervised"].item()
    assert losses[3][0] == pytest.approx(losses[1][0] + 2 * losses[1][1], rel=1e-6)
    with pytest.raises(StrictDataclassError, match="lambda_supervised, lambda_mae, lambda_contrastive are all 0"):
        tiny_config(lambda_supervised=0, lambda_mae=0, lambda_contrastive=0)


def test_without_its_weight_neither_the_term_nor_its_pass_is_computed():
    model = tiny_model(lambda_supervised=0).train()
    model.freeze_untrained()
    passes = []
    model.model.transformer.register_forward_pre_hook(lambda _, inputs: passes.extend(inputs[0]))
    loss = model(**raw_batch(), labels=labels())
    assert set(loss.losses) == {"mae", "contrastive"} and sorted(passes) == ["audio", "masked", "text"]
    loss.loss.backward()
    assert not any(p.requires_grad for p in model.heads.parameters())
    trained = tiny_model(lambda_supervised=1)  # the same weights
    torch.random.manual_seed(0)
    expected = trained(**raw_batch(), labels=labels()).losses
    torch.random.manual_seed(0)
    found = model.eval()(**raw_batch(), labels=labels()).losses
    for term in ("mae", "contrastive"):
        torch.testing.assert_close(found[term], expected[term])


def test_rows_without_labels_train_all_but_the_heads(tmp_path):
    by_loss = {"metric_for_best_model": "loss", "greater_is_better": False}
    model = tiny_model(audio_context="trimmed", lambda_supervised=0)
    trainer = toy_trainer(tmp_path, model=model, **by_loss)
    trainer.train_dataset, trainer.eval_dataset = unlabel(toy_rows(36)), unlabel(toy_rows(13, seed=1))
    before = weights(model)
    trainer.train()
    for name, value in weights(trainer.model).items():
        if name.startswith("heads."):
            assert torch.equal(value, before[name]), name
    assert any(not torch.equal(v, before[n]) for n, v in weights(trainer.model).items() if "transformer" in n)
    evaluated = [logs for logs in trainer.state.log_history if "eval_loss" in logs]
    assert evaluated and "eval_loss_mae" in evaluated[-1] and "eval_score" not in evaluated[-1]
    assert not any("ua" in name or "supervised" in name for name in evaluated[-1])
    with pytest.raises(ValueError, match="cannot give score"):
        toy_trainer(tmp_path / "score", model=tiny_model(audio_context="trimmed", lambda_supervised=0))


@pytest.mark.parametrize("terms", [{}, {"lambda_mae": 0, "lambda_contrastive": 0}])
def test_batches_without_a_labelled_row_among_others(tmp_path, terms):
    trainer = toy_trainer(tmp_path, model=tiny_model(audio_context="trimmed", **terms))
    trainer.train_dataset = unlabel(toy_rows(36), keep=(0, 1, 2))  # at most three of five batches have one
    trainer.train()
    steps = [logs for logs in trainer.state.log_history if "loss" in logs]
    assert len(steps) == 10 and {logs["loss_supervised"] > 0 for logs in steps} == {True, False}
    assert all(value.isfinite().all() for value in weights(trainer.model).values() if value.is_floating_point())


@pytest.fixture
def unlabelled(tmp_path) -> Path:
    """The demo corpus without its labels."""
    shutil.copytree(DEMO_FOLDER, tmp_path / "corpus")
    file = next((tmp_path / "corpus").glob("metadata.*"))
    table = pd.read_csv(file)
    kept = [c for c in table.columns if c not in ("emotion", "sentiment", "valence", "arousal", "dominance")]
    table[kept].to_csv(tmp_path / "corpus/metadata.csv", index=False)
    return tmp_path / "corpus"


def test_two_stages(unlabelled, demo_encoders, tmp_path, capsys):
    """A corpus without labels is refused but where they are not needed; then a checkpoint is fine-tuned with labels."""
    common = ["--max_steps", "2", "--disable_tqdm", "true", "--report_to", "none", "--use_cpu", "true"]
    encoders = ["--audio_encoder", str(demo_encoders / "whisper"), "--text_encoder", str(demo_encoders / "roberta")]
    sizes = ["--audio_context", "trimmed", "--hidden_size", "16", "--num_hidden_layers", "1"]
    own = ["--corpus", "folder", "--corpus_dir", str(unlabelled), *encoders, *sizes, *common]
    with pytest.raises(SystemExit):
        main(["train", *own, "--output_dir", str(tmp_path / "refused")])
    assert "No labels found" in capsys.readouterr().err
    main(["train", *own, "--lambda_supervised", "0", "--output_dir", str(tmp_path / "first")])
    assert "labels are not used" in capsys.readouterr().out
    first = json.loads((tmp_path / "first/results.json").read_text())
    assert "audio" not in first["splits"]["test"] and any("labels are not used" in said for said in first["caveats"])
    assert "supervised" not in (tmp_path / "first/README.md").read_text().replace("lambda_supervised", "")
    with pytest.raises(SystemExit):
        main(["eval", str(tmp_path / "first"), "--corpus", "demo", "--output_dir", str(tmp_path / "judged")])
    assert "was trained without labels and predicts nothing yet" in capsys.readouterr().err
    voted = pd.read_csv(DEMO_FOLDER / "metadata.csv")
    for i, emotion in enumerate(("neutral", "happiness", "sadness", "anger")):
        voted[f"votes_{emotion}"] = 2 * (voted["emotion"] == emotion) + (voted.index % 4 == i)
    voted.loc[voted.index % 3 == 0, "emotion"] = None  # these rows have votes alone
    voted.to_csv(unlabelled / "metadata.csv", index=False)
    tuned = ["--corpus", "folder", "--corpus_dir", str(unlabelled), *common, "--output_dir", str(tmp_path / "tuned")]
    main(["train", "--model", str(tmp_path / "first"), *tuned])
    figures = json.loads((tmp_path / "tuned/results.json").read_text())["splits"]["test"]["audio"]
    assert 0 <= figures["ua"] <= 1 and 0 < figures["emotion_jsd"] < 1
    assert figures["labelled"]["emotion"] < figures["labelled"]["emotion_votes"] == figures["n"]
    assert f"{figures['emotion_jsd']:.3f}" in capsys.readouterr().out.partition("JSD from votes")[2]
    config = MMERConfig.from_pretrained(tmp_path / "tuned")
    assert config.lambda_supervised == 1 and config.soft_labels
