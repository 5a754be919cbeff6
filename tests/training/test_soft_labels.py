"""Training on the votes of raters: the loss, its batches, and the figures that compare predictions with votes."""

import math

import numpy as np
import pytest
import torch
from conftest import labels, raw_batch, real_input_processor, tasks, tiny_model
from datasets import Dataset

from modeling_mmer.evaluation.evaluate_metrics import VoteDivergence
from modeling_mmer.evaluation.figures import compute_figures, measurable
from modeling_mmer.evaluation.metrics import vote_divergence
from modeling_mmer.model.losses import class_loss, supervised_loss, vote_loss
from modeling_mmer.model.tasks import Task
from modeling_mmer.training.collator import MMERCollator

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0], [0.3, 0.2, 0.1], [1.0, 1.5, -0.5]])
STATES = {"audio_hidden_states": torch.zeros(3, 4, 8), "text_hidden_states": torch.zeros(3, 2, 8)}
EMOTIONS = ("neutral", "happiness", "sadness", "anger")


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_votes_for_one_class_are_its_label(weights, smoothing):
    """Labels and votes for one class give today's loss and gradient, with class weights and smoothing."""
    weights = None if weights is None else torch.tensor(weights)
    targets = torch.tensor([2, 0, -100, 1])
    votes = torch.tensor([[0.0, 0, 3], [0, 0, 0], [0, 0, 0], [0, 5, 0]])  # the second row has its label alone
    found, expected = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    losses = vote_loss(found, targets, votes, weights, smoothing), class_loss(expected, targets, weights, smoothing)
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(found.grad, expected.grad)


def test_the_loss_is_the_cross_entropy_to_shares_of_votes():
    """A row without a label takes part by its votes, and one that has both follows its votes."""
    votes = torch.tensor([[1.0, 0, 3], [0, 0, 0], [0, 2, 2], [0, 0, 0]])
    targets = torch.tensor([0, 1, -100, -100])
    logs = log_softmax(LOGITS.numpy().astype(float))
    expected = -(0.25 * logs[0, 0] + 0.75 * logs[0, 2] + logs[1, 1] + 0.5 * logs[2, 1] + 0.5 * logs[2, 2]) / 3
    assert vote_loss(LOGITS, targets, votes).item() == pytest.approx(expected, rel=1e-6)
    assert vote_loss(LOGITS[3:], targets[3:], votes[3:]) == 0


def test_only_with_soft_labels_does_the_loss_follow_votes():
    present, hard = {"audio": torch.tensor([True, True, False, True])}, torch.tensor([0, 1, -100, -100])
    votes = torch.tensor([[0.0, 0, 3], [0, 0, 0], [0, 2, 2], [1, 1, 0]])
    for soft in (False, True):
        task = Task("emotion", ("a", "b", "c"), soft_labels=soft)
        of_votes = {"emotion": hard, "emotion_votes": votes}
        found = supervised_loss({"audio": {"emotion": LOGITS}}, of_votes, present, [task])["supervised"]
        kept = [0, 1, 3]
        expected = vote_loss(LOGITS[kept], hard[kept], votes[kept]) if soft else class_loss(LOGITS[kept], hard[kept])
        assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_model_takes_votes_with_its_labels():
    model = tiny_model(soft_labels=True, lambda_mae=0, lambda_contrastive=0)
    batch, hard = raw_batch(), labels()
    one_hot = torch.nn.functional.one_hot(hard["emotion"], 4).float()
    loss = model(**batch, labels=hard).loss
    torch.testing.assert_close(model(**batch, labels=hard | {"emotion_votes": 2 * one_hot}).loss, loss)
    assert model(**batch, labels=hard | {"emotion_votes": torch.zeros(4, 4)}).loss == loss
    assert model(**batch, labels=hard | {"emotion_votes": 2 * one_hot.flip(1)}).loss != loss
    alone = model(**batch, labels={"emotion_votes": one_hot}).loss
    torch.testing.assert_close(alone, model(**batch, labels={"emotion": hard["emotion"]}).loss)
    with pytest.raises(ValueError, match="emotion_votes must be a row of votes for its classes for each of the 4 rows"):
        model(**batch, labels=hard | {"emotion_votes": torch.zeros(4, 3)})


def test_a_batch_has_votes_where_rows_have_the_column():
    collator = MMERCollator(real_input_processor(), tasks(EMOTIONS, ("negative", "positive")))
    cells = ['{"anger": 2, "neutral": 1}', None, '{"fear": 2}']
    rows = [{"utterance_id": str(i), "emotion_votes": cell, **STATES} for i, cell in enumerate(cells)]
    votes = collator(rows)["labels"]["emotion_votes"]
    assert votes.dtype == torch.float32 and votes.tolist() == [[1, 0, 0, 2], [0] * 4, [0] * 4]
    assert "emotion_votes" not in collator([STATES])["labels"]
    with pytest.raises(ValueError, match="emotion_votes of one of 'bad': "):
        collator([{"utterance_id": "bad", "emotion_votes": "anger", **STATES}])


def jensen_shannon(p, q) -> float:
    """By its definition: the mean KL divergence to the middle of the two, in bits."""
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    kl = [sum(a * math.log2(a / m) for a, m in zip(x, middle, strict=True) if a) for x in (p, q)]
    return sum(kl) / 2


def test_divergence_from_votes():
    p, votes = [[0.5, 0.25, 0.25], [0.1, 0.9, 0.0], [1, 0, 0]], [[2, 0, 2], [0, 0, 5], [0, 0, 0]]
    expected = (jensen_shannon(p[0], [0.5, 0, 0.5]) + jensen_shannon(p[1], [0, 0, 1])) / 2
    assert vote_divergence(p, votes) == pytest.approx(expected)
    assert vote_divergence([[0.25, 0.75]], [[1, 3]]) == pytest.approx(0, abs=1e-15)
    assert vote_divergence([[1, 0]], [[0, 3]]) == 1
    assert vote_divergence(p[2:], votes[2:]) is None
    assert VoteDivergence().compute(predictions=p, references=votes) == {"jsd": pytest.approx(expected)}
    with pytest.raises(ValueError, match="one shape"):
        vote_divergence(p, [[1, 2]] * 3)


def test_figures_hold_the_divergence_where_there_are_votes():
    logits = np.array([[1.0, 0, 0, 0], [0, 2, 0, 1], [np.nan] * 4])
    votes = np.array([[0.0, 0, 0, 0], [0, 1, 0, 1], [9, 0, 0, 0]])
    references = {"emotion": np.array([0, -100, 1]), "emotion_votes": votes}
    figures = compute_figures({"audio": {"emotion": logits}}, references, tasks(EMOTIONS))["audio"]
    expected = jensen_shannon(np.exp(log_softmax(logits[1])), [0, 0.5, 0, 0.5])
    assert figures["emotion_jsd"] == pytest.approx(expected)
    assert figures["labelled"] == {"emotion": 1, "emotion_votes": 1} and figures["ua"] == 1
    without = compute_figures(
        {"audio": {"emotion": logits}}, references | {"emotion_votes": 0 * votes}, tasks(EMOTIONS)
    )
    assert "emotion_jsd" not in without["audio"] and without["audio"]["labelled"] == {"emotion": 1}


def test_the_divergence_may_select_a_checkpoint():
    rows = Dataset.from_dict({"audio": ["a"], "text": ["b"], "emotion": ["anger"], "emotion_votes": ['{"anger": 2}']})
    model = tiny_model()
    assert "audio_text_emotion_jsd" in measurable(rows, model)
    assert "audio_text_emotion_jsd" not in measurable(rows.remove_columns("emotion_votes"), model)
