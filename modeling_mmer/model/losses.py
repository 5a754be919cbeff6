"""The terms of Eq. 7 as pure functions of tensors: L = L_S + λ_MAE L_MAE + λ_C L_C.

L_MAE is the mean of the errors that the decoders return (Eq. 5, `autoencoder.py`). Rows without a label, or without a
modality, are left out of the terms they cannot judge; a term with nothing to judge is a zero that still carries a
graph, so that every process runs the same backward. What a batch holds decides by masks alone, never in Python: the
host would have to wait for an accelerator at each such place.

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
    outside = (labels != NOT_LABELLED) & ((labels < 0) | (labels >= task.size))
    if outside.any():
        raise ValueError(
            f"labels of {task.name} are 0 to {task.size - 1} ({', '.join(task.classes)}), or {NOT_LABELLED} where "
            f"there is none; {labels[outside][0].item()} is neither."
        )
    return labels


def concordance_correlation(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """CCC of two vectors by population moments, in float32: 2 cov / (var_x + var_y + (mean_x − mean_y)²).

    Rows whose target is NaN are left out; where no two targets differ it is void.
    """
    labelled = ~targets.isnan()
    x, y = (torch.where(labelled, values.float(), 0.0) for values in (predictions, targets))
    count = labelled.sum().clamp(min=1)
    mean_x, mean_y = x.sum() / count, y.sum() / count
    x, y = (x - mean_x) * labelled, (y - mean_y) * labelled
    spread = (x.square().sum() + y.square().sum()) / count + (mean_x - mean_y) ** 2
    return 2 * (x * y).sum() / count / torch.where(differ(targets), spread, 1.0)


def differ(targets: torch.Tensor) -> torch.Tensor:
    """Whether two labels of targets (B,) differ, NaN where there is none: () bool."""
    labelled = ~targets.isnan()
    lowest, highest = (torch.where(labelled, targets, bound) for bound in (torch.inf, -torch.inf))
    return lowest.amin() < highest.amax()


def ccc_loss(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1 − CCC over the labelled rows of predictions (B,) and targets (B,); 0 without two that differ."""
    return torch.where(differ(targets), 1 - concordance_correlation(predictions, targets), 0.0)


def class_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None, smoothing: float = 0.0
) -> torch.Tensor:
    """Cross-entropy over the labelled rows of logits (B, K) and targets (B,), optionally weighted; 0 without any.

    Label smoothing moves this share of each target to all K classes alike.
    """
    logits = torch.where((targets != NOT_LABELLED)[:, None], logits.float(), 0.0)
    how = {"weight": weights, "ignore_index": NOT_LABELLED, "label_smoothing": smoothing}
    total = nn.functional.cross_entropy(logits, targets, reduction="sum", **how)
    counted = weight_of(targets, None, logits.shape[-1], weights)
    return torch.where(counted > 0, total / torch.where(counted > 0, counted, 1.0), 0.0)


def shares_of(targets: torch.Tensor, votes: torch.Tensor | None, classes: int) -> torch.Tensor:
    """Each row's distribution over the classes (B, K): of its votes, or else its label; zero without either."""
    hard = (nn.functional.one_hot(targets.clamp(min=0), classes) * (targets != NOT_LABELLED)[:, None]).float()
    if votes is None:
        return hard
    total = votes.float().sum(-1, keepdim=True)
    return torch.where(total > 0, votes / total.clamp(min=torch.finfo(torch.float32).tiny), hard)


def weight_of(
    targets: torch.Tensor, votes: torch.Tensor | None, classes: int, weights: torch.Tensor | None
) -> torch.Tensor:
    """What the mean of a cross-entropy is over: the number of rows with a label or votes, or their weights: ()."""
    shares = shares_of(targets, votes, classes)
    return (shares if weights is None else shares * weights).sum()


def vote_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    votes: torch.Tensor,
    weights: torch.Tensor | None = None,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy to the distribution of votes (B, K), which is its KL divergence but for a constant; a row without
    votes, all zero, has its label (B,) instead. 0 without any row that has either.

    Votes for one class alone are its label: weights and smoothing are those of `class_loss`.
    """
    shares = shares_of(targets, votes, logits.shape[-1])
    labelled = shares.sum(-1, keepdim=True)
    logits = torch.where(labelled > 0, logits.float(), 0.0)
    smoothed = (1 - smoothing) * shares + smoothing * labelled / logits.shape[-1]
    counted = weight_of(targets, votes, logits.shape[-1], weights)
    total = -(smoothed * logits.log_softmax(-1) * (1.0 if weights is None else weights)).sum()
    return torch.where(counted > 0, total / torch.where(counted > 0, counted, 1.0), 0.0)


def task_loss(
    task: Task,
    predictions: torch.Tensor,
    targets: torch.Tensor,
    rows: torch.Tensor,
    smoothing: float = 0.0,
    votes: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One task's loss over its labelled ones among `rows` (B,), and whether there are enough for it: () bool. Without,
    the loss is 0."""
    if not task.is_class:
        targets = torch.where(rows, targets, torch.nan)
        return ccc_loss(predictions, targets), differ(targets)
    weights = None
    if task.class_weights is not None:  # not `torch.tensor`: the host would wait for an accelerator
        weights = torch.stack([predictions.new_full((), w, dtype=torch.float32) for w in task.class_weights])
    targets = torch.where(rows, targets, NOT_LABELLED)
    votes = None if votes is None or not task.soft_labels else torch.where(rows[:, None], votes, 0.0)
    counted = weight_of(targets, votes, task.size, weights)
    if votes is not None:
        return vote_loss(predictions, targets, votes, weights, smoothing), counted > 0
    return class_loss(predictions, targets, weights, smoothing), counted > 0


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
        `supervised`, and each task's mean over its combinations (detached, for logging): NaN where the batch has
        nothing to judge of it, infinite where it is NaN.
    """
    terms = {}
    for task in tasks:
        if task.name in labels:
            terms[task.name] = [
                task_loss(
                    task, of_tasks[task.name], labels[task.name], present[name], smoothing, labels.get(task.votes)
                )
                for name, of_tasks in predictions.items()
                if task.name in of_tasks
            ]
    terms = {name: tuple(map(torch.stack, zip(*of_task, strict=True))) for name, of_task in terms.items() if of_task}
    if not terms:
        nothing = [predicted.sum() * 0.0 for of_tasks in predictions.values() for predicted in of_tasks.values()]
        return {"supervised": sum(nothing)}
    losses, judged = (torch.cat(parts) for parts in zip(*terms.values(), strict=True))
    total = losses.sum() / judged.sum().clamp(min=1)
    return {"supervised": total, **{name: mean_to_log(*of_task) for name, of_task in terms.items()}}


def mean_to_log(losses: torch.Tensor, judged: torch.Tensor) -> torch.Tensor:
    """The mean of those losses (n,) that are `judged` (n,), detached; the others are 0."""
    mean = losses.detach().sum() / judged.sum()
    return torch.where(judged.any(), mean.nan_to_num(torch.inf), torch.nan)


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
    unit length, whose products are multiplied by a scale. `ratio` divides the similarities themselves, as Eq. 6 is
    printed (read over rows and columns, as the text says), with 1e-8 on both sides of the fraction. Rows that lack a
    modality are no row and no column; fewer than two pairs give zero.

    Args:
        audio_embeds: (B, d), after g.
        text_embeds: (B, d), after g.
        paired: (B,) bool, the rows that have both modalities.
        scale: of the similarities, the inverse of the temperature.
    """
    paired_rows = paired[:, None]
    audio_embeds, text_embeds = (torch.where(paired_rows, z.float(), 0.0) for z in (audio_embeds, text_embeds))
    with torch.autocast(audio_embeds.device.type, enabled=False):  # unscaled products overflow a half float
        similarity = scale * (audio_embeds @ text_embeds.T)  # (B, B)
    if form == "ratio":
        own = similarity.diagonal() + RATIO_EPSILON
        of_rows, of_columns = similarity.sum(1) + RATIO_EPSILON, similarity.sum(0) + RATIO_EPSILON
        of_pairs = -((own / of_rows).log() + (own / of_columns).log())
    else:
        own = torch.arange(len(similarity), device=similarity.device)
        hidden = (~(paired_rows & paired_rows.T)).fill_diagonal_(False)  # a row without a partner keeps its own 0
        similarity = similarity.masked_fill(hidden, -torch.inf)
        of_pairs = sum(nn.functional.cross_entropy(of, own, reduction="none") for of in (similarity, similarity.T))
    return torch.where(paired, of_pairs, 0.0).sum() / paired.sum().clamp(min=1) / 2


# ── total: L ────────────────────────────────────────────────────────────────────────────────────────────────────────


def total_loss(losses: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """Eq. 7, L_S + λ_MAE L_MAE + λ_C L_C: the weighted sum of the terms. Those without a weight are there to be logged;
    one that was not computed, because its λ is 0, is not in `losses`."""
    return sum(weight * losses[name] for name, weight in weights.items() if name in losses)
