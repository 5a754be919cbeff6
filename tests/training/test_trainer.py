"""Properties of training: logging, model selection, reproducibility and resuming. For two processes, see
test_processes."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import assert_equal_weights, tiny_model
from trainers import StopAfter, collate, toy_rows, toy_trainer, weights
from transformers import Trainer

from modeling_mmer.evaluation.figures import compute_figures
from modeling_mmer.training.batching import LengthBucketSampler


def test_same_seed_same_weights(tmp_path):
    results = []
    for run in ("a", "b"):
        trainer = toy_trainer(tmp_path / run)
        trainer.train()
        results.append(weights(trainer.model))
    assert_equal_weights(*results)


def test_training_changes_what_is_trainable_and_nothing_else(tmp_path):
    trainer = toy_trainer(tmp_path, tiny_model(audio_context="trimmed", lambda_mae=0, lambda_contrastive=0))
    before = weights(trainer.model)
    trainer.train()
    frozen = ("encoders.", "decoders.", "contrastive_head.", "mask_token", "inv_freq")
    frozen += ("heads.dominance",)  # nobody rated it
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, before[name]) == any(part in name for part in frozen), name


def test_trainable_parameters_are_counted_without_encoders_and_unused_parts(tmp_path):
    model = tiny_model(lambda_mae=0)
    trained = {name: p.numel() for name, p in model.named_parameters() if "encoders." not in name}
    of_mae = sum(size for name, size in trained.items() if "decoders." in name or "mask_token" in name)
    assert toy_trainer(tmp_path, model).trainable_parameters() == sum(trained.values()) - of_mae


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
@pytest.mark.parametrize("step", [5, 7, 12])  # an epoch has five
def test_resuming_equals_the_uninterrupted_run(tmp_path, strategy, step):
    # Without evaluations: the one at the end of a run that was stopped would be one more to choose the best from.
    options = {"num_train_epochs": 3, "train_sampling_strategy": strategy}
    options |= {"eval_strategy": "no", "load_best_model_at_end": False}
    whole = toy_trainer(tmp_path / "whole", **options)
    whole.train()
    first = toy_trainer(tmp_path / "parts", **options)
    first.add_callback(StopAfter(step))
    first.train()
    assert first.state.global_step == step
    second = toy_trainer(tmp_path / "parts", **options)
    second.train(resume_from_checkpoint=str(tmp_path / "parts" / f"checkpoint-{step}"))
    assert second.state.global_step == whole.state.global_step
    assert_equal_weights(weights(second.model), weights(whole.model))


def test_batches_are_of_like_lengths_and_differ_by_epoch_only():
    lengths = np.random.default_rng(0).integers(1, 100, 210).tolist()
    sampler = LengthBucketSampler(lengths, batch_size=8, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(210)) and list(sampler) == first
    assert list(LengthBucketSampler(lengths, batch_size=8, seed=3)) == first
    assert list(LengthBucketSampler(lengths, batch_size=8, seed=4)) != first
    sampler.set_epoch(1)
    assert list(sampler) != first

    def padded(order):
        batches = [[lengths[i] for i in order[start : start + 8]] for start in range(0, 210, 8)]
        return sum(max(batch) * len(batch) for batch in batches)

    assert padded(first) < 0.75 * padded(np.random.default_rng(1).permutation(210).tolist())


def test_the_best_checkpoint_by_validation_score_is_the_one_kept(tmp_path):
    trainer = toy_trainer(tmp_path, num_train_epochs=4, learning_rate=0.02)
    trainer.train()
    scores = [entry["eval_score"] for entry in trainer.state.log_history if "eval_score" in entry]
    assert len(set(scores)) > 1
    assert trainer.state.best_metric == max(scores)
    assert trainer.evaluate()["eval_score"] == pytest.approx(max(scores))


def test_every_term_and_task_is_logged_by_name(tmp_path):
    trainer = toy_trainer(tmp_path)
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    for entry in steps:
        expected = entry["loss_supervised"] + 10 * entry["loss_mae"] + entry["loss_contrastive"]
        assert entry["loss"] == pytest.approx(expected, rel=1e-4)
    assert {"loss_emotion", "loss_sentiment", "loss_valence", "loss_arousal"} <= steps[-1].keys()
    assert "loss_dominance" not in steps[-1]  # nobody rated it
    last = [entry for entry in trainer.state.log_history if "eval_loss" in entry][-1]
    assert {"eval_loss_supervised", "eval_audio_ua", "eval_text_ua", "eval_audio_text_valence_ccc"} <= last.keys()
    assert "eval_audio_dominance_ccc" not in last and "eval_retrieval_audio_to_text" not in last


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_an_evaluation_counts_every_row_once_in_its_own_order(tmp_path, strategy):
    trainer = toy_trainer(tmp_path, dataloader_drop_last=True, train_sampling_strategy=strategy)
    rows = toy_rows(13, seed=1)
    output = trainer.predict(rows)
    np.testing.assert_allclose(output.label_ids["arousal"], rows["arousal"], rtol=1e-6)
    results = compute_figures(output.predictions, output.label_ids, trainer.model.config.tasks)
    assert results["audio"]["n"] == sum(audio is not None for audio in rows["audio"])
    assert results["text"]["n"] == sum(text is not None for text in rows["text"])


def test_an_evaluation_repeats(tmp_path):
    trainer = toy_trainer(tmp_path)
    first = trainer.evaluate()
    torch.manual_seed(9)  # whatever has been drawn meanwhile
    second = trainer.evaluate()
    assert {"eval_loss", "eval_loss_mae", "eval_loss_contrastive", "eval_score", "eval_audio_ua"} <= first.keys()
    for name in first.keys() - {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}:
        assert second.get(name) == pytest.approx(first[name], rel=1e-6), name


def test_an_evaluation_leaves_the_draws_of_training_alone(tmp_path, monkeypatch):
    trainer, forked = toy_trainer(tmp_path), []
    trainer.evaluate()
    state = torch.random.get_rng_state()
    trainer.evaluate()
    assert torch.equal(torch.random.get_rng_state(), state)

    @contextmanager
    def fork_rng(**how):  # the generator of a GPU, which this machine may not have
        forked.append(how)
        yield

    monkeypatch.setattr(torch.random, "fork_rng", fork_rng)
    # The loop itself is the Trainer's; all that is asked is what is forked around it.
    monkeypatch.setattr(Trainer, "evaluation_loop", lambda *_, **__: SimpleNamespace(metrics={}))
    for device, own in (("cuda:1", [torch.device("cuda:1")]), ("mps", []), ("cpu", [])):
        monkeypatch.setattr(type(trainer.args), "device", torch.device(device))
        trainer.evaluation_loop(None, "")
        assert forked.pop() == {"devices": own, "device_type": torch.device(device).type}


def test_smoothed_labels_change_the_loss_and_nothing_else(tmp_path):
    model, losses = tiny_model(audio_context="trimmed", dimensions=[], lambda_mae=0, lambda_contrastive=0), {}
    batch = collate(list(toy_rows(8)))
    batch["labels"] = {task: batch["labels"][task] for task in ("emotion", "sentiment")}
    for factor in (0.0, 0.2):
        trainer = toy_trainer(tmp_path, model, label_smoothing_factor=factor)
        losses[factor] = trainer.compute_loss(model, batch).item()
    with torch.no_grad():
        combinations = model(**batch, return_combinations=True).combinations
    terms = []
    for task in ("emotion", "sentiment"):
        for of_tasks in combinations.values():
            logits, targets = of_tasks[task].double().numpy(), batch["labels"][task].numpy()
            judged = ~np.isnan(logits).any(-1) & (targets >= 0)
            log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            smoothed = 0.8 * np.eye(logits.shape[1])[targets[judged]] + 0.2 / logits.shape[1]
            terms.append(-(smoothed * log_probabilities[judged]).sum(-1).mean())
    assert losses[0.2] == pytest.approx(np.mean(terms), rel=1e-5)
    assert losses[0.0] != pytest.approx(losses[0.2], rel=1e-3)


def test_a_part_is_trained_again_once_its_weight_is_raised(tmp_path):
    model = tiny_model(lambda_mae=0)
    toy_trainer(tmp_path, model)
    assert not model.model.masking.mask_token.requires_grad and not any(
        p.requires_grad for p in model.decoders.parameters()
    )
    model.config.lambda_mae = 1
    model.contrastive_head.requires_grad_(False)  # by somebody else, on purpose
    toy_trainer(tmp_path, model)
    assert model.model.masking.mask_token.requires_grad and all(p.requires_grad for p in model.decoders.parameters())
    assert not any(p.requires_grad for p in model.contrastive_head.parameters())


def test_gradient_accumulation_averages_the_micro_batches(tmp_path):
    trainer = toy_trainer(
        tmp_path,
        tiny_model(audio_context="trimmed", lambda_mae=0),
        rows=16,
        gradient_accumulation_steps=2,
        num_train_epochs=1,
        logging_steps=1,
    )
    trainer.train()
    entry = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert entry["loss"] == pytest.approx(entry["loss_supervised"] + entry["loss_contrastive"], rel=1e-4)


def test_standardised_training_calibrates_on_the_training_rows(tmp_path):
    trainer = toy_trainer(tmp_path, tiny_model(state_normalization="standardize", audio_context="trimmed"))
    trainer.train()
    standardizer = trainer.model.model.embedders["audio"].standardizer
    batch = collate(list(toy_rows(36)))
    states, mask = trainer.model.model.encoders({k: v for k, v in batch.items() if k != "labels"})["audio"]
    frames = np.stack([states[b, :, t].numpy() for b in range(36) for t in range(states.shape[2]) if mask[b, t]])
    np.testing.assert_allclose(standardizer.mean, frames.astype(np.float64).mean(0), atol=1e-4)
