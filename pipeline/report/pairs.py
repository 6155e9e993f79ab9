"""Any two runs side by side: what the page of comparisons needs of all of them, in a size that grows with the cells.

Differences are formed in the page, since there are as many pairs as runs squared. What is uncertain about them is
settled here: the spread at a seed, Student's factors and each run's own interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.special import stdtrit

from pipeline.config import flatten
from pipeline.report import words
from pipeline.report.costs import duration, sample_unit, samples_per_second
from pipeline.report.curves import Panel
from pipeline.report.effort import cost_of
from pipeline.report.grid import Grid
from pipeline.report.pictures import Picture
from pipeline.statistics import Spread, paired_spread

PAIRED = (
    "Runs of one seed share the order of samples and how they are augmented, so differences are formed seed by seed. "
    "Intervals are of 95 % for the mean of such differences (Student’s t), “pooled” with what runs and seeds leave "
    "unexplained in all runs of the task that share a spread (two-way analysis of variance), “own” with the spread of "
    "these differences alone; “within cells”, where no two seeds are shared, from the two runs’ own intervals "
    "(Newcombe 1998), which say nothing about another seed. Each row has its own interval: of twenty that leave out "
    "zero, one is expected to by chance where nothing differs."
)


def pairs(grid: Grid, panels: Sequence[Panel], pictures: Sequence[Picture]) -> dict[str, Any]:
    """Everything of every run that a comparison shows, as plain JSON.

    `students[f]` is half the width of a t interval of f degrees of freedom, in standard errors.
    """
    runs = list(grid.study.runs)
    most = max(len(run.seeds) for run in grid.study.runs.values())
    return {
        "runs": runs,
        "tracks": {track.title: list(track.runs) for track in grid.study.tracks.values()},
        "students": [None, *(round(float(stdtrit(freedom, 0.975)), 4) for freedom in range(1, most))],
        "metrics": [
            _metric(grid, task, record["metric"], record["metric"] in grid.headline(task))
            for task in grid.study.tasks
            for record in sorted(grid.metrics(task), key=lambda r: r["metric"] not in grid.headline(task))
        ],
        "settings": [
            *_costs(grid, runs),
            *(row for stage in ("pretrain", *grid.study.tasks) for row in _settings(grid, stage)),
        ],
        "curves": [
            {"stage": panel.stage, "title": grid.study.title(panel.stage), "run": curve.run, "seed": curve.seed,
             "pieces": [[[_brief(x) for x in axis] for axis in piece] for piece in curve.pieces()]}
            for panel in panels for curve in panel.curves
        ],
        "pictures": [
            {"title": grid.study.title(one.stage), "run": one.run, "seed": one.seed, "caption": one.caption,
             "source": one.uri, "size": one.size}
            for one in pictures
        ],
    }  # fmt: skip


def shared_spread(grid: Grid, task: str, metric: str) -> tuple[Spread | None, list[str]]:
    """The spread at a seed, and the runs of the task that it holds for: those whose spreads between seeds are pooled.

    It is taken from the runs that have the seeds which most of them have.
    """
    found = {run: _by_seed(grid, task, run, metric) for run in grid.study.tasks[task].runs}
    spread = {run: grid.spread(task, metric, run) for run in found}
    pooled = [run for run in found if (one := spread[run]) is not None and one.num_runs > 1]
    # Values that agree to the last digit tell nothing of the spread of others, as in `statistics.spreads`.
    varied = [found[run] for run in pooled if len(set(found[run].values())) > 1]
    usual = Counter(tuple(values) for values in varied).most_common(1)
    rows = [list(values.values()) for values in varied if tuple(values) == usual[0][0]]
    return paired_spread(rows), pooled


def _metric(grid: Grid, task: str, metric: str, headline: bool) -> dict[str, Any]:
    """One row of the comparison for all runs: values by seed, own intervals, and the half-width of a difference.

    `half` is that of one seed's difference, to be divided by the root of their number.
    """
    spread, pooled = shared_spread(grid, task, metric)
    runs = {}
    for run in grid.study.tasks[task].runs:
        estimate = grid.estimate(task, run, metric)
        if estimate is not None:
            interval = None if estimate.low is None or estimate.high is None else [estimate.low, estimate.high]
            runs[run] = [_by_seed(grid, task, run, metric), interval]
    return {
        "task": grid.study.title(task),
        "stage": task,
        "metric": grid.study.metric(task, metric),
        "headline": headline,
        "unit": grid.unit(task, metric),
        "digits": grid.digits(task, metric),
        "higher": grid.higher_is_better(task, metric),
        "runs": runs,
        "half": None if spread is None else spread.half_width(1) * 2**0.5,
        "pooled": pooled,
    }


def _by_seed(grid: Grid, task: str, run: str, metric: str) -> dict[int, float]:
    """What each seed of a run measured, seeds rising."""
    found = {outcome.seed: outcome.record(metric) for outcome in grid.select(task, run, "done")}
    return {seed: float(record["value"]) for seed in sorted(found) if (record := found[seed]) is not None}


def _settings(grid: Grid, stage: str) -> list[dict[str, Any]]:
    """The settings of a stage in which any two runs differ, each with its values and which of them each run has."""
    if stage == "pretrain":
        flat: Mapping[str, Mapping[str, Any]] = {
            run: {**traits, "seeds": list(grid.study.runs[run].seeds)} for run, traits in grid.traits.items()
        }
    else:
        flat = {run: flatten(grid.settings(stage, run)) for run in grid.study.tasks[stage].runs}
    rows = []
    for key in dict.fromkeys(key for settings in flat.values() for key in settings):
        shown = {run: words.value(settings[key]) for run, settings in flat.items() if key in settings}
        if len(set(shown.values())) > 1 or len(shown) < len(flat):
            rows.append(_row(grid.study.title(stage), key, shown))
    return rows


def _costs(grid: Grid, runs: Sequence[str]) -> list[dict[str, Any]]:
    """What pretraining took, which is compared whether it differs or not."""
    hours = {run: cost_of(grid, run) for run in runs}
    rates = {run: samples_per_second(grid.select("pretrain", run, "done")) for run in runs}
    spent = {run: duration(cost) for run, cost in hours.items() if cost is not None}
    speed = {
        run: f"{rate:,.0f} {sample_unit(grid.select('pretrain', run, 'done'))}/s"
        for run, rate in rates.items()
        if rate is not None
    }
    return [
        _row("Cost", "pretraining of one seed, teachers included", spent),
        _row("Cost", "speed of pretraining", speed),
    ]


def _row(stage: str, key: str, shown: Mapping[str, str]) -> dict[str, Any]:
    values = list(dict.fromkeys(shown.values()))
    return {
        "stage": stage,
        "key": key,
        "values": values,
        "of": {run: values.index(text) for run, text in shown.items()},
    }


def _brief(value: float) -> float:
    """Four digits, more than a panel shows."""
    return float(f"{value:.4g}")
