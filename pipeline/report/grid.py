"""What became of each cell: done with its manifest, damaged or failed with the reason, or not run.

A study implies a grid of cells; this module looks for each one's manifest and never for anything else, so a
cell without one is still there, as a gap that says so.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from pipeline import manifest as manifests
from pipeline.cell import failure
from pipeline.config import Study, flatten
from pipeline.graph import Graph, Node
from pipeline.report.published import complaint
from pipeline.statistics import Estimate, Spread, spreads, wilson

# Shares of counted test items; only for these is Wilson's interval meant.
PROPORTIONS = ("top1", "top5")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one node. `status` is `done`, `damaged`, `failed` or `not run`; `error` says why."""

    node: Node
    status: str
    manifest: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def study(self) -> Study:
        return self.node.study

    @property
    def stage(self) -> str:
        return self.node.stage

    @property
    def run(self) -> str:
        return self.node.run

    @property
    def seed(self) -> int:
        assert self.node.seed is not None
        return self.node.seed

    @property
    def folder(self) -> Path:
        return self.node.folder

    @property
    def key(self) -> str:
        return f"{self.stage}/{self.run}-{self.seed}"

    def record(self, metric: str) -> Mapping[str, Any] | None:
        """What was measured, if it was: a value of None is none."""
        own = (record for record in self.manifest.get("records", []) if record["metric"] == metric)
        return next((record for record in own if record["value"] is not None), None)

    def artefact(self, path: str) -> Path | None:
        """A file that the manifest vouches for, or None where it is missing or was changed since; it is read once."""
        if path not in self._artefacts:
            known, file = self.manifest.get("artefacts", {}).get(path), self.folder / path
            same = known is not None and file.is_file() and manifests.sha256(file) == known["sha256"]
            self._artefacts[path] = file if same else None
        return self._artefacts[path]

    @cached_property
    def _artefacts(self) -> dict[str, Path | None]:
        return {}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All cells of a study in the study's order."""

    study: Study
    outcomes: tuple[Outcome, ...]

    def select(self, stage: str | None = None, run: str | None = None, status: str | None = None) -> list[Outcome]:
        return [outcome for outcome in self._of[stage, run] if status in (None, outcome.status)]

    @cached_property
    def _of(self) -> Mapping[tuple[str | None, str | None], list[Outcome]]:
        """Outcomes by stage and run, None standing for any: thousands of cells are asked for thousands of times."""
        found: dict[tuple[str | None, str | None], list[Outcome]] = defaultdict(list)
        for one in self.outcomes:
            for key in product((one.stage, None), (one.run, None)):
                found[key].append(one)
        return found

    def settings(self, stage: str, run: str) -> dict[str, Any]:
        """What a run was measured with; where nothing was measured, what the study asks for."""
        done = self.select(stage, run, "done")
        return dict(done[0].manifest["settings"]) if done else self.study.settings(stage, run)

    @cached_property
    def traits(self) -> dict[str, dict[str, Any]]:
        """All that tells pretraining runs apart, by run: settings by dotted name, `teacher` and `stages`.

        A run that learns from one of its own method and model is a further stage of the same bootstrapping: `stages`
        counts them, and `teacher` is the one that the first of them learned from.
        """
        settings = {run: self.settings("pretrain", run) for run in self.study.runs}
        kinds = {run: (self.study.runs[run].method, own.get("model")) for run, own in settings.items()}
        found = {}
        for run, own in settings.items():
            teacher, stages = self.study.runs[run].teacher, 1
            while teacher is not None and kinds[teacher] == kinds[run]:
                teacher, stages = self.study.runs[teacher].teacher, stages + 1
            found[run] = {**flatten(own), "teacher": teacher, "stages": stages}
        return found

    def metrics(self, stage: str) -> list[Mapping[str, Any]]:
        """The metrics that any cell of a stage reports, in the order of its records."""

        def look() -> list[Mapping[str, Any]]:
            found: dict[str, Mapping[str, Any]] = {}
            for outcome in self.select(stage, status="done"):
                for record in outcome.manifest["records"]:
                    found.setdefault(record["metric"], record)
            return list(found.values())

        return self.once(("metrics", stage), look)

    def headline(self, task: str) -> list[str]:
        """The metrics that stand for a task in the leaderboard."""
        return list(self.study.tasks[task].head.headline)

    def higher_is_better(self, stage: str, metric: str) -> bool:
        """The direction that the records state; better is higher where nothing was measured."""
        return next((bool(r["higher_is_better"]) for r in self.metrics(stage) if r["metric"] == metric), True)

    def unit(self, stage: str, metric: str) -> str:
        """The unit that the records state, such as `%`; empty for a plain number and where nothing was measured."""
        return next((str(r.get("unit") or "") for r in self.metrics(stage) if r["metric"] == metric), "")

    def digits(self, stage: str, metric: str, fine: bool = False) -> int:
        """Decimals of a metric: one for percentages and three for plain numbers, one more where each seed is told."""
        return (1 if self.unit(stage, metric) == "%" else 3) + fine

    def values(self, stage: str, run: str, metric: str) -> dict[str, float]:
        """What each cell that is done measured, by its key."""
        records = {outcome.key: outcome.record(metric) for outcome in self.select(stage, run, "done")}
        return {key: float(record["value"]) for key, record in records.items() if record is not None}

    def spread(self, stage: str, metric: str, run: str) -> Spread | None:
        """How far a run's seeds lie apart in one metric of a task: with the task's other runs pooled, or its own."""
        runs = self.study.tasks[stage].runs

        def look() -> dict[str, Spread | None]:
            found = spreads([list(self.values(stage, each, metric).values()) for each in runs])
            return dict(zip(runs, found, strict=True))

        return self.once(("spread", stage, metric), look).get(run)

    def estimate(self, stage: str, run: str, metric: str) -> Estimate | None:
        """The mean over the seeds that were measured, or None where none was."""

        def look() -> Estimate | None:
            records = [outcome.record(metric) for outcome in self.select(stage, run, "done")]
            return estimate([record for record in records if record is not None], self.spread(stage, metric, run))

        return self.once(("estimate", stage, run, metric), look)

    def once(self, key: tuple[str, ...], look: Callable[[], T]) -> T:
        """What `look` finds, looked up the first time: each table, figure and sentence asks for the same numbers."""
        if key not in self._found:
            self._found[key] = look()
        found: T = self._found[key]
        return found

    @cached_property
    def _found(self) -> dict[tuple[str, ...], Any]:
        return {}


def estimate(records: Sequence[Mapping[str, Any]], spread: Spread | None) -> Estimate | None:
    """One estimate from the records of one metric, one per seed, and the spread that they share."""
    if not records:
        return None
    values = [float(record["value"]) for record in records]
    if len(values) > 1:
        mean = sum(values) / len(values)
        if spread is None:
            return Estimate(mean=mean, low=None, high=None, num_seeds=len(values), basis="none")
        half, basis = spread.half_width(len(values)), "pooled" if spread.num_runs > 1 else "seeds"
        return Estimate(mean=mean, low=mean - half, high=mean + half, num_seeds=len(values), basis=basis)
    interval = records[0].get("interval")
    if interval is None and records[0]["metric"] in PROPORTIONS and records[0].get("count"):
        interval = [100 * bound for bound in wilson(values[0] / 100, int(records[0]["count"]))]
    if interval is None:
        return Estimate(mean=values[0], low=None, high=None, num_seeds=1, basis="none")
    return Estimate(mean=values[0], low=float(interval[0]), high=float(interval[1]), num_seeds=1, basis="cell")


def read_grid(study: Study) -> Grid:
    """Look for the manifest of every cell that a study implies; paths are relative to the project's root."""
    graph = Graph(study)
    nodes = [graph.node(*cell) for cell in study.cells()]
    return Grid(study=study, outcomes=tuple(_outcome(node, graph.lacking.get(node.folder)) for node in nodes))


def read_data(study: Study) -> dict[str, Mapping[str, Any] | None]:
    """Each data set's manifest, None where it was not prepared yet."""
    paths = {name: spec.folder / "manifest.json" for name, spec in study.data.items()}
    return {name: _data(path) if path.is_file() else None for name, path in paths.items()}


def unique(values: Iterable[Any]) -> list[Any]:
    """Distinct values in the order of their first appearance, without empty ones."""
    return list(dict.fromkeys(value for value in values if value not in (None, "")))


def _data(path: Path) -> Mapping[str, Any]:
    """A data set's manifest, or what is wrong with it as `damaged`."""
    try:
        found = manifests.read(path)
        wrong = complaint(found, of_data=True)
    except (manifests.ManifestError, OSError, RecursionError) as error:
        found, wrong = {}, str(error)
    return found if wrong is None else {"damaged": wrong}


def _outcome(node: Node, lacking: str | None) -> Outcome:
    if node.manifest.is_file():
        try:
            found = manifests.read(node.manifest)
            if (wrong := complaint(found)) is None:
                return Outcome(node=node, status="done", manifest=found)
        except (manifests.ManifestError, OSError, RecursionError) as error:
            wrong = str(error)
        told = wrong if str(node.manifest) in wrong else f"{node.manifest} is damaged at {wrong}; run its stage again"
        return Outcome(node=node, status="damaged", error=told)
    path = failure(node)
    if path.is_file():
        try:
            told = str(json.loads(path.read_text())["error"])
        except (ValueError, KeyError, TypeError):
            told = f"the stage failed; its message in {path} cannot be read"
        return Outcome(node=node, status="failed", error=told)
    return Outcome(node=node, status="not run", error=f"there is no file {lacking}" if lacking else "")
