"""Places and how sure they are: mean ranks, and intervals of them and of the odds that one run beats another.

After Goldstein and Spiegelhalter, "League Tables and Their Limitations", Journal of the Royal Statistical Society A
159, 1996: what was measured is drawn again many times within its uncertainty, and the middle 95 % of the places that
come out are the interval. Columns are drawn independently of one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from pipeline.config import Track
from pipeline.report.grid import Grid
from pipeline.statistics import mean_ranks

DRAWS = 4000
Draws = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where the runs of a track stand: mean ranks and their intervals over the ranking tasks, the best run first."""

    tasks: tuple[str, ...]  # that all runs have; all of the track's where there is none
    order: tuple[str, ...]
    places: Mapping[str, float | None]
    spans: Mapping[str, tuple[float, float] | None]

    @property
    def ranked(self) -> tuple[str, ...]:
        """The runs that have a mean rank."""
        return tuple(run for run in self.order if self.places[run] is not None)


def standing(grid: Grid, track: Track) -> Standing:
    """Rank the runs of a track by all headline metrics of the tasks that they have in common."""
    return grid.once(("standing", track.title), lambda: _standing(grid, track))


def _standing(grid: Grid, track: Track) -> Standing:
    runs = track.runs
    shared = [task for task in track.tasks if set(grid.study.tasks[task].runs) == set(runs)]
    tasks = tuple(shared or track.tasks)
    pairs = [(task, metric) for task in tasks for metric in grid.headline(task)]
    higher = [grid.higher_is_better(task, metric) for task, metric in pairs]
    found = [[grid.estimate(task, run, metric) for run in runs] for task, metric in pairs]
    columns = [[None if one is None else one.mean for one in column] for column in found]
    places = dict(zip(runs, mean_ranks(columns, higher) or [None] * len(runs), strict=True))
    return Standing(
        tasks=tasks,
        order=tuple(sorted(runs, key=lambda run: (places[run] is None, places[run] or 0.0))),
        places=places,
        spans=dict(zip(runs, rank_intervals(grid, pairs, higher, runs), strict=True)),
    )


def rank_intervals(
    grid: Grid, pairs: Sequence[tuple[str, str]], higher_is_better: Sequence[bool], runs: Sequence[str]
) -> list[tuple[float, float] | None]:
    """Intervals of the mean ranks of `statistics.mean_ranks`, None for a run without a rank.

    None for all where the spread between the seeds of one of them is not known. Each pair is a task and its metric.
    """
    total, ranked = np.zeros((DRAWS, len(runs))), np.ones(len(runs), bool)
    for (task, metric), higher in zip(pairs, higher_is_better, strict=True):
        drawn = [_draw(grid, task, metric, run) for run in runs]
        measured = [grid.estimate(task, run, metric) is not None for run in runs]
        if any(have and one is None for have, one in zip(measured, drawn, strict=True)):
            return [None] * len(runs)
        ranked &= np.array(measured)
        means = np.stack([np.full(DRAWS, -np.inf) if one is None else one[0] * (1 if higher else -1) for one in drawn])
        total += 1 + np.argsort(np.argsort(-means.T, axis=1, kind="stable"), axis=1)
    return [_middle(total[:, i] / len(pairs)) if pairs and ranked[i] else None for i in range(len(runs))]


def improvement_interval(
    grid: Grid, pairs: Sequence[tuple[str, str]], higher_is_better: Sequence[bool], run: str, other: str
) -> tuple[float, float] | None:
    """Interval of the probability of improvement if seeds are normal; None where their spread is not known."""
    chances = []
    for (task, metric), higher in zip(pairs, higher_is_better, strict=True):
        ours, theirs = _draw(grid, task, metric, run), _draw(grid, task, metric, other)
        if ours is None or theirs is None:
            return None
        lead, deviation = (ours[0] - theirs[0]) * (1 if higher else -1), np.hypot(ours[1], theirs[1])
        chances.append(ndtr(lead / deviation))
    return _middle(np.mean(chances, axis=0)) if chances else None


def _draw(grid: Grid, task: str, metric: str, run: str) -> tuple[Draws, Draws] | None:
    """Draws of a run's true mean and of the standard deviation between its seeds; None where that is not known.

    Runs that share a spread are drawn with the same one, in all places where they are drawn.
    """
    estimate, spread = grid.estimate(task, run, metric), grid.spread(task, metric, run)
    if estimate is None or spread is None:
        return None
    chi2 = np.random.default_rng(0).chisquare(spread.freedom, DRAWS)
    deviation = spread.deviation * np.sqrt(spread.freedom / chi2)
    rng = np.random.default_rng([list(grid.study.runs).index(run), *f"{task} {metric}".encode()])
    return estimate.mean + deviation * rng.standard_normal(DRAWS) / np.sqrt(estimate.num_seeds), deviation


def _middle(values: Draws) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
