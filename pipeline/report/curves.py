"""Training logs as curves: one JSON object a line, `{"step": 20, "loss": 0.61, ...}`."""

from __future__ import annotations

import itertools
import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.report.grid import Grid
from pipeline.report.table import slug

LOG, PHASES = "files/log.jsonl", "files/phases.json"
NUM_POINTS = 160  # more than a small panel can show
MOST = 16  # runs of a study that each have a panel of their own and share one in each task
SHARED = 8000  # points of all curves of a stage in a study of more runs, of which each curve has 16 at least


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The loss of one cell: steps and losses of equal length, steps rising.

    ends: steps at which a phase gives way to the next, whose loss may be another.
    """

    run: str
    seed: int
    steps: tuple[float, ...]
    losses: tuple[float, ...]
    ends: tuple[int, ...] = ()

    def pieces(self) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
        """Steps and losses of each phase."""
        cuts = [bisect_right(self.steps, end) for end in self.ends]
        return [(self.steps[a:b], self.losses[a:b]) for a, b in itertools.pairwise([0, *cuts, len(self.steps)])]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves of one stage that share axes."""

    name: str
    stage: str
    title: str
    caption: str
    curves: tuple[Curve, ...]


def read_log(path: Path) -> tuple[list[float], list[float]]:
    """Steps and finite losses of a log; a torn last line and lines without a loss are passed over."""
    steps, losses = [], []
    for entry in _entries(path.read_text(errors="replace").splitlines()):
        step, loss = (entry.get("step"), entry.get("loss")) if isinstance(entry, dict) else (None, None)
        if isinstance(step, (int, float)) and isinstance(loss, (int, float)) and math.isfinite(loss):
            steps.append(float(step))
            losses.append(float(loss))
    return steps, losses


def _entries(lines: Sequence[str]) -> list[Any]:
    """What each line says, without those that are no JSON; all at once where every line is."""
    with suppress(ValueError):
        entries: list[Any] = json.loads(f"[{','.join(lines)}]")
        if len(entries) == len(lines):
            return entries
    entries = []
    for line in lines:
        with suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def thin(steps: Sequence[float], losses: Sequence[float], count: int = NUM_POINTS) -> tuple[list[float], list[float]]:
    """At most `count` points, each the mean of its share, so that no peak is kept or dropped by chance."""
    if len(steps) <= count:
        return list(steps), list(losses)
    edges = [round(i * len(steps) / count) for i in range(count + 1)]
    spans = [slice(a, b) for a, b in itertools.pairwise(edges)]
    return [steps[span][-1] for span in spans], [sum(losses[span]) / len(losses[span]) for span in spans]


def loss_panels(grid: Grid) -> list[Panel]:
    """A panel for each pretraining run, as objectives differ, and one for each task, where they do not.

    Of a study of many runs a panel holds those of one method, in pretraining of one model, with fewer points.
    """
    panels = []
    many = len(grid.study.runs) > MOST
    for stage in dict.fromkeys(outcome.stage for outcome in grid.outcomes):
        groups: dict[str, list[Curve]] = {}
        share = max(16, min(NUM_POINTS // 2, SHARED // max(1, len(grid.select(stage)))))
        for curve in _curves(grid, stage, share if many else NUM_POINTS):
            groups.setdefault(_group(grid, stage, curve.run, many), []).append(curve)
        for group, curves in groups.items():
            title = f"{grid.study.title(stage)} of {group}" if group else grid.study.title(stage)
            name = "-".join(part for part in ("loss", stage, slug(group)) if part)
            caption = _caption(title, phases=any(curve.ends for curve in curves))
            panels.append(Panel(name=name, stage=stage, title=title, caption=caption, curves=tuple(curves)))
    return panels


def _group(grid: Grid, stage: str, run: str, many: bool) -> str:
    """What the panel of a curve is of, beside its stage."""
    if many:
        method = grid.study.runs[run].head.title
        return f"{method} ({grid.traits[run].get('model')})" if stage == "pretrain" else method
    return run if stage == "pretrain" else ""


def _curves(grid: Grid, stage: str, count: int) -> tuple[Curve, ...]:
    found = []
    for outcome in grid.select(stage, status="done"):
        path = outcome.artefact(LOG)
        steps, losses = thin(*read_log(path), count) if path else ([], [])
        if len(steps) > 1:
            ends = _ends(outcome.artefact(PHASES))
            found.append(Curve(run=outcome.run, seed=outcome.seed, steps=tuple(steps), losses=tuple(losses), ends=ends))
    return tuple(found)


def _ends(phases: Path | None) -> tuple[int, ...]:
    steps = [phase["steps"] for phase in json.loads(phases.read_text())] if phases else []
    return tuple(itertools.accumulate(steps[:-1]))


def _caption(title: str, phases: bool) -> str:
    told = " Gaps are where a phase ends; the next has a loss of its own." if phases else ""
    return f"{title}: training loss by step, one line per seed.{told}"
