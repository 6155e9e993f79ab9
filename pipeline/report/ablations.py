"""Ablations: runs of one method that differ in a single setting.

An ablation is nothing but runs, so it is found in what the runs were measured with, never in their names:
whatever setting (mask ratio, target, first teacher, number of stages, ...) is all that tells some runs of a
method apart is an axis.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.report import words
from pipeline.report.costs import SPEED, pretraining_speeds, sample_unit
from pipeline.report.grid import Grid
from pipeline.report.results import INTERVALS, measured, pools
from pipeline.report.table import Column, Entry, Table, word

# Settings that are one choice: where a factor begins and where it ends.
SPANS = {"options.curriculum": ("options.curriculum_start", "options.curriculum_end")}


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """One axis: the setting's dotted name and its (value, run) points.

    Numbers stand in their order, words in that of the study, what is left open last.
    """

    method: str
    setting: str
    points: tuple[tuple[Any, str], ...]

    @property
    def name(self) -> str:
        """Unique, since runs that differ in one setting are in one group of it: any of them tells which."""
        return f"ablation-{self.method}-{self.setting.replace('.', '-').replace('_', '-')}-{self.points[0][1]}"

    @property
    def title(self) -> str:
        return f"{words.method(self.method)}: {self.axis}"

    @property
    def axis(self) -> str:
        """The setting in words."""
        return words.setting(self.setting, self.method)

    @property
    def is_numeric(self) -> bool:
        """Numbers, two at least, beside which a value may be left open."""
        numbers = [is_number(value) for value, _ in self.points if value is not None]
        return len(numbers) > 1 and all(numbers)


def find_ablations(grid: Grid) -> list[Ablation]:
    """Every axis of a study, in the order of methods and settings."""
    by_method: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for name, run in grid.study.runs.items():
        by_method[run.method][name] = _joined(grid.traits[name])
    found = []
    for method, runs in by_method.items():
        for setting in sorted({key for settings in runs.values() for key in settings}):
            found += [Ablation(method=method, setting=setting, points=points) for points in _axes(runs, setting)]
    return found


def ablation_table(grid: Grid, ablation: Ablation) -> Table:
    """One row per value of the setting, one column per headline metric of the tasks that any of its runs has.

    The last column is how fast pretraining was, where it was measured on one machine.
    """
    runs = {run for _, run in ablation.points}
    tasks = [name for name, task in grid.study.tasks.items() if runs & set(task.runs)]
    pairs = [(task, metric) for task in tasks for metric in grid.headline(task)]
    speeds = pretraining_speeds(grid, [run for _, run in ablation.points])
    timed = any(speeds)
    rows = []
    for (value, run), speed in zip(ablation.points, speeds, strict=True):
        estimates = [measured(grid, task, run, metric) for task, metric in pairs]
        cell = Entry(text=words.value(value), value=value if ablation.is_numeric else words.value(value))
        keys = tuple(outcome.key for outcome in grid.select("pretrain", run, "done"))
        told = [Entry(text=speed.text(0), value=speed, evidence=keys) if speed else word(None)] if timed else []
        rows.append((cell, word(run), *estimates, *told))
    return Table(
        name=ablation.name,
        title=ablation.title,
        caption=f"Runs of {words.method(ablation.method)} that differ in nothing but {ablation.setting}. {INTERVALS}",
        columns=(
            Column(key="value", title=words.sentence(ablation.axis), numeric=ablation.is_numeric),
            Column(key="run", title="Run"),
            *(
                Column(key=f"{t}.{m}", title=f"{grid.study.short(t)} {grid.study.metric(t, m)}", numeric=True)
                for t, m in pairs
            ),
            *([Column(key=SPEED, title=f"Pretraining, {speed_unit(grid, ablation)}", numeric=True)] if timed else []),
        ),
        rows=tuple(rows),
        notes=tuple(pools(grid, pairs)),
    )


def speed_unit(grid: Grid, ablation: Ablation) -> str:
    """What the speeds of an ablation are counted in, such as `clips/s`."""
    return f"{sample_unit([o for _, run in ablation.points for o in grid.select('pretrain', run, 'done')])}/s"


def is_number(value: Any) -> bool:
    """Whether a setting's value can be a place on an axis."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _joined(traits: Mapping[str, Any]) -> dict[str, Any]:
    """A run's traits with the two ends of a span as one: `1 → -1`."""
    joined = dict(traits)
    for name, ends in SPANS.items():
        if all(end in traits for end in ends):
            start, end = (joined.pop(key) for key in ends)
            joined[name] = f"{start:g} → {end:g}".replace("-", "−")
    return joined


def _axes(runs: Mapping[str, Mapping[str, Any]], setting: str) -> list[tuple[tuple[Any, str], ...]]:
    """Groups of runs that agree in everything but one setting."""
    groups: dict[str, list[tuple[Any, str]]] = defaultdict(list)
    for run, settings in runs.items():
        rest = {key: value for key, value in settings.items() if key != setting}
        groups[json.dumps(rest, sort_keys=True, default=str)].append((settings.get(setting), run))
    return [
        tuple(sorted(points, key=lambda point: _order(point[0])))
        for points in groups.values()
        if len({json.dumps(value, default=str) for value, _ in points}) > 1
    ]


def _order(value: Any) -> tuple[int, float]:
    return (0, float(value)) if is_number(value) else (2 if value is None else 1, 0.0)
