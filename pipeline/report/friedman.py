"""Whether methods differ in rank over many tasks, and which: Friedman's test and Nemenyi's critical difference.

After Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", Journal of Machine Learning Research 7,
2006, section 3.2.2. Nothing but ranks is looked at: neither how far methods are apart nor how sure each number is, for
which see `statistics.probability_of_improvement` (Agarwal et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Demšar's rule of thumb for χ² is N > 10 and k > 5; with fewer methods F errs as often as it says all the same (tests).
LEAST_TASKS = 11
LEAST_METHODS = 3  # of two a critical difference says no more than a sign test


@dataclass(frozen=True, kw_only=True)
class Friedman:
    """Mean ranks of k methods over N tasks, 1 is best, and what they show.

    f: Iman and Davenport's statistic; p: its probability if no method were better than another.
    critical: two methods differ (Nemenyi, 5 % over all pairs) if their mean ranks are at least so far apart.
    """

    ranks: tuple[float, ...]
    chi2: float
    f: float
    p: float
    critical: float
    num_tasks: int

    @property
    def groups(self) -> list[tuple[int, ...]]:
        """The largest sets of two methods or more that are not told apart, each from the best on."""
        order = sorted(range(len(self.ranks)), key=lambda i: self.ranks[i])
        found: list[tuple[int, ...]] = []
        for start, first in enumerate(order):
            group = tuple(i for i in order[start:] if self.ranks[i] - self.ranks[first] < self.critical)
            if len(group) > 1 and not any(set(group) <= set(other) for other in found):
                found.append(group)
        return found


def friedman(scores: Sequence[Sequence[float]], higher_is_better: Sequence[bool]) -> Friedman:
    """Compare methods over tasks.

    Args:
        scores: (tasks, methods), ties share the mean of their places.
        higher_is_better: for each task.

    Raises:
        ValueError: for fewer than two tasks or methods.
    """
    from scipy import stats  # which takes a second, and most studies have fewer tasks

    table = np.asarray(scores, float)
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError(f"received scores of shape {table.shape}; expected two tasks and two methods at least")
    signs = np.where(np.asarray(higher_is_better), -1, 1)[:, None]
    ranks = stats.rankdata(signs * table, axis=1).mean(0)
    num_tasks, num_methods = table.shape
    apart = float((ranks**2).sum()) - num_methods * (num_methods + 1) ** 2 / 4
    chi2 = 12 * num_tasks / (num_methods * (num_methods + 1)) * apart
    most = num_tasks * (num_methods - 1)  # all tasks rank the methods alike
    f = math.inf if chi2 > most - 1e-9 else (num_tasks - 1) * chi2 / (most - chi2)
    return Friedman(
        ranks=tuple(float(rank) for rank in ranks),
        chi2=chi2,
        f=f,
        p=float(stats.f.sf(f, num_methods - 1, (num_methods - 1) * (num_tasks - 1))),
        critical=nemenyi(num_methods) * math.sqrt(num_methods * (num_methods + 1) / (6 * num_tasks)),
        num_tasks=num_tasks,
    )


def nemenyi(num_methods: int, level: float = 0.05) -> float:
    """The critical value q of Nemenyi's test: of the Studentised range, by √2 (Demšar's Table 5a)."""
    from scipy import stats

    return float(stats.studentized_range.ppf(1 - level, num_methods, math.inf)) / math.sqrt(2)
