"""Few-shot curves: a metric over the number of labelled samples, where a task records it at several.

A task says so by its metrics' names: `part_accuracy_n20` is `part_accuracy` with 20 labelled samples, in all or, where
the head of its protocol says so, of each class.
"""

from __future__ import annotations

import re

from matplotlib.axes import Axes

from pipeline.report.figures import MOST, Drawing, drawing, style, whiskers
from pipeline.report.grid import Grid

SIZED = re.compile(r"(.+)_n(\d+)$")


def shot_figures(grid: Grid) -> list[Drawing]:
    """One panel for each task and metric that was measured with two numbers of labelled samples or more."""
    return [
        _panel(grid, task, metric, sizes)
        for task in grid.study.tasks
        for metric, sizes in sized_metrics(grid, task).items()
        if len(sizes) > 1
    ]


def sized_metrics(grid: Grid, task: str) -> dict[str, list[int]]:
    """The numbers of labelled samples with which each metric of a task was measured, rising."""
    found: dict[str, list[int]] = {}
    for record in grid.metrics(task):
        if match := SIZED.match(record["metric"]):
            found.setdefault(match[1], []).append(int(match[2]))
    return {metric: sorted(sizes) for metric, sizes in found.items()}


def _panel(grid: Grid, task: str, metric: str, sizes: list[int]) -> Drawing:
    unit = grid.unit(task, f"{metric}_n{sizes[0]}")
    spelled = grid.study.metric(task, metric)
    kind = grid.study.tasks[task].data.kind
    samples = {"video": "videos"}.get(kind, kind.replace("_", " "))
    samples += " of each class" if grid.study.tasks[task].head.per_class else ""

    curves = {}
    for run in grid.study.tasks[task].runs:
        found = [(size, grid.estimate(task, run, f"{metric}_n{size}")) for size in sizes]
        if points := [(size, estimate) for size, estimate in found if estimate is not None]:
            curves[run] = points
    named = len(curves) <= MOST

    def draw(axes: Axes) -> None:
        for run, points in curves.items():
            color, dash = style(run, list(grid.study.runs))
            whiskers(axes, points, color)
            means = [one.mean for _, one in points]
            axes.plot([size for size, _ in points], means, "o", color=color, linestyle=dash, ms=4, label=run)
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel(f"labelled {samples}")
        axes.set_ylabel(f"{spelled}, {unit}" if unit else spelled)
        if named:
            axes.legend(handlelength=1.6, labelspacing=0.3)

    name = f"few-shot-{task}-{metric}".replace("_", "-")
    return drawing(
        draw,
        name,
        f"{grid.study.short(task)} {spelled} by the number of labelled {samples}; whiskers are 95 % intervals, where "
        f"known.{'' if named else f' {len(curves)} runs, more than colours tell apart; the table has their names.'}",
    )
