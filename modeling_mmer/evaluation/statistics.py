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
        one: predictions (n,) of one system, one array per seed.
        other: those of the other.
        references: (n,).
        utterances: the utterance of each row (n,), if utterances may have several rows (one per fold). The rows of an
            utterance are drawn together.

    Raises:
        ValueError: the systems were not evaluated on the same n rows.
    """
    if any(len(predictions) != len(references) for predictions in [*one, *other]):
        raise ValueError("A paired bootstrap needs predictions of both systems for the same utterances.")
    terms = _terms_of_utterances(measure, [*one, *other], references, utterances)

    def difference(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        means = _mean(measure, sums[:, : len(one)]), _mean(measure, sums[:, len(one) :])
        return np.round(means[0] - means[1], 12)  # so that rounding does not make equal systems differ

    return _percentiles(difference, terms, resamples, seed)


def bootstrap_mean(
    measure: Measure,
    runs: Sequence[NDArray],
    references: NDArray,
    utterances: NDArray | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """A metric, averaged over runs, and the bounds of its 95 % interval. All runs are judged on the same resamples.

    Args:
        measure: the metric.
        runs: predictions (n,), one array per run.
        references: (n,).
        utterances: as for [`paired_bootstrap`].
    """
    terms = _terms_of_utterances(measure, runs, references, utterances)
    return _percentiles(lambda sums: _mean(measure, sums), terms, resamples, seed)


def bootstrap_interval(
    measure: Measure, predictions: NDArray, references: NDArray, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The bounds of the 95 % percentile interval of a metric, over resamples of its rows.

    Args:
        measure: the metric.
        predictions: (n,).
        references: (n,).
    """
    _, low, high = bootstrap_mean(measure, [predictions], references, resamples=resamples, seed=seed)
    return low, high


def _terms_of_utterances(
    measure: Measure, runs: Sequence[NDArray], references: NDArray, utterances: NDArray | None
) -> NDArray[np.float64]:
    """The terms of all runs, summed over the rows of each utterance: (utterances, runs, P)."""
    of_runs = [measure.terms(predictions, references) for predictions in runs]
    terms = np.stack(of_runs, axis=1)  # (n, runs, P)
    if utterances is None:
        return terms
    groups = np.unique(utterances, return_inverse=True)[1]
    terms = np.stack([np.bincount(groups, column) for column in terms.reshape(len(terms), -1).T], axis=1)
    return terms.reshape(-1, *np.shape(of_runs)[::2])


def _mean(measure: Measure, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums (R, runs, P) → the metric of each resample, averaged over the runs (R,)."""
    return np.mean([measure.value(of_run) for of_run in np.moveaxis(sums, 1, 0)], axis=0)


def _percentiles(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    terms: NDArray[np.float64],
    resamples: int,
    seed: int,
) -> tuple[float, float, float]:
    """A statistic of sums of terms, and the percentiles 2.5 and 97.5 over resamples of the utterances."""
    drawn = np.concatenate([statistic(sums) for sums in _resampled(terms, resamples, seed)])
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(statistic(terms.sum(0, keepdims=True))[0]), float(low), float(high)


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
