"""How much tuning each method got: what another study tried of it, and which of that this study uses."""

from __future__ import annotations

from typing import Any

from pipeline.config import Study, load_study
from pipeline.report import words
from pipeline.report.ablations import Ablation, find_ablations
from pipeline.report.costs import device_hours, duration
from pipeline.report.grid import Grid, read_grid, unique
from pipeline.report.table import ABSENT, Column, Entry, Table, number, word
from pipeline.report.untrained import is_untrained


def tuning_grid(study: Study) -> Grid | None:
    """What became of the cells of the study by which this one's settings were chosen, if it names one."""
    return None if study.tuning is None else read_grid(load_study(study.tuning))


def tuning_table(grid: Grid, tuned: Grid) -> Table:
    """One row per trained method and setting that was tried; methods for which nothing was tried have one as well.

    Values and results stand in one order; a dash is a cell that was not run on this machine.

    Args:
        grid: of the study that is reported.
        tuned: of the study by which its settings were chosen.
    """
    axes = find_ablations(tuned)
    trained = unique(own.method for name, own in grid.study.runs.items() if not is_untrained(grid, name))
    rows: list[tuple[Entry, ...]] = []
    for method in trained:
        rows += [_row(grid, tuned, axis) for axis in axes if axis.method == method] or [
            (word(words.method(method)), word("nothing", tone="missing"), *(word(None) for _ in range(5)))
        ]
    return Table(
        name="tuning",
        title="Tuning",
        caption=(
            f"What was tried for each method in the study {tuned.study.name}, one training of each value and seed, "
            f"measured on {', '.join(tuned.study.data)}. Results stand in the order of values."
        ),
        columns=(
            Column(key="method", title="Method"),
            Column(key="setting", title="Tried"),
            Column(key="values", title="Values"),
            Column(key="metric", title="Measured"),
            Column(key="results", title="Results"),
            Column(key="used", title="Used here"),
            Column(key="device_hours", title="Device time", numeric=True),
        ),
        rows=tuple(rows),
    )


def _row(grid: Grid, tuned: Grid, axis: Ablation) -> tuple[Entry, ...]:
    runs = [run for _, run in axis.points]
    task = next((name for name, task in tuned.study.tasks.items() if set(runs) <= set(task.runs)), None)
    measured, results = ABSENT, word("not run", tone="missing")
    if task is not None:
        metric = tuned.headline(task)[0]
        unit, arrow = tuned.unit(task, metric), "" if tuned.higher_is_better(task, metric) else ", lower is better"
        measured = f"{tuned.study.short(task)} {tuned.study.metric(task, metric)}{f', {unit}' if unit else ''}{arrow}"
        found = [tuned.estimate(task, run, metric) for run in runs]
        if any(found):
            results = word(", ".join(f"{one.mean:.{tuned.digits(task, metric)}f}" if one else ABSENT for one in found))
    hours = device_hours([one for run in runs for one in tuned.select("pretrain", run, "done")])
    return (
        word(words.method(axis.method)),
        word(words.setting(axis.setting, axis.method)),
        word(", ".join(words.value(value) for value, _ in axis.points)),
        word(measured),
        results,
        word(", ".join(words.value(value) for value in _used(grid, axis))),
        Entry(text=duration(hours), value=hours) if hours else number(None, ""),
    )


def _used(grid: Grid, axis: Ablation) -> list[Any]:
    """The values that the runs of a method have here, that of most of them first."""
    own = [grid.traits[name].get(axis.setting) for name, run in grid.study.runs.items() if run.method == axis.method]
    return sorted(unique(own), key=lambda value: -own.count(value))
