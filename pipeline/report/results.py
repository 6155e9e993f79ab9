"""The measured tables: the leaderboard, one table per task, all cells and all records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.report import words
from pipeline.report.costs import device_hours, duration
from pipeline.report.grid import Grid, Outcome
from pipeline.report.table import Column, Entry, Table, number, select_best, word
from pipeline.statistics import Estimate, mean_ranks

INTERVALS = (
    "Intervals are of 95 %: “±” over n ≥ 2 seeds (Student’s t), “[low, high]” within the one cell measured "
    "(Wilson’s for shares of test images), which says nothing about another seed."
)


LOWER = " (lower is better)"


def headline_metrics(grid: Grid, stage: str) -> list[str]:
    """The metrics that stand for a task in the leaderboard."""
    if stage in words.HEADLINES:
        return list(words.HEADLINES[stage])
    found = [record["metric"] for record in grid.metrics(stage)]
    return found[:1] or ["score"]


def higher_is_better(grid: Grid, stage: str, metric: str) -> bool:
    """The direction that the records state; better is higher where nothing was measured."""
    return next((bool(r["higher_is_better"]) for r in grid.metrics(stage) if r["metric"] == metric), True)


def measured(grid: Grid, stage: str, run: str, metric: str, digits: int = 1) -> Entry:
    """The estimate of one metric, or a word for why there is none."""
    outcomes = grid.select(stage, run)
    done = [outcome for outcome in outcomes if outcome.record(metric) is not None]
    keys = tuple(outcome.key for outcome in outcomes)
    if not outcomes:
        return Entry(text="not in the study", tone="missing")
    found = grid.estimate(stage, run, metric)
    if found is None:
        failed = any(outcome.status == "failed" for outcome in outcomes)
        return Entry(text="failed" if failed else "not run", tone="failed" if failed else "missing", evidence=keys)
    note = f"n = {found.num_seeds}" + (f" of {len(outcomes)}" if len(done) < len(outcomes) else "")
    return Entry(text=found.text(digits), value=found, note=note, evidence=keys)


def leaderboard(grid: Grid) -> Table:
    """Runs × headline metrics, ordered by mean rank; the best of each column is marked."""
    study = grid.study
    pairs = [(task, metric) for task in study.tasks for metric in headline_metrics(grid, task)]
    columns, directions, entries = [], [], []
    for task, metric in pairs:
        higher = higher_is_better(grid, task, metric)
        column = [measured(grid, task, run, metric) for run in study.runs]
        column = [replace(e, best=best) for e, best in zip(column, select_best(column, higher), strict=True)]
        title = f"{words.short_stage(task)} {words.metric(metric)}{'' if higher else LOWER}"
        columns.append(Column(key=f"{task}.{metric}", title=title, numeric=True))
        directions.append(higher)
        entries.append(column)
    values = [[e.value.mean if isinstance(e.value, Estimate) else None for e in column] for column in entries]
    ranks = mean_ranks(values, directions) or [None] * len(study.runs)
    rows = []
    for i, (name, run) in enumerate(study.runs.items()):
        rank = number(ranks[i], "{:.1f}")
        rows.append((word(name), word(run.method), *(column[i] for column in entries), rank))
    rows.sort(key=lambda row: (row[-1].value is None, row[-1].value or 0.0))
    first = (Column(key="run", title="Run"), Column(key="method", title="Method"))
    last = Column(key="mean_rank", title="Mean rank", numeric=True)
    return Table(
        name="leaderboard",
        title="Leaderboard",
        caption=f"Every run under the same protocols, in %; the best of a column is bold. {INTERVALS}",
        columns=(*first, *columns, last),
        rows=tuple(rows),
        notes=("The mean rank averages the places over all columns; a run that lacks one has none.",),
    )


def task_table(grid: Grid, task: str) -> Table:
    """One task: every metric of every run with each seed's value, the estimate, and what it cost."""
    metrics = [record["metric"] for record in grid.metrics(task)] or headline_metrics(grid, task)
    runs = grid.study.tasks[task].runs
    columns, entries = [], []
    for metric in metrics:
        higher = higher_is_better(grid, task, metric)
        column = [_with_seeds(grid, task, run, metric) for run in runs]
        entries.append([replace(e, best=best) for e, best in zip(column, select_best(column, higher), strict=True)])
        columns.append(Column(key=metric, title=f"{words.metric(metric)}, %{'' if higher else LOWER}", numeric=True))
    rows = []
    for i, run in enumerate(runs):
        done = grid.select(task, run, "done")
        speeds = [o.manifest["cost"]["images_per_second"] for o in done if o.manifest["cost"].get("images_per_second")]
        hours = device_hours(done)
        rows.append(
            (
                word(run),
                *(column[i] for column in entries),
                Entry(text=duration(hours), value=hours) if done else word(None),
                number(sum(speeds) / len(speeds) if speeds else None, "{:,.0f}"),
            )
        )
    return Table(
        name=f"task-{task.replace('_', '-')}",
        title=words.stage(task),
        caption=f"Means over seeds with each seed’s value below. {INTERVALS}",
        columns=(
            Column(key="run", title="Run"),
            *columns,
            Column(key="device_hours", title="Device time", numeric=True),
            Column(key="images_per_second", title="Images/s", numeric=True),
        ),
        rows=tuple(rows),
        notes=tuple(f"{o.run}, seed {o.seed}, failed: {o.error}" for o in grid.select(task, status="failed")),
    )


def records_table(grid: Grid) -> Table:
    """Every record as a row of its own, for programs; the page shows the same numbers in its other tables."""
    rows = []
    for outcome in grid.outcomes:
        for record in outcome.manifest.get("records", []):
            low, high = record.get("interval") or (None, None)
            numbers = (number(v, "{:.4g}") for v in (float(record["value"]), low, high, record.get("count")))
            place = (
                word(outcome.stage),
                word(outcome.run),
                number(outcome.seed, "{}"),
                word(record["metric"]),
            )
            path = word(outcome.folder / "manifest.json", evidence=(outcome.key,))
            rows.append((*place, *numbers, word(record.get("unit")), path))
    keys = ("stage", "run", "seed", "metric", "value", "low", "high", "count", "unit", "manifest")
    return Table(
        name="records",
        title="All records",
        caption="One row per measured number, with its interval within the cell.",
        columns=tuple(
            Column(key=key, title=key.capitalize(), numeric=key in ("seed", "value", "low", "high", "count"))
            for key in keys
        ),
        rows=tuple(rows),
    )


def cells_table(grid: Grid) -> Table:
    """Every cell of the study with what became of it."""
    rows = []
    for outcome in grid.outcomes:
        tone = {"done": "", "failed": "failed", "not run": "missing"}[outcome.status]
        seconds = outcome.manifest.get("cost", {}).get("seconds")
        rows.append(
            (
                word(words.short_stage(outcome.stage)),
                word(outcome.run),
                number(outcome.seed, "{}"),
                Entry(text=outcome.status, value=outcome.status, tone=tone, evidence=(outcome.key,)),
                number(seconds, "{:,.1f}"),
                word(outcome.manifest.get("digest", "")[:12]),
                word(outcome.error),
            )
        )
    return Table(
        name="cells",
        title="All cells",
        caption="One row per cell that the study implies; its status opens manifest, command, hashes, log.",
        columns=(
            Column(key="stage", title="Stage"),
            Column(key="run", title="Run"),
            Column(key="seed", title="Seed", numeric=True),
            Column(key="status", title="Status"),
            Column(key="seconds", title="Seconds", numeric=True),
            Column(key="digest", title="Digest"),
            Column(key="error", title="Error"),
        ),
        rows=tuple(rows),
    )


def _with_seeds(grid: Grid, task: str, run: str, metric: str) -> Entry:
    """An estimate whose small print lists each seed's value, or its status."""
    entry = measured(grid, task, run, metric, digits=2)
    outcomes = grid.select(task, run)
    if len(outcomes) < 2 or not entry.note:
        return entry
    told = []
    for outcome in outcomes:
        record = outcome.record(metric)
        told.append(f"seed {outcome.seed} {outcome.status}" if record is None else f"{float(record['value']):.2f}")
    return replace(entry, note=f"{entry.note}: {', '.join(told)}")


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many cells are done, failed and not run."""
    return {s: sum(outcome.status == s for outcome in outcomes) for s in ("done", "failed", "not run")}
