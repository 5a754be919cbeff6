"""Mean and deviation over seeds, and the paired bootstrap, against plain Python and NumPy."""

import statistics
import tracemalloc

import numpy as np
import pytest

from modeling_mmer.evaluation.statistics import (
    CONCORDANCE,
    UNWEIGHTED_ACCURACY,
    bootstrap_interval,
    mean_and_deviation,
    paired_bootstrap,
)


def ua(predictions, references) -> float:
    hit = predictions == references
    return float(np.mean([hit[references == label].mean() for label in np.unique(references)]))


def ccc(x, y) -> float:
    return 2 * np.cov(x, y, bias=True)[0, 1] / (np.var(x) + np.var(y) + (x.mean() - y.mean()) ** 2)


def test_mean_and_deviation_are_those_of_a_sample():
    values = [0.5, 0.75, 0.625]
    mean, deviation = mean_and_deviation(values)
    assert mean == pytest.approx(statistics.mean(values)) and deviation == pytest.approx(statistics.stdev(values))
    assert mean_and_deviation([0.25]) == (0.25, None)


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [("abba", (1 / 2 + 1 + 0) / 3), ("aabc", 1), ("zzzz", 0)],  # z is no class of the references
)
def test_unweighted_accuracy_is_the_mean_recall(predictions, expected):
    assert UNWEIGHTED_ACCURACY(np.array([*predictions]), np.array([*"aabc"])) == pytest.approx(expected)


def test_concordance_is_that_of_population_moments():
    generator = np.random.default_rng(0)
    x, y = generator.normal(5, 1, 20), generator.normal(4, 2, 20)
    assert CONCORDANCE(x, y) == pytest.approx(ccc(x, y))
    assert np.isnan(CONCORDANCE(np.full(3, 0.1), np.full(3, 0.1)))


@pytest.mark.parametrize("measure", [UNWEIGHTED_ACCURACY, CONCORDANCE])
def test_a_system_is_no_better_than_itself(measure):
    references = np.arange(40) % 2 + 0.1
    predictions = np.where(np.arange(40) % 3 == 0, 0.1, references)
    assert paired_bootstrap(measure, [predictions], [predictions.copy()], references) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("measure", "by_hand"), [(UNWEIGHTED_ACCURACY, ua), (CONCORDANCE, ccc)])
def test_the_interval_is_that_of_resampling_by_hand_with_seeds_averaged(measure, by_hand):
    generator = np.random.default_rng(3)
    references = generator.integers(1, 4, 50).astype(float)
    noisy = [np.round(references + generator.normal(0, 0.3 + 0.3 * i, 50)) for i in range(5)]
    one, other = noisy[:3], noisy[3:]
    value, low, high = paired_bootstrap(measure, one, other, references, resamples=400, seed=7)

    def difference(rows) -> float:
        figures = [[by_hand(seed[rows], references[rows]) for seed in system] for system in (one, other)]
        return np.mean(figures[0]) - np.mean(figures[1])

    drawn = [difference(rows) for rows in np.random.default_rng(7).integers(50, size=(400, 50))]
    assert value == pytest.approx(difference(np.arange(50)))
    assert (low, high) == pytest.approx((np.quantile(drawn, 0.025), np.quantile(drawn, 0.975)))


def test_pairing_narrows_the_interval():
    generator = np.random.default_rng(1)
    references = generator.choice(["a", "b", "c"], size=300)
    one = np.where(generator.random(300) < 0.7, references, "a")
    other = np.where(generator.random(300) < 0.05, "b", one)  # nearly the same answers
    value, low, high = paired_bootstrap(UNWEIGHTED_ACCURACY, [one], [other], references)
    assert value == pytest.approx(ua(one, references) - ua(other, references))
    assert low < value < high and high - low < 0.08  # unpaired, of 300 utterances, it would be twice as wide
    with pytest.raises(ValueError, match="same utterances"):
        paired_bootstrap(UNWEIGHTED_ACCURACY, [one], [other[:10]], references)


def test_rows_of_one_utterance_are_drawn_together():
    generator = np.random.default_rng(2)
    references = generator.normal(size=60)
    one, other = references + generator.normal(size=60), references + 2 * generator.normal(size=60)
    once = paired_bootstrap(CONCORDANCE, [one], [other], references)
    repeated = [np.concatenate([values] * 5) for values in (one, other, references, np.arange(60))]
    together = paired_bootstrap(CONCORDANCE, [repeated[0]], [repeated[1]], *repeated[2:])
    assert together == pytest.approx(once)  # five times the same rows know no more
    apart = paired_bootstrap(CONCORDANCE, [repeated[0]], [repeated[1]], repeated[2])
    assert apart[2] - apart[1] < 0.6 * (once[2] - once[1])


def test_a_test_set_of_the_papers_size_takes_megabytes():
    generator = np.random.default_rng(0)
    references = np.array(["neutral", "happiness", "sadness", "anger"])[generator.integers(4, size=30_647)]
    predictions = [np.where(generator.random(30_647) < p, references, "neutral") for p in (0.6, 0.6, 0.5)]
    tracemalloc.start()
    value, low, high = paired_bootstrap(
        UNWEIGHTED_ACCURACY, predictions[:2], predictions[2:], references, resamples=400
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.05 < low < value < high < 0.1
    assert peak < 60e6  # the draws alone, of all resamples at once, are 98 MB


def test_the_interval_of_one_system_is_that_of_its_sampling():
    """With one class, UA is a share of hits: its resamples are binomial, with a deviation of √(p(1 − p)/n)."""
    predictions, references = np.array(["a"] * 300 + ["b"] * 100), np.array(["a"] * 400)
    low, high = bootstrap_interval(UNWEIGHTED_ACCURACY, predictions, references)
    margin = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert low == pytest.approx(0.75 - margin, abs=0.01) and high == pytest.approx(0.75 + margin, abs=0.01)
    x = np.random.default_rng(0).normal(size=50)
    assert bootstrap_interval(CONCORDANCE, x, x) == pytest.approx((1, 1))
