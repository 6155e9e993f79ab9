"""How sure a number is: intervals over seeds and within one cell, and how sure it is that one method beats another.

Student (1908) for the mean of n seeds, with the spread of several runs pooled where it may be; Wilson (1927) for a
proportion counted on one test set, the bootstrap over its items for other measures. The two kinds answer different
questions (would another training agree? would another test set?), so an estimate carries its basis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, ndtri, stdtrit

LEVEL = 0.05  # of the test of equal spread, over all runs of a column together
MIN_FREEDOM = 4  # of a pool: with fewer degrees of freedom the test would pass nearly anything


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured mean with its interval.

    `basis` is `pooled` (Student's t over n >= 2 seeds with the spread of the column's runs), `seeds` (with the run's
    own spread), `cell` (one seed, the interval is over its test items) or `none` (one seed that brought no interval,
    or seeds that agree to the last digit and have no others to borrow a spread from).
    """

    mean: float
    low: float | None
    high: float | None
    num_seeds: int
    basis: str

    def text(self, digits: int = 1) -> str:
        """`61.2 ± 3.4` over seeds, `61.2 [59.0, 63.3]` within one cell, `61.2` where there is no interval."""
        mean = f"{self.mean:.{digits}f}"
        if self.low is None or self.high is None:
            return mean
        if self.basis in ("pooled", "seeds"):
            return f"{mean} ± {(self.high - self.low) / 2:.{digits}f}"
        return f"{mean} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The standard deviation between seeds, with its degrees of freedom; `num_runs` > 1 where it is pooled."""

    deviation: float
    freedom: int
    num_runs: int = 1

    def half_width(self, count: int, confidence: float = 0.95) -> float:
        """Half the width of Student's t interval for the mean of `count` seeds."""
        return float(stdtrit(self.freedom, 0.5 + confidence / 2)) * self.deviation / math.sqrt(count)


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval for the mean of independent values.

    Raises:
        ValueError: for fewer than two values, whose spread is unknown.
    """
    count = len(values)
    if count < 2:
        raise ValueError(f"received {count} value(s); a t interval needs at least 2, run the cell with another seed")
    mean = math.fsum(values) / count
    half = Spread(deviation=math.sqrt(_squares(values) / (count - 1)), freedom=count - 1).half_width(count, confidence)
    return mean - half, mean + half


def spreads(groups: Sequence[Sequence[float]]) -> list[Spread | None]:
    """How far the seeds of each run of a column lie apart: one spread for all runs that may share it.

    The pool is the mean square within runs of a one-way analysis of variance (Fisher 1925; Snedecor and Cochran,
    "Statistical Methods", 8th ed. 1989, section 12.3). That the runs have one spread is tested, since a mean that is
    better often has less of it: a run's share of the sum of squares follows a beta distribution if they do, and the
    run with the least likely share leaves the pool, again and again, until none is rejected at `LEVEL` over all
    (Cochran 1941, repeated as in ISO 5725-2, 7.3.3; two-sided and for unequal numbers of seeds after 't Lam, "Scrutiny
    of variance results for outliers", Analytica Chimica Acta 659, 2010). Levene's and Brown and Forsythe's tests do
    not exist at two seeds, where both lie equally far from their centre. A run whose seeds agree to the last digit,
    such as one that has no randomness, tells nothing of the spread of others: it is not in the pool but takes its
    spread, since that two seeds agree does not show that a third would.

    Under equal spread 94 to 95 % of the intervals hold the mean at 2, 3 and 5 seeds. With two seeds the test sees only
    what is far apart: among twelve runs the interval of one that spreads three times as widely as the others holds its
    mean in 67 % of cases, with five seeds in 85 %.

    Args:
        groups: for each run the values of its seeds; a run of fewer than two adds nothing to the pool.

    Returns:
        For each run the pool's spread, which a run of one seed takes, too; its own where it was rejected or the pool
        has fewer than `MIN_FREEDOM` degrees of freedom; None where there is neither.
    """
    squares = {i: _squares(values) for i, values in enumerate(groups) if len(values) > 1}
    squares = {i: square for i, square in squares.items() if square > 0}
    freedoms = {i: len(groups[i]) - 1 for i in squares}
    own: list[Spread | None] = [None] * len(groups)
    for i, square in squares.items():
        own[i] = Spread(deviation=math.sqrt(square / freedoms[i]), freedom=freedoms[i])
    pool = list(squares)
    while len(pool) > 1:
        total, freedom = math.fsum(squares[i] for i in pool), sum(freedoms[i] for i in pool)
        shares = {i: betainc(freedoms[i] / 2, (freedom - freedoms[i]) / 2, squares[i] / total) for i in pool}
        odd = min(pool, key=lambda i: min(shares[i], 1 - shares[i]))
        if 2 * len(pool) * min(shares[odd], 1 - shares[odd]) >= LEVEL:
            break
        pool.remove(odd)
    freedom = sum(freedoms[i] for i in pool)
    if len(pool) < 2 or freedom < MIN_FREEDOM:
        return own
    deviation = math.sqrt(math.fsum(squares[i] for i in pool) / freedom)
    shared = Spread(deviation=deviation, freedom=freedom, num_runs=len(pool))
    return [shared if i in pool or spread is None else spread for i, spread in enumerate(own)]


def _squares(values: Sequence[float]) -> float:
    """The sum of squares about the mean; exactly zero where all values are equal, which a rounded mean would hide."""
    if min(values) == max(values):
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)


def difference_interval(ours: Estimate, theirs: Estimate) -> tuple[float, float] | None:
    """The interval of the difference of two independent estimates, from theirs; None where one has none.

    Squares of the distances to the limits add up: for Student's intervals of one pooled spread this is the t interval
    of the difference, for Wilson's it is Newcombe's (method 10 of "Interval estimation for the difference between
    independent proportions", Statistics in Medicine 17, 1998), in general MOVER (Zou and Donner, "Construction of
    confidence limits about effect measures", Statistics in Medicine 27, 2008).
    """
    if ours.low is None or ours.high is None or theirs.low is None or theirs.high is None:
        return None
    difference = ours.mean - theirs.mean
    below = math.hypot(ours.mean - ours.low, theirs.high - theirs.mean)
    above = math.hypot(ours.high - ours.mean, theirs.mean - theirs.low)
    return difference - below, difference + above


def paired_spread(rows: Sequence[Sequence[float]]) -> Spread | None:
    """How far runs that share their seeds lie apart at a seed: the error of a two-way layout of runs and seeds.

    What is left of the values when each run's mean and what a seed adds to all runs are taken away (randomised blocks:
    Snedecor and Cochran, "Statistical Methods", 8th ed. 1989, chapter 14). The difference of two runs' means over n
    seeds has the standard deviation √(2 / n) times this one; with two rows its interval is that of the paired t test.

    Args:
        rows: (runs, seeds), for each run its values in the order of the seeds, all of one length.

    Returns:
        (runs - 1)(seeds - 1) degrees of freedom; None where there are fewer than two of either or nothing is left.
    """
    table = np.asarray(rows, float)
    if table.ndim != 2 or min(table.shape) < 2:
        return None
    left = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    deviation = math.sqrt(float((left**2).sum()) / freedom)
    scale = float(np.abs(table).max())
    return Spread(deviation=deviation, freedom=freedom, num_runs=len(table)) if deviation > 1e-12 * scale else None


def resamples(count: int, draws: int) -> NDArray[np.int64]:
    """Bootstrap samples of `count` test items, always the same: (draws, count), how often each holds each item."""
    return np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=draws)


def percentile_interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """The bootstrap's percentile interval (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).

    Args:
        values: of a measure in each bootstrap sample, nan where a sample does not define it.

    Raises:
        ValueError: where no sample defines it.
    """
    known = values[~np.isnan(values)]
    if not known.size:
        raise ValueError("no bootstrap sample defines the measure; expected one at least")
    low, high = np.quantile(known, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


def wilson(proportion: float, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion.

    Args:
        proportion: successes over trials, a fraction between 0 and 1.
        count: trials, at least 1.
    """
    if not 0 <= proportion <= 1 or count < 1:
        raise ValueError(f"received {proportion} of {count}; expected a fraction between 0 and 1 of at least one trial")
    z = float(ndtri(0.5 + confidence / 2))
    centre = (proportion + z * z / (2 * count)) / (1 + z * z / count)
    spread = z * math.sqrt(proportion * (1 - proportion) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return max(0.0, centre - spread), min(1.0, centre + spread)


def probability_of_improvement(
    scores: Sequence[Sequence[float]], others: Sequence[Sequence[float]], higher_is_better: Sequence[bool]
) -> float:
    """How likely one method is ahead of another on a task drawn at random, each at a seed drawn at random.

    P(X > Y) of Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021,
    arXiv:2108.13264: on each task the share of pairs of seeds in which X is ahead, ties counting one half
    (Mann and Whitney's U over the number of pairs), averaged over tasks.

    Args:
        scores: of X, for each task the values of its seeds.
        others: of Y, likewise; the two may have different numbers of seeds.
        higher_is_better: for each task.

    Returns:
        A fraction between 0 and 1.

    Raises:
        ValueError: without a task, or where a task lacks the values of one of the two.
    """
    shares = []
    for ours, theirs, higher in zip(scores, others, higher_is_better, strict=True):
        if not ours or not theirs:
            raise ValueError(f"received {len(ours)} and {len(theirs)} seeds of a task; expected at least one of each")
        ahead = sum((x > y if higher else x < y) + (x == y) / 2 for x in ours for y in theirs)
        shares.append(ahead / (len(ours) * len(theirs)))
    if not shares:
        raise ValueError("received no task; expected at least one that both were measured on")
    return math.fsum(shares) / len(shares)


def mean_ranks(columns: Sequence[Sequence[float | None]], higher_is_better: Sequence[bool]) -> list[float | None]:
    """Each row's rank averaged over columns, 1 is best, ties share the mean of their places.

    A row that lacks a value in any column has no mean rank: it did not play the same game.
    """
    if not columns:
        return []
    totals: list[float | None] = [0.0] * len(columns[0])
    for column, higher in zip(columns, higher_is_better, strict=True):
        present = [value for value in column if value is not None]
        for row, value in enumerate(column):
            total = totals[row]
            if value is None or total is None:
                totals[row] = None
                continue
            ahead = sum(other > value if higher else other < value for other in present)
            level = sum(other == value for other in present)
            totals[row] = total + ahead + (level + 1) / 2
    return [None if total is None else total / len(columns) for total in totals]
