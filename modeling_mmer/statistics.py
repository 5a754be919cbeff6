"""What several seeds, and a finite test set, say of a difference: mean and deviation, and the paired bootstrap.

Shapes: n utterances, R resamples.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Measure = Callable[[NDArray, NDArray], NDArray[np.float64]]  # predictions and references (R, n) → (R,)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation of a sample (n − 1), which a single value does not have."""
    values = np.asarray(values, dtype=np.float64)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None


def paired_bootstrap(
    measure: Measure,
    one: Sequence[NDArray],
    other: Sequence[NDArray],
    references: NDArray,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """How much better `one` is than `other`: the difference, and the bounds of its 95 % interval.

    Utterances are drawn with replacement, the same for both systems (Efron and Tibshirani, 1993; percentile interval).
    The interval is that of the test set's sampling; seeds are averaged.

    Args:
        measure: of predictions and references.
        one, other: each system's predictions (n,), one array for each of its seeds.
        references: (n,).

    Raises:
        ValueError: the systems were not judged on the same n utterances.
    """
    if any(len(predictions) != len(references) for predictions in [*one, *other]):
        raise ValueError("A paired bootstrap needs both systems' predictions of the same utterances.")
    drawn = np.random.default_rng(seed).integers(len(references), size=(resamples, len(references)))
    whole = np.arange(len(references))[None]

    def difference(rows: NDArray) -> NDArray:
        of_references = references[rows]
        means = [np.mean([measure(p[rows], of_references) for p in system], axis=0) for system in (one, other)]
        return means[0] - means[1]

    low, high = np.nanpercentile(difference(drawn), [2.5, 97.5])
    return float(difference(whole)[0]), float(low), float(high)


def unweighted_accuracies(predictions: NDArray, references: NDArray) -> NDArray[np.float64]:
    """UA of each resample: the mean recall over the classes that its references have. Class ids (R, n) → (R,)."""
    recalls = []
    for label in np.unique(references):
        of_class = references == label
        with np.errstate(invalid="ignore"):
            recalls.append((of_class & (predictions == label)).sum(1) / of_class.sum(1))  # NaN where there is none
    return np.nanmean(recalls, axis=0)


def concordances(predictions: NDArray, references: NDArray) -> NDArray[np.float64]:
    """CCC of each resample, by population moments: (R, n) → (R,)."""
    x, y = predictions.astype(np.float64), references.astype(np.float64)
    x_mean, y_mean = x.mean(1, keepdims=True), y.mean(1, keepdims=True)
    covariance = ((x - x_mean) * (y - y_mean)).mean(1)
    return 2 * covariance / (x.var(1) + y.var(1) + (x_mean - y_mean)[:, 0] ** 2)
