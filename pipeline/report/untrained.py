"""What pretraining buys: each run of a track against the best of its untrained encoders, task by task."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import Track
from pipeline.report.grid import Grid
from pipeline.statistics import Estimate, difference_interval

UNTRAINED, LABELLED = "random", "supervised"  # modules of the methods that others are held against


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A run beside an untrained one on a task, by its first metric; `low` and `high` bound how far it is ahead.

    The bounds are None where one of the two has no interval; then any lead counts as one, and any arrears. The two are
    taken for independent: where both were tested on the same items, bounds are too wide, as a rule, and not too narrow.
    """

    task: str
    metric: str
    run: str
    ours: Estimate
    theirs: Estimate
    lead: float
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        """`ahead` or `behind` by more than the interval, `level` within it."""
        low, high = (self.lead, self.lead) if self.low is None or self.high is None else (self.low, self.high)
        return "ahead" if low > 0 else "behind" if high < 0 else "level"


def is_untrained(grid: Grid, run: str) -> bool:
    """Whether nothing was learned by a run."""
    return _module(grid, run) == UNTRAINED


def is_reference(grid: Grid, run: str) -> bool:
    """Whether a run is there for others to be held against: untrained, or supervised with all labels."""
    return _module(grid, run) in (UNTRAINED, LABELLED)


def _module(grid: Grid, run: str) -> str:
    own = grid.study.runs[run]
    return own.head.method or own.method


def gains(grid: Grid, track: Track) -> list[Gain]:
    """Every trained run of a track on every task on which an untrained one was measured as well."""
    found = []
    for task in track.tasks:
        metric, runs = grid.headline(task)[0], grid.study.tasks[task].runs
        sign = 1 if grid.higher_is_better(task, metric) else -1
        estimates = {run: one for run in runs if (one := grid.estimate(task, run, metric)) is not None}
        floor = [one for run, one in estimates.items() if is_untrained(grid, run)]
        if not floor:
            continue
        best = max(floor, key=lambda one: sign * one.mean)
        for run, ours in estimates.items():
            if is_untrained(grid, run):
                continue
            low, high = difference_interval(ours, best) or (None, None)
            if sign < 0 and low is not None and high is not None:
                low, high = -high, -low
            lead = sign * (ours.mean - best.mean)
            found.append(Gain(task=task, metric=metric, run=run, ours=ours, theirs=best, lead=lead, low=low, high=high))
    return found


def not_ahead(grid: Grid, track: Track) -> dict[str, list[str]]:
    """For each run the short names of the tasks on which it is not ahead of an untrained encoder, if there are any."""
    found: dict[str, list[str]] = {}
    for gain in gains(grid, track):
        if gain.verdict in ("level", "behind"):
            found.setdefault(gain.run, []).append(grid.study.short(gain.task))
    return found
