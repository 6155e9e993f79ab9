"""Ablations: runs of one method that differ in a single setting.

An ablation is nothing but runs, so it is found in what the runs were measured with, never in their names:
whatever setting (mask ratio, target, teacher, ...) is all that tells some runs of a method apart is an axis.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.report import words
from pipeline.report.grid import Grid, flatten
from pipeline.report.results import INTERVALS, headline_metrics, measured
from pipeline.report.table import Column, Entry, Table, word


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """One axis: the setting's dotted name and its (value, run) points, ordered by value."""

    method: str
    setting: str
    points: tuple[tuple[Any, str], ...]

    @property
    def name(self) -> str:
        runs = "-".join(run for _, run in self.points)
        return f"ablation-{self.method}-{self.setting.replace('.', '-').replace('_', '-')}-{runs}"

    @property
    def title(self) -> str:
        return f"{words.setting(self.setting).capitalize()} of {self.method}"

    @property
    def is_numeric(self) -> bool:
        return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value, _ in self.points)


def find_ablations(grid: Grid) -> list[Ablation]:
    """Every axis of a study, in the order of methods and settings."""
    by_method: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for name, run in grid.study.runs.items():
        by_method[run.method][name] = {**flatten(grid.settings("pretrain", name)), "teacher": run.teacher}
    found = []
    for method, runs in by_method.items():
        for setting in sorted({key for settings in runs.values() for key in settings}):
            found += [Ablation(method=method, setting=setting, points=points) for points in _axes(runs, setting)]
    return found


def ablation_table(grid: Grid, ablation: Ablation) -> Table:
    """One row per value of the setting, one column per headline metric."""
    pairs = [(task, metric) for task in grid.study.tasks for metric in headline_metrics(grid, task)]
    rows = []
    for value, run in ablation.points:
        estimates = [measured(grid, task, run, metric) for task, metric in pairs]
        cell = Entry(text=str(value), value=value if ablation.is_numeric else str(value))
        rows.append((cell, word(run), *estimates))
    return Table(
        name=ablation.name,
        title=ablation.title,
        caption=f"Runs of {ablation.method} that differ in nothing but {ablation.setting}. {INTERVALS}",
        columns=(
            Column(key="value", title=words.setting(ablation.setting).capitalize(), numeric=ablation.is_numeric),
            Column(key="run", title="Run"),
            *(
                Column(key=f"{t}.{m}", title=f"{words.short_stage(t)} {words.metric(m)}", numeric=True)
                for t, m in pairs
            ),
        ),
        rows=tuple(rows),
    )


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


def _order(value: Any) -> tuple[int, float, str]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, str(value))
