"""Statistics over seeds and test utterances: mean, standard deviation, and the paired bootstrap.

Shapes: n rows, R resamples, P sums that a measure is computed from.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BLOCK = 2**20  # utterances drawn at once, which takes about 30 MB


@dataclass(frozen=True)
class Measure:
    """A metric that is a function of sums over rows, so that resampling only reweights the rows.

    Args:
        terms: predictions and references (n,) → the terms to sum (n, P).
        value: sums (R, P) → the metric of each resample (R,).
    """

    terms: Callable[[NDArray, NDArray], NDArray[np.float64]]
    value: Callable[[NDArray[np.float64]], NDArray[np.float64]]

    def __call__(self, predictions: NDArray, references: NDArray) -> float:
        return float(self.value(self.terms(predictions, references).sum(0, keepdims=True))[0])


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the sample standard deviation (n − 1); None for a single value."""
    values = np.asarray(values, dtype=np.float64)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None


def paired_bootstrap(
    measure: Measure,
    one: Sequence[NDArray],
    other: Sequence[NDArray],
    references: NDArray,
    utterances: NDArray | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """The difference in a metric between systems `one` and `other`, and the bounds of its 95 % interval.

    The same utterances are drawn with replacement for both systems (Efron and Tibshirani, 1993; percentile interval).
    The interval covers the sampling of the test set. Metrics are averaged over seeds.

    Args:
        measure: the metric.
        one, other: predictions (n,) of each system, one array per seed.
        references: (n,).
        utterances: the utterance of each row (n,), if utterances may have several rows (one per fold). The rows of an
            utterance are drawn together.

    Raises:
        ValueError: the systems were not evaluated on the same n rows.
    """
    if any(len(predictions) != len(references) for predictions in [*one, *other]):
        raise ValueError("A paired bootstrap needs predictions of both systems for the same utterances.")
    seeds = [measure.terms(predictions, references) for predictions in [*one, *other]]
    terms = np.stack(seeds, axis=1)  # (n, seeds of both, P)
    if utterances is not None:
        groups = np.unique(utterances, return_inverse=True)[1]
        terms = np.stack([np.bincount(groups, column) for column in terms.reshape(len(terms), -1).T], axis=1)
        terms = terms.reshape(-1, len(seeds), seeds[0].shape[1])

    def difference(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        figures = [measure.value(seed_sums) for seed_sums in np.moveaxis(sums, 1, 0)]
        means = np.mean(figures[: len(one)], axis=0), np.mean(figures[len(one) :], axis=0)
        return np.round(means[0] - means[1], 12)  # so that rounding does not make equal systems differ

    drawn = np.concatenate([difference(sums) for sums in _resampled(terms, resamples, seed)])
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(difference(terms.sum(0, keepdims=True))[0]), float(low), float(high)


def bootstrap_interval(
    measure: Measure, predictions: NDArray, references: NDArray, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The bounds of the 95 % percentile interval of a metric, over resamples of its rows.

    Args:
        measure: the metric.
        predictions, references: (n,).
    """
    terms = measure.terms(predictions, references)
    drawn = np.concatenate([measure.value(sums) for sums in _resampled(terms, resamples, seed)])
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def _resampled(terms: NDArray[np.float64], resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """The sums of all resamples, in blocks. Each utterance counts as often as it was drawn."""
    generator, n = np.random.default_rng(seed), len(terms)
    flat = terms.reshape(n, -1)
    block = max(1, _BLOCK // n)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.integers(n, size=(size, n))
        drawn += n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        yield (counts @ flat).reshape(size, *terms.shape[1:])


def _recall_terms(predictions: NDArray, references: NDArray) -> NDArray[np.float64]:
    """For each class: whether a row belongs to it, and whether it was predicted correctly."""
    of_class = np.unique(references, return_inverse=True)[1][:, None] == np.arange(len(np.unique(references)))
    return np.hstack([of_class, of_class & (predictions == references)[:, None]]).astype(np.float64)


def _mean_recall(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    rows, hits = np.split(sums, 2, axis=1)
    with np.errstate(invalid="ignore"):
        return np.nanmean(hits / rows, axis=1)  # NaN where a resample has no row of a class


def _moments(predictions: NDArray, references: NDArray) -> NDArray[np.float64]:
    x, y = (np.asarray(values, dtype=np.float64) - np.mean(references) for values in (predictions, references))
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def _concordance(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, xx, yy, xy = (sums[:, 1:] / sums[:, :1]).T
    apart = xx - x * x + yy - y * y + (x - y) ** 2
    defined = apart > 1e-12 * (xx + yy)  # otherwise predictions and references are constant and equal: NaN
    return 2 * (xy - x * y) / np.where(defined, apart, np.nan)


UNWEIGHTED_ACCURACY = Measure(_recall_terms, _mean_recall)  # mean recall over the classes in the references
CONCORDANCE = Measure(_moments, _concordance)  # CCC with population moments
