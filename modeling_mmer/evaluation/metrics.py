"""The metrics of the paper's tables, as pure NumPy functions.

    UA         mean over classes c of  (rows of c predicted as c) / (rows of c)                          Table 1
    CCC        2 cov(x, y) / (var x + var y + (mean x - mean y)^2)     (Lin, 1989; population moments)   Table 1
    retrieval  share of utterances whose largest inner product, among N, is with their own partner       Table 3
    collapse   max over i, j of |x_i - x_j|  among one utterance's embeddings                            Table 2
    JSD        H((p + q) / 2) - (H(p) + H(q)) / 2, of probabilities p and votes q, in bits               (ours)

All figures are fractions; `figures.py` computes them for each combination of modalities. Two rules apply everywhere.
Rows without a label (-100 for a class, NaN for a dimension) are ignored by its metrics. A figure that cannot be
measured is `None`, or absent from a dict, never 0. Metrics of classes take class ids (n,), predictions and references;
they raise a ValueError if the two differ in length, or hold something other than class ids. Only NumPy is needed.
`evaluate_metrics.py` has the same metrics as `evaluate.Metric` classes.
"""

import math
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..model.tasks import NOT_LABELLED


def unweighted_accuracy(predictions: ArrayLike, references: ArrayLike) -> float | None:
    """Unweighted accuracy: the mean recall over the classes in the references; None where no row is labelled."""
    predictions, references = _labelled_classes(predictions, references)
    return mean_of_present(np.mean(predictions[references == c] == c) for c in np.unique(references))


def per_class_recall(
    predictions: ArrayLike, references: ArrayLike, labels: Sequence[Hashable]
) -> dict[Hashable, float | None]:
    """The recall of each class by its name, in the order of `labels`, where class c is `labels[c]`; None for a class
    that is not in the references."""
    matrix = confusion_matrix(predictions, references, len(labels))
    return {
        label: float(row[c] / row.sum()) if row.sum() else None
        for c, (label, row) in enumerate(zip(labels, matrix, strict=True))
    }


def macro_f1(predictions: ArrayLike, references: ArrayLike) -> float | None:
    """The unweighted mean over classes of F1 = 2 TP / (2 TP + FP + FN).

    The classes are those that occur in the references or the predictions (scikit-learn's default), so a class that is
    only predicted, or never predicted correctly, counts as 0. None where no row is labelled.
    """
    predictions, references = _labelled_classes(predictions, references)
    scores = []
    for c in np.union1d(predictions, references):
        predicted, true = predictions == c, references == c
        scores.append(2 * np.sum(predicted & true) / (np.sum(predicted) + np.sum(true)))
    return mean_of_present(scores)


def confusion_matrix(predictions: ArrayLike, references: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Counts of (reference, prediction) pairs of K = `num_classes` classes, with the ids 0 … K - 1: (K, K), row =
    reference, column = prediction."""
    predictions, references = _labelled_classes(predictions, references)
    for name, classes in (("predictions", predictions), ("references", references)):
        if classes.size and classes.max() >= num_classes:
            raise ValueError(
                f"{name} hold class {classes.max()}, but there are {num_classes} classes (0 … {num_classes - 1})."
            )
    pairs = references * num_classes + predictions
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def _labelled_classes(predictions: ArrayLike, references: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both as int64 (m,), without the rows whose reference is -100."""
    checked = []
    for name, values in (("predictions", predictions), ("references", references)):
        array = np.asarray(values)
        if array.ndim != 1:
            raise ValueError(
                f"{name} must be class ids of shape (n,), got {array.shape}. Take the arg max of logits first."
            )
        if array.dtype.kind not in "iub":
            if not np.all(np.equal(np.mod(array, 1), 0)):  # NaN and infinity fail this too
                raise ValueError(f"{name} must be whole numbers (class ids), got {array.dtype}.")
        checked.append(array.astype(np.int64))
    predictions, references = checked
    _require_equal_length(predictions, references)
    labelled = references != NOT_LABELLED
    predictions, references = predictions[labelled], references[labelled]
    for name, classes in (("predictions", predictions), ("references", references)):
        if classes.size and classes.min() < 0:
            raise ValueError(
                f"{name} hold class {classes.min()}; class ids start at 0, and {NOT_LABELLED} = not labelled."
            )
    return predictions, references


def ccc(predictions: ArrayLike, references: ArrayLike) -> float | None:
    """Lin's concordance correlation coefficient, 2 cov / (var_x + var_y + (mean_x - mean_y)^2).

    Uses population moments (divided by n) in float64. If one side is constant, the coefficient is 0.

    Args:
        predictions: (n,), on any scale.
        references: (n,), on the same scale; NaN = not labelled.

    Returns:
        A number in [-1, 1], or None where it is undefined: fewer than two labelled rows, or both sides constant and
        equal (0 / 0).

    Raises:
        ValueError: the two differ in length, a labelled row has a prediction that is not finite, or a reference is
            infinite.
    """
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(references, dtype=np.float64)
    if x.ndim != 1 or y.ndim != 1:
        raise ValueError(f"predictions and references must have shape (n,), got {x.shape} and {y.shape}.")
    _require_equal_length(x, y)
    labelled = ~np.isnan(y)
    x, y = x[labelled], y[labelled]
    _require_finite("predictions", x)
    _require_finite("references", y)
    if x.size < 2:
        return None
    # Compare the values, not the variance: rounding errors in the mean of equal numbers would turn 0 / 0 into a
    # number.
    x_constant, y_constant = x.min() == x.max(), y.min() == y.max()
    if x_constant and y_constant and x[0] == y[0]:
        return None
    if x_constant or y_constant:
        return 0.0
    x_mean, y_mean = x.mean(), y.mean()
    covariance = np.mean((x - x_mean) * (y - y_mean))
    return float(2 * covariance / (x.var() + y.var() + (x_mean - y_mean) ** 2))


def vote_divergence(probabilities: ArrayLike, votes: ArrayLike) -> float | None:
    """The mean Jensen–Shannon divergence between predicted distributions and those of raters' votes.

    Args:
        probabilities: (n, K), each row of sum 1.
        votes: (n, K), counts; a row that is all zero has no votes.

    Returns:
        A number in [0, 1] (logarithms to base 2), 0 where all distributions agree; None where no row has votes.

    Raises:
        ValueError: the shapes differ, or a predicted row with votes is not finite.
    """
    p, q = np.asarray(probabilities, dtype=np.float64), np.asarray(votes, dtype=np.float64)
    if p.ndim != 2 or p.shape != q.shape:
        raise ValueError(f"probabilities and votes must have one shape (n, K), got {p.shape} and {q.shape}.")
    voted = q.sum(axis=1) > 0
    if not voted.any():
        return None
    p, q = p[voted], q[voted] / q[voted].sum(axis=1, keepdims=True)
    _require_finite("probabilities", p)
    return float(np.mean(_entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2))


def _entropy(distributions: NDArray) -> NDArray:
    """(n,), in bits, of (n, K)."""
    return -np.sum(distributions * np.log2(np.where(distributions > 0, distributions, 1.0)), axis=1)


def softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Probabilities (n, K) of logits."""
    logits = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def retrieval_accuracy(
    embeds: ArrayLike, partners: ArrayLike, group_size: int = 32, modalities: tuple[str, str] = ("audio", "text")
) -> dict[str, float] | None:
    """How often the largest inner product among `group_size` is that with the own partner (Table 3).

    Rows form disjoint consecutive groups of N = `group_size`; remaining rows are dropped. Chance is 1 / N. Among equal
    inner products the first counts, so identical embeddings score exactly 1 / N.

    Args:
        embeds: z^a = g(mean_j z_j^a), (n, d), of utterances that have both modalities.
        partners: z^t, (n, d), row i the partner of row i.
        group_size: N.
        modalities: the names of the two.

    Returns:
        `{"audio_to_text": …, "text_to_audio": …}`: the fraction of rows whose partner is found, in each direction; None
        if there are fewer rows than one group.

    Raises:
        ValueError: the shapes differ, an embedding is not finite, or `group_size` is below 2.
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (embeds, partners)]
    if group_size < 2:
        raise ValueError(f"group_size must be at least 2, got {group_size}.")
    if all(side.shape[:1] == (0,) for side in sides):
        return None
    if sides[0].ndim != 2 or sides[0].shape != sides[1].shape:
        shapes = " and ".join(str(side.shape) for side in sides)
        raise ValueError(f"Embeddings must be two arrays of one shape (n, d), got {shapes}.")
    for modality, side in zip(modalities, sides, strict=True):
        _require_finite(f"{modality}_embeds", side)
    num_groups, width = len(sides[0]) // group_size, sides[0].shape[1]
    if num_groups == 0:
        return None
    ours, theirs = (side[: num_groups * group_size].reshape(num_groups, group_size, width) for side in sides)
    similarity = ours @ theirs.transpose(0, 2, 1)  # (groups, N of one, N of the other)
    one, other = modalities
    own = np.arange(group_size)
    return {
        f"{one}_to_{other}": float(np.mean(similarity.argmax(axis=2) == own)),
        f"{other}_to_{one}": float(np.mean(similarity.argmax(axis=1) == own)),
    }


def collapse_distance(embeds: ArrayLike) -> float | None:
    """The largest pair-wise Euclidean distance between the embeddings of one utterance (Table 2); near 0 = collapse.

    Args:
        embeds: the embeddings (h or z) of one modality of one utterance, without padding, (n, d).

    Returns:
        The distance; 0 for n = 1; None for n = 0.

    Raises:
        ValueError: the shape is not (n, d), or an embedding is not finite.
    """
    embeds = np.asarray(embeds, dtype=np.float64)
    if embeds.shape[:1] == (0,):
        return None
    if embeds.ndim != 2:
        raise ValueError(f"embeds must have shape (n, d), got {embeds.shape}.")
    _require_finite("embeds", embeds)
    # |x - y|^2 = |x|^2 + |y|^2 - 2 x.y finds the pair with one product (centred to reduce cancellation). Its distance
    # is then computed directly, so that equal embeddings give exactly 0.
    centred = embeds - embeds.mean(axis=0)
    norms = np.sum(centred**2, axis=1)
    squared = norms[:, None] + norms[None, :] - 2 * centred @ centred.T  # (n, n)
    i, j = np.unravel_index(squared.argmax(), squared.shape)
    return float(np.linalg.norm(embeds[i] - embeds[j]))


def mean_of_present(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None or NaN; None if there is none."""
    present = [float(v) for v in values if v is not None and not math.isnan(v)]
    return sum(present) / len(present) if present else None


def _require_equal_length(predictions: NDArray, references: NDArray) -> None:
    if len(predictions) != len(references):
        raise ValueError(f"There are {len(predictions)} predictions but {len(references)} references.")


def _require_finite(name: str, values: NDArray) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"{name} contain NaN or infinity; leave out rows without a prediction.")
