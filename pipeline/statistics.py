"""How sure a number is: intervals over seeds and within one cell, and how sure it is that one method beats another.

Student (1908) for the mean of n seeds; Wilson (1927) for a proportion counted on one test set. The two answer
different questions (would another training agree? would another test set?), so an estimate carries its basis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured mean with its interval.

    `basis` is `seeds` (Student's t over n >= 2 seeds), `cell` (one seed, the interval is over its test items)
    or `none` (one seed that brought no interval).
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
        if self.basis == "seeds":
            return f"{mean} ± {(self.high - self.low) / 2:.{digits}f}"
        return f"{mean} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval for the mean of independent values.

    Raises:
        ValueError: for fewer than two values, whose spread is unknown.
    """
    count = len(values)
    if count < 2:
        raise ValueError(f"received {count} value(s); a t interval needs at least 2, run the cell with another seed")
    mean = math.fsum(values) / count
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(stdtrit(count - 1, 0.5 + confidence / 2)) * deviation / math.sqrt(count)
    return mean - half, mean + half


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
