"""The three terms of Eq. 7 as pure functions of tensors, and the gather that makes a batch the global batch.

L = L_S + λ_MAE L_MAE + λ_C L_C. Rows without a label, or without a modality, are left out of the terms they cannot
judge; a term with nothing to judge is a zero that still carries a graph, so that every process runs the same backward.

Shapes: B examples, N_m tokens of modality m, T_m frames or tokens, D encoder width, d shared width, K classes.
"""

from collections.abc import Callable, Mapping

import torch
import torch.distributed as dist
from torch import nn

IGNORED = -100  # the label of an unlabelled class; an unlabelled dimension is NaN
RATIO_EPSILON = 1e-8  # of Eq. 6 as printed: two vectors after a ReLU may be orthogonal


# ── supervised: L_S ─────────────────────────────────────────────────────────────────────────────────────────────────


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
    labelled = targets[targets != IGNORED]
    if len(labelled) == 0 or (weights is not None and not weights[labelled].any()):
        return None
    return nn.functional.cross_entropy(
        logits.float(), targets, weight=weights, ignore_index=IGNORED, label_smoothing=smoothing
    )


def supervised_loss(
    predictions: Mapping[str, Mapping[str, torch.Tensor]],
    labels: Mapping[str, torch.Tensor],
    present: Mapping[str, torch.Tensor],
    class_weights: Mapping[str, torch.Tensor | None],
    smoothing: float = 0.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """L_S: the mean over tasks and modality combinations of 1 − CCC or cross-entropy, where there is something to
    judge.

    Args:
        predictions: combination → task → logits (B, K) or values (B,).
        labels: task → (B,); −100 or NaN where not labelled. A task without labels is not judged.
        present: combination → (B,) bool, the rows that have all of its modalities.
        class_weights: class task → (K,) or None.
        smoothing: of the labels, in the cross-entropies.

    Returns:
        L_S, and each task's mean over its combinations (detached, for logging).
    """
    terms = {task: [] for task in labels}
    for combination, of_tasks in predictions.items():
        rows = present[combination]
        for task, predicted in of_tasks.items():
            if task not in labels:
                continue
            if predicted.dim() == 2:
                term = class_loss(predicted[rows], labels[task][rows], class_weights.get(task), smoothing)
            else:
                term = ccc_loss(predicted[rows], labels[task][rows])
            if term is not None:
                terms[task].append(term)
    judged = [term for of_task in terms.values() for term in of_task]
    if judged:
        total = torch.stack(judged).mean()
    else:
        total = sum(predicted.sum() * 0.0 for of_tasks in predictions.values() for predicted in of_tasks.values())
    return total, {task: torch.stack(of_task).mean().detach() for task, of_task in terms.items() if of_task}


# ── masked autoencoder: L_MAE ───────────────────────────────────────────────────────────────────────────────────────


def draw_mask(real: torch.Tensor, ratio: float, fixed: bool = False) -> torch.Tensor:
    """Which real tokens of (B, N) are replaced by MASK: `ratio` of each row, rounded down, at least one of two or more.

    A row of a single token keeps it: nothing would be left to reconstruct it from. `fixed`, for evaluations, draws by
    position alone and from a generator of its own: the mask of a row is always the same, on every device and in every
    batch, and training goes on as if there had been no evaluation.
    """
    count = real.sum(-1)
    number = (count * ratio).floor().long()
    if ratio > 0:
        number = torch.where(count >= 2, number.clamp(min=1), 0)
    if fixed:
        own = torch.Generator().manual_seed(0)
        drawn = torch.rand(real.shape[-1], generator=own, device="cpu").to(real.device).expand(real.shape)
    else:
        drawn = torch.rand(real.shape, device=real.device)
    order = drawn.masked_fill(~real, 2.0).argsort(-1)  # real ones first, shuffled
    rank = torch.empty_like(order).scatter_(
        -1, order, torch.arange(real.shape[-1], device=real.device).expand_as(order)
    )
    return rank < number.unsqueeze(-1)


def reconstruction_errors(reconstructed: torch.Tensor, target: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Each example's part of Eq. 5: the mean over its counted positions of the mean squared error per dimension.

    Args:
        reconstructed, target: (B, T, D).
        counted: (B, T) bool. A row without any counts as zero.

    Returns:
        (B,), float32.
    """
    squared = (reconstructed.float() - target.float()).square().mean(-1)  # (B, T)
    return (squared * counted).sum(-1) / counted.sum(-1).clamp(min=1)


# ── contrastive: L_C ────────────────────────────────────────────────────────────────────────────────────────────────


def contrastive_loss(
    audio_embeds: torch.Tensor, text_embeds: torch.Tensor, paired: torch.Tensor, form: str = "softmax"
) -> torch.Tensor:
    """Eq. 6: half the sum of the cross-entropies over rows and columns of Z^a (Z^t)^T; no temperature, no norm.

    `softmax` is the cross-entropy that the paper's text describes, after CLIP. `ratio` divides the similarities
    themselves, as Eq. 6 is printed (read over rows and columns, as the text says), with 1e-8 on both sides of the
    fraction. Rows that lack a modality are no row and no column; fewer than two pairs give zero.

    Args:
        audio_embeds, text_embeds: (B, d), after g.
        paired: (B,) bool, the rows that have both modalities.
    """
    audio_embeds, text_embeds = audio_embeds[paired].float(), text_embeds[paired].float()
    if len(audio_embeds) < 2:
        return (audio_embeds.sum() + text_embeds.sum()) * 0.0
    with torch.autocast(audio_embeds.device.type, enabled=False):  # unscaled products overflow a half float
        similarity = audio_embeds @ text_embeds.T  # (pairs, pairs)
    if form == "softmax":
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


def gatherer(training: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """`gather_rows` in training; in an evaluation every process judges its own rows."""
    return gather_rows if training else lambda rows: rows


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """The rows (B, …) of every process, one after the other, with gradients; the rows themselves on one process.

    Every process then computes the loss of the global batch, and the mean that DDP takes over processes is its exact
    gradient. Needs equally many rows on every process, as accelerate deals them out.
    """
    return _GatherRows.apply(rows) if several_processes() else rows


def several_processes() -> bool:
    """Whether the batch is one process's part of a global batch."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _GatherRows(torch.autograd.Function):
    """All-gather whose backward gives each process the gradients that all of them have for its rows."""

    @staticmethod
    def forward(ctx, rows):
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]
