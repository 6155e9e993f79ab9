"""The measured tables: the leaderboard, one table per task, and all cells."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from pipeline.config import Track
from pipeline.report.costs import device_hours, duration, sample_unit, samples_per_second
from pipeline.report.grid import Grid, Outcome
from pipeline.report.ranking import improvement_interval, standing
from pipeline.report.table import ABSENT, Column, Entry, Table, number, select_best, slug, word
from pipeline.report.untrained import not_ahead
from pipeline.statistics import probability_of_improvement

INTERVALS = (
    "Intervals are of 95 %: “±” over n ≥ 2 seeds (Student’s t), with the spread of all runs of the task pooled "
    "(one-way analysis of variance) unless “own spread” stands beside the number: there the run’s spread differs from "
    "the others’ (Cochran’s test, 5 %) or there are too few seeds to pool; “[low, high]” within the one cell "
    "measured (Wilson’s for shares of what was tested, the bootstrap over images for AP and IoU, Student’s over the "
    "random subsets where few are labelled), which says nothing about another seed."
)
LOWER = " (lower is better)"
INAPPLICABLE = "does not apply"


def measured(grid: Grid, stage: str, run: str, metric: str, fine: bool = False) -> Entry:
    """The estimate of one metric, or a word for why there is none."""
    outcomes = grid.select(stage, run)
    done = [outcome for outcome in outcomes if outcome.record(metric) is not None]
    keys = tuple(outcome.key for outcome in outcomes)
    if not outcomes:
        reason = grid.study.tasks[stage].skipped.get(run)
        return Entry(text=ABSENT if reason is None else INAPPLICABLE, value=None, note=reason or "", tone="missing")
    found = grid.estimate(stage, run, metric)
    if found is None:
        return _absent(grid, stage, run)
    note = f"n = {found.num_seeds}" + (f" of {len(outcomes)}" if len(done) < len(outcomes) else "")
    if found.num_seeds > 1:
        note += {"seeds": ", own spread", "none": ", all equal"}.get(found.basis, "")
    return Entry(text=found.text(grid.digits(stage, metric, fine)), value=found, note=note, evidence=keys)


def pools(grid: Grid, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """One note on the spreads that the runs of each column share, none where no column has one."""
    told = []
    for task, metric in pairs:
        found = [grid.spread(task, metric, run) for run in grid.study.tasks[task].runs]
        shared = next((spread for spread in found if spread is not None and spread.num_runs > 1), None)
        if shared is not None:
            deviation = f"{shared.deviation:.{grid.digits(task, metric, fine=True)}f}"
            told.append(f"{grid.study.short(task)} {grid.study.metric(task, metric)} {deviation} "
                        f"({shared.num_runs} runs, {shared.freedom} degrees of freedom)")  # fmt: skip
    return [f"Pooled standard deviation between seeds: {'; '.join(told)}."] if told else []


def leaderboards(grid: Grid) -> list[Table]:
    """One leaderboard per track."""
    return grid.once(("leaderboards",), lambda: [leaderboard(grid, track) for track in grid.study.tracks.values()])


def leaderboard(grid: Grid, track: Track) -> Table:
    """Runs × headline metrics in the order of their mean ranks, with the odds against the next and what each cost.

    The best of each column is marked. Ranks are over the tasks that all runs of the track have in common; small print
    names the tasks on which pretraining is not ahead of none.
    """
    study, stand = grid.study, standing(grid, track)
    pairs = [(task, metric) for task in track.tasks for metric in grid.headline(task)]
    columns, entries, plain = [], [], []
    for task, metric in pairs:
        higher = grid.higher_is_better(task, metric)
        column = [measured(grid, task, run, metric) for run in stand.order]
        entries.append([replace(e, best=best) for e, best in zip(column, select_best(column, higher), strict=True)])
        title = f"{study.short(task)} {study.metric(task, metric)}{'' if higher else LOWER}"
        columns.append(Column(key=f"{task}.{metric}", title=title, numeric=True))
        if grid.unit(task, metric) != "%" and grid.metrics(task):
            plain.append(study.metric(task, metric))
    # Who has no rank has no place in the ranking.
    following = dict(itertools.pairwise(stand.ranked))
    gaps = any(entry.text == ABSENT for column in entries for entry in column)
    behind = not_ahead(grid, track)
    rows = []
    for i, run in enumerate(stand.order):
        after, done = following.get(run), grid.select("pretrain", run, "done")
        hours, rate = device_hours(done), samples_per_second(done)
        speed = "" if rate is None else f"{rate:,.0f} {sample_unit(done)}/s"
        rows.append(
            (
                word(run, note=f"not ahead of untrained: {', '.join(behind[run])}" if run in behind else ""),
                Entry(text=study.runs[run].head.title, value=study.runs[run].method),
                number(stand.places[run], "{:.1f}", note=_span(stand.spans[run], 1)),
                improvement(grid, run, after, track.tasks) if after else word(None),
                *(column[i] for column in entries),
                Entry(text=duration(hours), value=hours, note=speed) if done else _absent(grid, "pretrain", run),
            )
        )
    scale = f"in %, {', '.join(plain)} as a plain number" if plain else "in %"
    shared = set(study.tasks[stand.tasks[0]].runs) == set(track.runs) if stand.tasks else False
    over = f"the tasks that all runs have ({', '.join(map(study.short, stand.tasks))})" if shared else "all columns"
    return Table(
        name=f"leaderboard-{slug(track.title)}",
        title=f"Leaderboard: {track.title}" if len(study.tracks) > 1 else "Leaderboard",
        caption=f"Every run under the same protocols, {scale}; the best of a column is bold. {INTERVALS}",
        columns=(
            Column(key="run", title="Run"),
            Column(key="method", title="Method"),
            Column(key="mean_rank", title="Mean rank", numeric=True),
            Column(key="improvement", title="P(better than next)", numeric=True),
            *columns,
            Column(key="pretrain_hours", title="Pretraining time", numeric=True),
        ),
        rows=tuple(rows),
        notes=(
            f"The mean rank averages the places over {over}; a run that lacks one of them has none.",
            "P(better than next) is the probability of improvement (Agarwal et al. 2021) over the run in the next row: "
            "on each task that both were measured on, by its first metric, the share of pairs of seeds in which the "
            "run is ahead, ties counting one half, averaged over tasks. On a task with one seed of each that is 0, ½ "
            "or 1, however close the two are.",
            "The intervals of both are of 95 %: places and odds when what was measured is drawn again within its "
            "uncertainty (Goldstein and Spiegelhalter 1996), seeds being normal. Where the spread between seeds of a "
            "task is not known, as with one seed of each run, there is none.",
            *(f"{study.short(task)}: {study.tasks[task].note}" for task in track.tasks if study.tasks[task].note),
            *pools(grid, pairs),
            *(["– marks a task on which the study does not measure the run."] if gaps else []),
            "Pretraining time is seconds × devices over all its seeds; that of a teacher stands in the teacher’s row.",
        ),
    )


def improvement(grid: Grid, run: str, other: str, tasks: Sequence[str]) -> Entry:
    """The probability of improvement of one run over another, with the tasks and pairs of seeds behind it."""
    ours, theirs, pairs, directions, keys = [], [], [], [], []
    for task in tasks:
        metric = grid.headline(task)[0]
        found = [grid.values(task, name, metric) for name in (run, other)]
        if all(found):
            pairs.append((task, metric))
            ours.append(list(found[0].values()))
            theirs.append(list(found[1].values()))
            directions.append(grid.higher_is_better(task, metric))
            keys += [key for values in found for key in values]
    if not ours:
        return Entry(text="no task in common", tone="missing")
    counts = [len(x) * len(y) for x, y in zip(ours, theirs, strict=True)]
    behind = _count(sum(counts), "pair") if max(counts) > 1 else "one seed"
    note = f"{_count(len(counts), 'task')}, {behind}"
    span = _span(improvement_interval(grid, pairs, directions, run, other), 2)
    note += f", {span}" if span else ""
    chance = probability_of_improvement(ours, theirs, directions)
    return Entry(text=f"{chance:.2f}", value=chance, note=note, evidence=tuple(keys))


def task_table(grid: Grid, task: str) -> Table:
    """One task: every metric of every run with each seed's value, the estimate, and what it cost."""
    metrics = [record["metric"] for record in grid.metrics(task)] or grid.headline(task)
    runs = grid.study.tasks[task].runs
    columns, entries = [], []
    for metric in metrics:
        higher = grid.higher_is_better(task, metric)
        column = [_with_seeds(grid, task, run, metric) for run in runs]
        entries.append([replace(e, best=best) for e, best in zip(column, select_best(column, higher), strict=True)])
        scale = grid.unit(task, metric)
        title = grid.study.metric(task, metric) + (f", {scale}" if scale else "") + ("" if higher else LOWER)
        columns.append(Column(key=metric, title=title, numeric=True))
    rows = []
    for i, run in enumerate(runs):
        done = grid.select(task, run, "done")
        hours = device_hours(done)
        rows.append(
            (
                word(run),
                *(column[i] for column in entries),
                Entry(text=duration(hours), value=hours) if done else word(None),
                number(samples_per_second(done), "{:,.0f}"),
            )
        )
    return Table(
        name=f"task-{task.replace('_', '-')}",
        title=grid.study.title(task),
        caption=f"Means over seeds with each seed’s value below. {INTERVALS}",
        columns=(
            Column(key="run", title="Run"),
            *columns,
            Column(key="device_hours", title="Device time", numeric=True),
            Column(key="samples_per_second", title="Samples/s", numeric=True),
        ),
        rows=tuple(rows),
        notes=(
            *([grid.study.tasks[task].note] if grid.study.tasks[task].note else []),
            *pools(grid, [(task, metric) for metric in metrics]),
            *(
                f"{o.run}, seed {o.seed}, {o.status}: {o.error}"
                for s in ("failed", "damaged")
                for o in grid.select(task, status=s)
            ),
        ),
    )


def cells_table(grid: Grid) -> Table:
    """Every cell of the study with what became of it."""
    rows = []
    for outcome in grid.outcomes:
        tone = {"done": "", "not run": "missing"}.get(outcome.status, "failed")
        seconds = outcome.manifest.get("cost", {}).get("seconds")
        rows.append(
            (
                word(grid.study.short(outcome.stage)),
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


def _absent(grid: Grid, stage: str, run: str) -> Entry:
    """The word for cells of which none has a number; one that is done should have it."""
    for text, statuses in (("failed", ("failed",)), ("damaged", ("damaged", "done"))):
        keys = tuple(outcome.key for outcome in grid.select(stage, run) if outcome.status in statuses)
        if keys:
            return Entry(text=text, tone="failed", evidence=keys)
    return Entry(text="not run", tone="missing", evidence=tuple(outcome.key for outcome in grid.select(stage, run)))


def _span(interval: tuple[float, float] | None, digits: int) -> str:
    # No break inside: in a narrow column the interval has a line of its own.
    return "" if interval is None else f"[{interval[0]:.{digits}f},\u00a0{interval[1]:.{digits}f}]"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _with_seeds(grid: Grid, task: str, run: str, metric: str) -> Entry:
    """An estimate whose small print lists each seed's value, or its status."""
    entry = measured(grid, task, run, metric, fine=True)
    outcomes = grid.select(task, run)
    if len(outcomes) < 2 or not entry.note:
        return entry
    told = []
    for outcome in outcomes:
        record = outcome.record(metric)
        places = grid.digits(task, metric, fine=True)
        status = "damaged" if outcome.status == "done" else outcome.status
        told.append(f"seed {outcome.seed} {status}" if record is None else f"{float(record['value']):.{places}f}")
    return replace(entry, note=f"{entry.note}: {', '.join(told)}")


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many cells are done, failed, damaged and not run."""
    return {s: sum(outcome.status == s for outcome in outcomes) for s in ("done", "failed", "damaged", "not run")}
