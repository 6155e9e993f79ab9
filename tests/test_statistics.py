"""Intervals against SciPy's own, probabilities of improvement against draws one by one, and ranks by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats

from pipeline.statistics import (
    Estimate,
    Spread,
    difference_interval,
    mean_ranks,
    paired_spread,
    percentile_interval,
    probability_of_improvement,
    resamples,
    spreads,
    t_interval,
    wilson,
)


@pytest.mark.parametrize("values", [[61.0, 62.7], [83.63, 83.66, 83.52, 83.46], [5.0, 5.0, 5.0, 5.1, 4.9]])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_t_interval_is_scipys(values, confidence):
    expected = stats.t.interval(confidence, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert t_interval(values, confidence) == pytest.approx(expected, rel=1e-9)


def test_t_interval_refuses_one_value():
    with pytest.raises(ValueError, match="received 1 value"):
        t_interval([61.0])


def test_the_pool_is_the_mean_square_within_runs_of_an_analysis_of_variance():
    groups = [[61.0, 62.7], [50.2, 48.9, 49.0], [70.1, 71.0, 70.9, 72.2], [33.0]]
    f = stats.f_oneway(*groups).statistic
    sizes, means = [len(group) for group in groups], [np.mean(group) for group in groups]
    between = np.dot(sizes, (means - np.average(means, weights=sizes)) ** 2) / (len(groups) - 1)
    (shared,) = set(spreads(groups))
    assert (shared.freedom, shared.num_runs) == (6, 3), "one seed adds nothing, but borrows"
    assert shared.deviation**2 == pytest.approx(between / f)
    expected = stats.t.interval(0.9, 6, loc=0, scale=shared.deviation / np.sqrt(3))
    assert shared.half_width(3, 0.9) == pytest.approx(expected[1])


@pytest.mark.parametrize(("num_seeds", "num_runs"), [(2, 5), (2, 12), (3, 4), (5, 4)])
def test_pooled_intervals_hold_the_mean_as_often_as_they_say(num_seeds, num_runs):
    """Runs of equal spread: 94 to 95 % are held, the test of equality included, by intervals narrower than its own."""
    drawn = np.random.default_rng(0).normal(size=(3000, num_runs, num_seeds))
    held, halves = [], []
    for groups in drawn:
        half = [spread.half_width(num_seeds) for spread in spreads(groups.tolist())]
        held.append(np.abs(groups.mean(1)) < half)
        halves += half
    assert np.mean(held) == pytest.approx(0.945, abs=0.012)
    own = stats.t.ppf(0.975, num_seeds - 1) * drawn.std(2, ddof=1) / np.sqrt(num_seeds)
    assert np.median(halves) < 0.9 * np.median(own)


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_runs_of_one_spread_are_seldom_told_apart(num_seeds):
    """The test errs in at most one column of twenty, as Cochran's does (and Bonferroni's bound promises)."""
    drawn = np.random.default_rng(1).normal(size=(3000, 6, num_seeds)).tolist()
    whole = [all(spread.num_runs == 6 for spread in spreads(groups)) for groups in drawn]
    assert 0.935 < np.mean(whole) < 0.97


def test_a_run_that_spreads_otherwise_keeps_its_own_spread():
    rng = np.random.default_rng(4)
    even = rng.normal(50, 1, (8, 3)).tolist()
    wide, narrow = [10.0, 60.0, 90.0], [70.0, 70.001, 70.0005]
    *shared, own_wide, own_narrow = spreads([*even, wide, narrow])
    assert set(shared) == set(spreads(even)) and shared[0].num_runs == 8
    for own, values in ((own_wide, wide), (own_narrow, narrow)):
        assert own == Spread(deviation=pytest.approx(np.std(values, ddof=1)), freedom=2)
    held = [
        abs(np.mean(run)) < spreads([*others, run])[-1].half_width(5)
        for run, others in zip(rng.normal(0, 9, (500, 5)).tolist(), rng.normal(0, 1, (500, 6, 5)).tolist(), strict=True)
    ]
    assert np.mean(held) > 0.93, "what is found to spread more has an interval as wide as it needs"


def test_seeds_that_agree_to_the_last_digit_neither_narrow_the_pool_nor_stand_without_interval():
    even = np.random.default_rng(3).normal(50, 1, (6, 2)).tolist()
    assert spreads([*even, [9.3, 9.3]]) == [*spreads(even), spreads(even)[0]]
    assert spreads([[9.3, 9.3], [0.1 + 0.2] * 3, [7.0]]) == [None, None, None]


def test_too_few_seeds_are_not_pooled():
    three = [[1.0, 2.0], [5.0, 5.5], [7.0, 9.0]]
    assert [spread.num_runs for spread in spreads(three)] == [1, 1, 1]
    assert {spread.num_runs for spread in spreads([*three, [4.0, 5.0]])} == {4}
    assert spreads([]) == []


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
    assert Estimate(**common, basis="seeds").text() == Estimate(**common, basis="pooled").text() == "61.2 ± 11.2"
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


def estimated(mean, interval, num_seeds=1):
    return Estimate(mean=mean, low=interval[0], high=interval[1], num_seeds=num_seeds, basis="cell")


def test_the_difference_of_two_proportions_has_newcombes_interval():
    """Newcombe 1998, table II, column (a): 56/70 against 48/80, method 10."""
    ours, theirs = (estimated(count / of, wilson(count / of, of)) for count, of in ((56, 70), (48, 80)))
    assert difference_interval(ours, theirs) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_difference_of_two_means_of_one_spread_has_students_interval():
    ours, theirs = [3.0, 5.0, 4.0], [1.0, 2.0, 3.0]
    shared, _ = spreads([ours, theirs, [7.0, 8.0, 9.5]])[:2]
    intervals = [(np.mean(v) - shared.half_width(3), np.mean(v) + shared.half_width(3)) for v in (ours, theirs)]
    found = difference_interval(estimated(4.0, intervals[0], 3), estimated(2.0, intervals[1], 3))
    half = stats.t.ppf(0.975, shared.freedom) * shared.deviation * np.sqrt(2 / 3)
    assert found == pytest.approx((2.0 - half, 2.0 + half))


def test_a_difference_without_intervals_has_none():
    assert difference_interval(estimated(4.0, (None, None)), estimated(2.0, (1.0, 3.0))) is None


def test_the_bootstrap_holds_a_mean_nearly_as_often_as_it_says():
    """At 60 items the percentile interval is a little too short: about 94 of 100 where 95 are promised."""
    rng, weights = np.random.default_rng(3), resamples(60, 1000) / 60
    samples = rng.normal(size=(1000, 60))
    intervals = [percentile_interval(weights @ sample) for sample in samples]
    assert 0.92 < np.mean([low < 0 < high for low, high in intervals]) < 0.965


def test_bootstrap_samples_are_as_large_as_the_set_and_always_the_same():
    drawn = resamples(7, 50)
    assert (drawn.sum(axis=1) == 7).all() and (drawn == resamples(7, 50)).all() and len(np.unique(drawn, axis=0)) > 40


def test_draws_that_do_not_define_a_measure_are_left_out_and_none_is_refused():
    assert percentile_interval(np.array([np.nan, 1.0, 2.0, 3.0])) == pytest.approx((1.05, 2.95))
    with pytest.raises(ValueError, match="no bootstrap sample defines"):
        percentile_interval(np.array([np.nan]))


def test_the_paired_spread_of_two_runs_is_that_of_the_paired_t_test():
    ours, theirs = [61.2, 63.0, 60.1, 64.4], [58.0, 60.9, 58.8, 60.2]
    found = paired_spread([ours, theirs])
    low, high = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.freedom == 3
    assert found.half_width(4) * np.sqrt(2) == pytest.approx((high - low) / 2)


def test_the_paired_spread_is_the_error_of_randomised_blocks():
    """The F statistic of runs from it is what regression on indicators of runs and seeds gives."""
    rows = np.random.default_rng(5).normal(size=(4, 3)) + np.arange(3)
    found = paired_spread(rows)
    runs, seeds = (
        np.eye(count)[where.ravel()] for count, where in zip(rows.shape, np.indices(rows.shape), strict=True)
    )
    design = np.hstack([runs, seeds])
    left = rows.ravel() - design @ np.linalg.lstsq(design, rows.ravel(), rcond=None)[0]
    assert (found.freedom, found.num_runs) == (6, 4)
    assert found.deviation**2 == pytest.approx(left @ left / 6)


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_paired_intervals_hold_the_difference_as_often_as_they_say_whatever_the_seeds_add(num_seeds):
    rng = np.random.default_rng(6)
    held = []
    for _ in range(2000):
        rows = rng.normal(size=(4, num_seeds)) + 5 * rng.normal(size=num_seeds)
        half = paired_spread(rows).half_width(num_seeds) * np.sqrt(2)
        held.append(abs((rows[0] - rows[1]).mean()) < half)
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("rows", [[], [[1.0, 2.0]], [[1.0], [2.0]], [[0.1, 0.2, 0.3], [1.1, 1.2, 1.3]]])
def test_without_what_runs_and_seeds_leave_there_is_no_paired_spread(rows):
    assert paired_spread(rows) is None
