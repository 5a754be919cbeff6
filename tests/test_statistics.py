"""Mean and deviation over seeds, and the paired bootstrap, against plain Python and NumPy."""

import statistics

import numpy as np
import pytest

from modeling_mmer.statistics import concordances, mean_and_deviation, paired_bootstrap, unweighted_accuracies


def test_mean_and_deviation_are_those_of_a_sample():
    values = [0.5, 0.75, 0.625]
    mean, deviation = mean_and_deviation(values)
    assert mean == pytest.approx(statistics.mean(values)) and deviation == pytest.approx(statistics.stdev(values))
    assert mean_and_deviation([0.25]) == (0.25, None)


def test_unweighted_accuracy_of_each_resample():
    references = np.array([["a", "a", "b", "c"], ["a", "b", "b", "b"]])
    predictions = np.array([["a", "b", "b", "a"], ["a", "b", "c", "c"]])
    expected = [(1 / 2 + 1 + 0) / 3, (1 + 1 / 3) / 2]  # the second has no c among its references
    np.testing.assert_allclose(unweighted_accuracies(predictions, references), expected)


def test_concordance_of_each_resample():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(3, 20)), generator.normal(size=(3, 20))
    expected = [
        2 * np.cov(a, b, bias=True)[0, 1] / (np.var(a) + np.var(b) + (a.mean() - b.mean()) ** 2)
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(concordances(x, y), expected)


def test_a_system_is_no_better_than_itself():
    references = np.array(["a", "b"] * 20)
    predictions = np.where(np.arange(40) % 3 == 0, "a", references)
    same = paired_bootstrap(unweighted_accuracies, [predictions], [predictions.copy()], references)
    assert same == (0.0, 0.0, 0.0)


def test_the_interval_is_that_of_resampling_by_hand():
    generator = np.random.default_rng(3)
    references = generator.normal(size=50)
    one, other = references + generator.normal(size=50), references + 2 * generator.normal(size=50)
    value, low, high = paired_bootstrap(concordances, [one], [other], references, resamples=400, seed=7)

    def ccc(x, y):
        return 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)

    drawn = np.random.default_rng(7).integers(50, size=(400, 50))
    by_hand = [ccc(one[rows], references[rows]) - ccc(other[rows], references[rows]) for rows in drawn]
    assert value == pytest.approx(ccc(one, references) - ccc(other, references))
    assert (low, high) == pytest.approx((np.quantile(by_hand, 0.025), np.quantile(by_hand, 0.975)))


def test_seeds_are_averaged_and_pairing_narrows_the_interval():
    generator = np.random.default_rng(1)
    references = generator.choice(["a", "b", "c"], size=300)
    one = np.where(generator.random(300) < 0.7, references, "a")
    other = np.where(generator.random(300) < 0.05, "b", one)  # nearly the same answers
    value, low, high = paired_bootstrap(unweighted_accuracies, [one, one], [other], references)
    assert value == pytest.approx(
        unweighted_accuracies(one[None], references[None])[0] - unweighted_accuracies(other[None], references[None])[0]
    )
    assert low < value < high and high - low < 0.08  # unpaired, of 300 utterances, it would be twice as wide
    with pytest.raises(ValueError, match="same utterances"):
        paired_bootstrap(unweighted_accuracies, [one], [other[:10]], references)
