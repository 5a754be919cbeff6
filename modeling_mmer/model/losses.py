"""The terms of Eq. 7 as pure functions of tensors: L = L_S + λ_MAE L_MAE + λ_C L_C.

L_MAE is the mean of the errors that the decoders return (Eq. 5, `autoencoder.py`). Rows without a label, or without a
modality, are left out of the terms they cannot judge; a term with nothing to judge is a zero that still carries a
graph, so that every process runs the same backward.

Shapes: B examples, d shared width, K classes.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from .tasks import NOT_LABELLED, Task

RATIO_EPSILON = 1e-8  # of Eq. 6 as printed: two vectors after a ReLU may be orthogonal


# ── supervised: L_S ─────────────────────────────────────────────────────────────────────────────────────────────────


def read_labels(
    labels: Mapping[str, torch.Tensor] | torch.Tensor, tasks: Iterable[Task], rows: int
) -> dict[str, torch.Tensor]:
    """Labels of a batch of `rows` as the losses take them: those of classes in 64 bits. A tensor is the emotions'. Rows
    that have votes alone have no label.

    Raises:
        ValueError: a task is unknown, a label is the number of no class, or there is not one for each row.
    """
    if isinstance(labels, torch.Tensor):
        labels = {"emotion": labels}
    elif not isinstance(labels, Mapping):
        raise ValueError(f"labels must be a dict of tensors, or a tensor of the emotions, not {type(labels).__name__}.")
    known = {task.name: task for task in tasks}
    with_votes = {task.votes: task for task in known.values() if task.is_class}
    if unknown := set(labels) - set(known) - set(with_votes):
        raise ValueError(f"Labels of unknown tasks: {', '.join(sorted(unknown))}. Known: {', '.join(known)}.")
    read = {}
    for name, of_task in labels.items():
        shape = (rows, with_votes[name].size) if name in with_votes else (rows,)
        if of_task.shape != shape:
            each = "a row of votes for its classes" if name in with_votes else "one"
            raise ValueError(
                f"labels of {name} must be {each} for each of the {rows} rows, not {tuple(of_task.shape)}."
            )
        read[name] = class_numbers(known[name], of_task) if name in known and known[name].is_class else of_task
    for name, task in with_votes.items():
        if name in read:
            read.setdefault(task.name, torch.full((rows,), NOT_LABELLED, device=read[name].device))
    return read


def class_numbers(task: Task, labels: torch.Tensor) -> torch.Tensor:
    """Labels of a task with classes as int64, after a check that each is one of its numbers, or `NOT_LABELLED`."""
    if labels.is_floating_point():
        raise ValueError(f"labels of {task.name} must be whole numbers, not {labels.dtype}.")
    labels = labels.long()
    outside = labels[(labels != NOT_LABELLED) & ((labels < 0) | (labels >= task.size))]
    if len(outside):
        raise ValueError(
            f"labels of {task.name} are 0 to {task.size - 1} ({', '.join(task.classes)}), or {NOT_LABELLED} where "
            f"there is none; {outside[0].item()} is neither."
        )
    return labels


def concordance_correlation(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """CCC of two vectors by population moments, in float32: 2 cov / (var_x + var_y + (mean_x − mean_y)²)."""
    predictions, targets = predictions.float(), targets.float()
    covariance = ((predictions - predictions.mean()) * (targets - targets.mean())).mean()
    variances = predictions.var(correction=0) + targets.var(correction=0)
    return 2 * covariance / (variances + (predictions.mean() - targets.mean()) ** 2)


def ccc_loss(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor | None:
    """1 − CCC over the labelled rows of predictions (B,) and targets (B,); None without two rows that differ."""
    labelled = ~targets.isnan()
    predictions, targets = predictions[labelled], targets[labelled]
    if len(targets) < 2 or targets.min() == targets.max():
        return None
    return 1 - concordance_correlation(predictions, targets)


def class_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None, smoothing: float = 0.0
) -> torch.Tensor | None:
    """Cross-entropy over the labelled rows of logits (B, K) and targets (B,), optionally weighted; None without any.

    Label smoothing moves this share of each target to all K classes alike.
    """
    labelled = targets[targets != NOT_LABELLED]
    if len(labelled) == 0 or (weights is not None and not weights[labelled].any()):
        return None
    return nn.functional.cross_entropy(
        logits.float(), targets, weight=weights, ignore_index=NOT_LABELLED, label_smoothing=smoothing
    )


def vote_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    votes: torch.Tensor,
    weights: torch.Tensor | None = None,
    smoothing: float = 0.0,
) -> torch.Tensor | None:
    """Cross-entropy to the distribution of votes (B, K), which is its KL divergence but for a constant; a row without
    votes, all zero, has its label (B,) instead. None without any row that has either.

    Votes for one class alone are its label: weights and smoothing are those of `class_loss`.
    """
    total = votes.sum(-1, keepdim=True)
    hard = nn.functional.one_hot(targets.clamp(min=0), logits.shape[-1]) * (targets != NOT_LABELLED)[:, None]
    shares = torch.where(total > 0, votes / total.clamp(min=torch.finfo(votes.dtype).tiny), hard.to(votes.dtype))
    weights = torch.ones_like(shares[0]) if weights is None else weights
    if not (counted := (shares * weights).sum()) > 0:
        return None
    labelled = shares.sum(-1, keepdim=True)
    smoothed = (1 - smoothing) * shares + smoothing * labelled / logits.shape[-1]
    return -(smoothed * weights * logits.float().log_softmax(-1)).sum() / counted


def task_loss(
    task: Task,
    predictions: torch.Tensor,
    targets: torch.Tensor,
    smoothing: float = 0.0,
    votes: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """One task's loss over its labelled rows, or None where they are too few for it."""
    if not task.is_class:
        return ccc_loss(predictions, targets)
    weights = None
    if task.class_weights is not None:
        weights = torch.tensor(task.class_weights, dtype=torch.float32, device=predictions.device)
    if task.soft_labels and votes is not None and votes.any():
        return vote_loss(predictions, targets, votes, weights, smoothing)
    return class_loss(predictions, targets, weights, smoothing)


def supervised_loss(
    predictions: Mapping[str, Mapping[str, torch.Tensor]],
    labels: Mapping[str, torch.Tensor],
    present: Mapping[str, torch.Tensor],
    tasks: Iterable[Task],
    smoothing: float = 0.0,
) -> dict[str, torch.Tensor]:
    """L_S: the mean over tasks and modality combinations of 1 − CCC or cross-entropy, where rows are labelled.

    Args:
        predictions: combination → task → logits (B, K) or values (B,).
        labels: task → (B,); −100 or NaN where not labelled. A task without labels is left out. `emotion_votes` (B, K)
            are votes, all zero where a row has none.
        present: combination → (B,) bool, the rows that have all of its modalities.
        tasks: of the model.
        smoothing: of the labels, in the cross-entropies.

    Returns:
        `supervised`, and each task's mean over its combinations (detached, for logging).
    """
    terms = {}
    for task in tasks:
        if task.name not in labels:
            continue
        votes = labels.get(task.votes)
        losses = [
            task_loss(
                task,
                of_tasks[task.name][rows],
                labels[task.name][rows],
                smoothing,
                None if votes is None else votes[rows],
            )
            for of_tasks, rows in ((predictions[name], present[name]) for name in predictions)
            if task.name in of_tasks
        ]
        if found := [loss for loss in losses if loss is not None]:
            terms[task.name] = torch.stack(found)
    if terms:
        total = torch.cat(list(terms.values())).mean()
    else:
        total = sum(predicted.sum() * 0.0 for of_tasks in predictions.values() for predicted in of_tasks.values())
    return {"supervised": total, **{name: losses.mean().detach() for name, losses in terms.items()}}


# ── contrastive: L_C ────────────────────────────────────────────────────────────────────────────────────────────────


def contrastive_loss(
    audio_embeds: torch.Tensor,
    text_embeds: torch.Tensor,
    paired: torch.Tensor,
    form: str = "softmax",
    scale: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Eq. 6: half the sum of the cross-entropies over rows and columns of Z^a (Z^t)^T; no temperature, no norm.

    `softmax` is the cross-entropy that the paper's text describes, after CLIP; `cosine` is the same for embeddings of
    unit length, whose products are multiplied by a scale. `ratio` divides the similarities
    themselves, as Eq. 6 is printed (read over rows and columns, as the text says), with 1e-8 on both sides of the
    fraction. Rows that lack a modality are no row and no column; fewer than two pairs give zero.

    Args:
        audio_embeds, text_embeds: (B, d), after g.
        paired: (B,) bool, the rows that have both modalities.
        scale: of the similarities, the inverse of the temperature.
    """
    audio_embeds, text_embeds = audio_embeds[paired].float(), text_embeds[paired].float()
    if len(audio_embeds) < 2:
        return (audio_embeds.sum() + text_embeds.sum()) * 0.0
    with torch.autocast(audio_embeds.device.type, enabled=False):  # unscaled products overflow a half float
        similarity = scale * (audio_embeds @ text_embeds.T)  # (pairs, pairs)
    if form != "ratio":
        own = torch.arange(len(similarity), device=similarity.device)
        return (nn.functional.cross_entropy(similarity, own) + nn.functional.cross_entropy(similarity.T, own)) / 2
    own = similarity.diagonal() + RATIO_EPSILON
    of_rows, of_columns = similarity.sum(1) + RATIO_EPSILON, similarity.sum(0) + RATIO_EPSILON
    return -((own / of_rows).log() + (own / of_columns).log()).mean() / 2


# ── total: L ────────────────────────────────────────────────────────────────────────────────────────────────────────


def total_loss(losses: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """Eq. 7, L_S + λ_MAE L_MAE + λ_C L_C: the weighted sum of the terms. Those without a weight are there to be logged;
    one that was not computed, because its λ is 0, is not in `losses`."""
    return sum(weight * losses[name] for name, weight in weights.items() if name in losses)
