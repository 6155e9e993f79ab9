"""Ranks over the tasks of a track: a bump chart, and a critical-difference diagram where there are tasks enough."""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes

from pipeline.config import Track
from pipeline.report.figures import INK, Drawing, drawing, style
from pipeline.report.friedman import LEAST_METHODS, LEAST_TASKS, Friedman, friedman
from pipeline.report.grid import Grid
from pipeline.report.ranking import standing
from pipeline.report.table import slug
from pipeline.report.words import sentence
from pipeline.statistics import mean_ranks

MOST = 20  # runs that one chart names, the first by mean rank


def rank_figures(grid: Grid, track: Track) -> list[Drawing]:
    """Places by task of the runs that have a mean rank; none of fewer than three runs or two columns."""
    stand = standing(grid, track)
    pairs = [(task, metric) for task in stand.tasks for metric in grid.headline(task)]
    if len(stand.ranked) < 3 or len(pairs) < 2:
        return []
    tested = _tested(grid, stand.tasks, stand.ranked)
    name = slug(track.title)
    if tested is None:
        more = (
            f"A critical-difference diagram (Demšar 2006) needs {LEAST_TASKS} tasks at least and names {MOST} runs at "
            f"most, here are {len(stand.tasks)} and {len(stand.ranked)}; intervals of ranks stand in the leaderboard."
        )
        return [_bump(grid, track, stand.ranked, pairs, more)]
    diagram = _critical(grid, f"critical-{name}", track.title, stand.ranked, tested)
    return [_bump(grid, track, stand.ranked, pairs), diagram]


def _tested(grid: Grid, tasks: tuple[str, ...], runs: tuple[str, ...]) -> Friedman | None:
    """Friedman's test by the first metric of each task, as box and mask AP of one task are not two tasks."""
    if len(tasks) < LEAST_TASKS or not LEAST_METHODS <= len(runs) <= MOST:
        return None
    pairs = [(task, grid.headline(task)[0]) for task in tasks]
    scores = [[_mean(grid, *pair, run) for run in runs] for pair in pairs]
    return friedman(scores, [grid.higher_is_better(*pair) for pair in pairs])


def _bump(grid: Grid, track: Track, runs: tuple[str, ...], pairs: list[tuple[str, str]], more: str = "") -> Drawing:
    columns = []
    for task, metric in pairs:
        found = [_mean(grid, task, metric, run) for run in runs]
        places = mean_ranks([found], [grid.higher_is_better(task, metric)])
        columns.append([place for place in places if place is not None])  # all have one
    names = [f"{grid.study.short(task)} {grid.study.metric(task, metric)}" for task, metric in pairs]
    width = min(17, max(8, 50 // len(pairs)))
    labels = [textwrap.fill(name, width, break_long_words=False) for name in names]
    means = [sum(column[i] for column in columns) / len(columns) for i in range(len(runs))]
    shown = range(min(len(runs), MOST))
    colors = [style(run, list(grid.study.runs)) for run in runs]

    def draw(axes: Axes) -> None:
        places = range(len(pairs))
        for i in shown:
            color, dash = colors[i]
            axes.plot(places, [column[i] for column in columns], "o", color=color, linestyle=dash, ms=4)
        # Runs that end level would write over one another; below one another they stand in the order of the mean.
        ends = sorted(shown, key=lambda i: (columns[-1][i], means[i]))
        level = -1.0
        for i in ends:
            level = max(columns[-1][i], level + 0.9)
            told = f"{runs[i]} ({means[i]:.1f})"
            axes.text(len(pairs) - 0.9, level, told, va="center", fontsize=7, color=colors[i][0])
        axes.set_xticks(places, labels, fontsize=7)
        axes.set_xlim(-0.3, len(pairs) - 0.2 + 0.28 * len(pairs))
        axes.set_ylim(max(level, *(column[i] for column in columns for i in shown)) + 0.6, 0.4)
        axes.set_yticks(range(1, len(runs) + 1, 1 + len(runs) // 12))
        axes.grid(axis="x", visible=False)
        axes.set_ylabel("place")

    part = f" The first {MOST} of {len(runs)} runs are drawn." if len(runs) > MOST else ""
    caption = f"{sentence(track.title)}: place by task, 1 is best, with the mean rank in brackets.{part} {more}".strip()
    return drawing(draw, f"ranks-{slug(track.title)}", caption, (5.2, 1.1 + 0.2 * len(shown)))


def _critical(grid: Grid, name: str, title: str, runs: tuple[str, ...], tested: Friedman) -> Drawing:
    order = sorted(range(len(runs)), key=lambda i: tested.ranks[i])
    half = (len(order) + 1) // 2
    groups = tested.groups if tested.p < 0.05 else []

    def draw(axes: Axes) -> None:
        count = len(runs)
        axes.set_axis_off()
        axes.plot([1, count], [0, 0], color=INK, linewidth=1)
        for rank in range(1, count + 1):
            axes.plot([rank, rank], [0, 0.15], color=INK, linewidth=0.8)
            axes.text(rank, 0.25, f"{rank}", ha="center", fontsize=7)
        top = 0.9
        axes.plot([1, 1 + tested.critical], [top, top], color=INK, linewidth=1.2, marker="|")
        axes.text(1 + tested.critical / 2, top + 0.15, f"CD {tested.critical:.2f}", ha="center", fontsize=7)
        for level, (lowest, highest) in enumerate((group[0], group[-1]) for group in groups):
            height = -0.2 - 0.18 * level
            axes.plot([tested.ranks[lowest], tested.ranks[highest]], [height] * 2, color=INK, linewidth=2.4)
        below = -0.2 - 0.18 * len(groups)
        for place, i in enumerate(order):
            left = place < half
            line = below - 0.45 * ((place if left else count - 1 - place) + 0.5)
            edge = 0.4 if left else count + 0.6
            axes.plot([tested.ranks[i], tested.ranks[i], edge], [0, line, line], color=INK, linewidth=0.7)
            told, side = f"{runs[i]} ({tested.ranks[i]:.2f})", "right" if left else "left"
            color, _ = style(runs[i], list(grid.study.runs))
            axes.text(edge + (-0.1 if left else 0.1), line, told, va="center", ha=side, fontsize=7, color=color)
        axes.set_xlim(1 - 0.45 * count, count + 0.45 * count)

    said = f"Friedman’s test over {tested.num_tasks} tasks: F = {tested.f:.2f}, p = {tested.p:.2g}"
    if tested.p >= 0.05:
        told = "it tells no run from another."
    else:
        names = "; ".join(", ".join(runs[i] for i in group) for group in groups)
        told = "bars join runs that Nemenyi’s test does not tell apart" + (f": {names}." if names else ", here none.")
    caption = (
        f"{sentence(title)}: critical-difference diagram of mean ranks (Demšar 2006). {said}; {told} "
        "Tasks that read one data set count as if they were independent."
    )
    return drawing(draw, name, caption, (5.2, 1.2 + 0.24 * half + 0.08 * len(groups)))


def _mean(grid: Grid, task: str, metric: str, run: str) -> float:
    estimate = grid.estimate(task, run, metric)
    assert estimate is not None, f"{run} is ranked without {task}"
    return estimate.mean
