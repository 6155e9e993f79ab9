"""Effort against result: what a run's pretraining cost, with that of its teachers, and what it reached on a task."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import Track
from pipeline.report.costs import device_hours
from pipeline.report.grid import Grid
from pipeline.report.untrained import is_reference, is_untrained
from pipeline.statistics import Estimate

LEAST = 3  # trained runs below which a panel shows nothing that the table does not


@dataclass(frozen=True, kw_only=True)
class Effort:
    """One task of a track by its first metric.

    points: for each trained run its cost in device hours, of one seed, and what it reached.
    levels: what the untrained encoders reached, which cost nothing.
    front: the runs that none surpasses at the same cost or less, the cheapest first; those that read labels apart.
    """

    name: str
    label: str
    unit: str
    points: dict[str, tuple[float, Estimate]]
    levels: dict[str, Estimate]
    front: tuple[str, ...]

    @property
    def caption(self) -> str:
        """What is seen, in words that do without the figure."""
        best = f"; on the front of best results for their cost: {', '.join(self.front)}" if self.front else ""
        return f"{self.label} against pretraining cost of one seed, teachers included{best}."


def efforts(grid: Grid) -> list[Effort]:
    """A panel for each task on which enough runs of known cost were measured, track by track."""
    return [panel for track in grid.study.tracks.values() for panel in _of_track(grid, track)]


def cost_of(grid: Grid, run: str) -> float | None:
    """Device hours that one seed of a run takes, with those of its teachers; None where one of them is not done."""
    done, teacher = grid.select("pretrain", run, "done"), grid.study.runs[run].teacher
    before = 0.0 if teacher is None else cost_of(grid, teacher)
    return None if before is None or not done else before + device_hours(done) / len(done)


def _of_track(grid: Grid, track: Track) -> list[Effort]:
    found = []
    for task in track.tasks:
        metric, points, levels = grid.headline(task)[0], {}, {}
        for run in grid.study.tasks[task].runs:
            estimate, hours = grid.estimate(task, run, metric), cost_of(grid, run)
            if estimate is None or hours is None:
                continue
            if is_untrained(grid, run):
                levels[run] = estimate
            else:
                points[run] = (hours, estimate)
        if len(points) < LEAST:
            continue
        sign = 1 if grid.higher_is_better(task, metric) else -1
        front: list[str] = []
        ours = [run for run in points if not is_reference(grid, run)]
        for run in sorted(ours, key=lambda run: (points[run][0], -sign * points[run][1].mean)):
            if not front or sign * points[run][1].mean > sign * points[front[-1]][1].mean:
                front.append(run)
        label = f"{grid.study.short(task)} {grid.study.metric(task, metric)}"
        name = f"effort-{task}".replace("_", "-")
        unit = grid.unit(task, metric)
        found.append(Effort(name=name, label=label, unit=unit, points=points, levels=levels, front=tuple(front)))
    return found
