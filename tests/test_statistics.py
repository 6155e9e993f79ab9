"""Intervals against SciPy's own, probabilities of improvement against draws one by one, and ranks by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats

from pipeline.statistics import Estimate, mean_ranks, probability_of_improvement, t_interval, wilson


@pytest.mark.parametrize("values", [[61.0, 62.7], [83.63, 83.66, 83.52, 83.46], [5.0, 5.0, 5.0, 5.1, 4.9]])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_t_interval_is_scipys(values, confidence):
    expected = stats.t.interval(confidence, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert t_interval(values, confidence) == pytest.approx(expected, rel=1e-9)


def test_t_interval_refuses_one_value():
    with pytest.raises(ValueError, match="received 1 value"):
        t_interval([61.0])


@pytest.mark.parametrize(("successes", "count"), [(0, 10), (10, 10), (1, 2), (306, 500), (41_832, 50_000)])
def test_wilson_is_scipys(successes, count):
    expected = stats.binomtest(successes, count).proportion_ci(0.95, method="wilson")
    assert wilson(successes / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("proportion", "count"), [(61.2, 500), (-0.1, 5), (0.5, 0)])
def test_wilson_refuses_what_is_no_proportion(proportion, count):
    with pytest.raises(ValueError, match="expected a fraction between 0 and 1"):
        wilson(proportion, count)


def test_estimates_say_what_their_interval_is_over():
    common = {"mean": 61.25, "low": 50.0, "high": 72.5, "num_seeds": 2}
    assert Estimate(**common, basis="seeds").text() == "61.2 ± 11.2"
    assert Estimate(**common, basis="cell").text() == "61.2 [50.0, 72.5]"
    assert Estimate(mean=61.25, low=None, high=None, num_seeds=1, basis="none").text(2) == "61.25"


def test_the_probability_of_improvement_is_what_drawing_every_pair_gives():
    rng = np.random.default_rng(0)
    higher = [True, False, True]
    ours = [rng.integers(0, 4, size).tolist() for size in (3, 5, 1)]  # few values, so that there are ties
    theirs = [rng.integers(0, 4, size).tolist() for size in (4, 2, 3)]
    shares = []
    for x, y, up in zip(ours, theirs, higher, strict=True):
        points = [0.5 if a == b else float((a > b) == up) for a, b in itertools.product(x, y)]
        shares.append(np.mean(points))
        u = stats.mannwhitneyu(x if up else y, y if up else x).statistic
        share = u / (len(x) * len(y))
        assert shares[-1] == pytest.approx(share)
    assert 0 < np.mean(shares) < 1
    assert probability_of_improvement(ours, theirs, higher) == pytest.approx(np.mean(shares))
    assert probability_of_improvement(theirs, ours, higher) == pytest.approx(1 - np.mean(shares))


def test_tasks_weigh_the_same_whatever_their_seeds():
    assert probability_of_improvement([[1.0], [0.0] * 9], [[0.0], [1.0] * 9], [True, True]) == 0.5
    assert probability_of_improvement([[5.0]], [[5.0]], [True]) == 0.5


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([[]], [[1.0]]), ([[1.0]], [[]])])
def test_an_improvement_over_nothing_is_refused(ours, theirs):
    with pytest.raises(ValueError, match="expected at least one"):
        probability_of_improvement(ours, theirs, [True] * len(ours))


def test_ranks_follow_direction_share_ties_and_skip_gaps():
    accuracy, loss = [70.0, 60.0, 60.0, None], [0.3, 0.1, 0.2, 0.4]
    assert mean_ranks([accuracy, loss], [True, False]) == [2.0, 1.75, 2.25, None]
