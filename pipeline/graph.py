"""The graph of a study: every node with what it reads, the numbers it depends on, its command, and where it publishes.

This is the one home of that knowledge. The Snakefile, DVC's plan, cells, freshness and the report all read it here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError, Request, Study
from pipeline.config.identity import identity

STAGES = ("prepare", "pretrain")  # and every task of the study


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node.

    stage: `prepare`, `pretrain` or the name of a task of the study.
    run: that it treats, or for `prepare` the data set. seed: of both, None for `prepare`.
    inputs: folders that it reads, by part: `data`, `teacher`, `encoder`.
    settings: all numbers that it works with. identity: those that its result depends on, the same for all seeds.
    request: what a cluster job of it asks for.
    """

    study: Study
    stage: str
    run: str
    seed: int | None
    inputs: Mapping[str, Path]
    request: Request

    @property
    def settings(self) -> dict[str, Any]:
        if self.stage != "prepare":
            return self.study.settings(self.stage, self.run)
        spec = self.study.data[self.run]
        return {"source": spec.source, **spec.options}

    @property
    def identity(self) -> Mapping[str, Any]:
        known, key = self.study.identities, (self.stage, self.run)
        if key not in known:
            known[key] = self.decisive(self.settings)
        return known[key]

    def decisive(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What of settings, its own or those of an earlier time, decides its result."""
        return identity(settings, per_sample=self.stage == "pretrain" and self.study.runs[self.run].head.per_sample)

    @property
    def name(self) -> str:
        """As DVC knows it: `knn@mae-0`, `prepare@digits`."""
        return f"{self.stage}@{self._cell}"

    @cached_property
    def folder(self) -> Path:
        """Where it publishes its manifest and `files/`."""
        if self.stage == "prepare":
            return self.study.data[self.run].folder
        return Path("results") / self.study.name / self.stage / self._cell

    @cached_property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def scratch(self) -> Path:
        """The beginning of its work directories' names, and of the file that tells why it failed."""
        if self.stage == "prepare":
            return Path("work/data") / self.run
        return Path("work") / self.study.name / self.stage / self._cell

    @property
    def log(self) -> Path:
        if self.stage == "prepare":
            return Path("logs/data") / f"{self.run}.log"
        return Path("logs") / self.study.name / self.stage / f"{self._cell}.log"

    @property
    def command(self) -> str:
        if self.stage == "prepare":
            return command("prepare", self.study, "--data", self.run)
        cell = ("--run", self.run, "--seed", str(self.seed))
        if self.stage == "pretrain":
            return command("pretrain", self.study, *cell)
        return command("evaluate", self.study, "--task", self.stage, *cell)

    @property
    def _cell(self) -> str:
        return self.run if self.seed is None else f"{self.run}-{self.seed}"


class Graph:
    """All nodes of a study but the report, which reads every one of them."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._nodes: dict[tuple[str, str, int | None], Node] = {}

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node after those that it reads."""
        return (
            *(self.node("prepare", name) for name in self.study.data),
            *(self.node("pretrain", run, seed) for run in self._teachers_first for seed in self.study.runs[run].seeds),
            *(self.node(*cell) for cell in self.study.cells() if cell[0] != "pretrain"),
        )

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @cached_property
    def lacking(self) -> dict[Path, str]:
        """Folders of cells that cannot be made here, each with the file of released weights that is not there."""
        found: dict[Path, str] = {}
        for node in self:
            weights = self.study.runs[node.run].weights if node.stage == "pretrain" else None
            if weights is not None and not Path(weights).is_file() and not node.manifest.is_file():
                found[node.folder] = weights
            elif waits := [found[folder] for folder in node.inputs.values() if folder in found]:
                found[node.folder] = waits[0]
        return found

    @cached_property
    def ready(self) -> tuple[Node, ...]:
        """The nodes without those that cannot be made here, nor the data sets that only these would read."""
        ready = [node for node in self if node.folder not in self.lacking]
        read = {folder for node in ready for folder in node.inputs.values()}
        idle = {folder for node in self if node.folder in self.lacking for folder in node.inputs.values()} - read
        return tuple(node for node in ready if node.folder not in idle)

    @property
    def modules(self) -> list[str]:
        """What the stages of this study import, the most of them first."""
        methods = dict.fromkeys(f"pipeline.methods.{run.method}" for run in self.study.runs.values())
        tasks = dict.fromkeys(f"pipeline.tasks.{task.protocol}" for task in self.study.tasks.values())
        return ["pipeline.engine.pretrain", *methods, *tasks]

    def node(self, stage: str, run: str, seed: int | str | None = None) -> Node:
        """One node; seeds may come as text.

        Raises:
            ConfigError: the study has no such node; the message says what it has.
        """
        key = (stage, run, None if seed is None else int(seed))
        if key not in self._nodes:
            self._nodes[key] = self._node(*key)
        return self._nodes[key]

    @property
    def report(self) -> Path:
        """The folder of the report."""
        return Path("reports") / self.study.name

    def _node(self, stage: str, run: str, seed: int | None) -> Node:
        study = self.study
        if stage == "prepare":
            _check(run, study.data, f"data of {study.path}")
            request = study.request("prepare")
            return Node(study=study, stage=stage, run=run, seed=None, inputs={}, request=request)
        _check(run, study.runs, f"runs of {study.path}")
        inputs: dict[str, Path] = {}
        if stage == "pretrain":
            _check(seed, study.runs[run].seeds, f"seeds of {run}")
            inputs["data"] = study.runs[run].data.folder
            teacher = study.runs[run].teacher
            if teacher is not None:
                inputs["teacher"] = self.node("pretrain", teacher, seed).folder
        else:
            _check(stage, study.tasks, f"tasks of {study.path}")
            task = study.tasks[stage]
            if run in task.skipped:
                raise ConfigError(f"{stage} does not apply to {run}: {task.skipped[run]}")
            _check(run, task.runs, f"runs of task {stage}")
            _check(seed, study.seeds_of(stage, run), f"seeds of {stage} for {run}")
            inputs = {"data": task.data.folder, "encoder": self.node("pretrain", run, seed).folder}
        return Node(study=study, stage=stage, run=run, seed=seed, inputs=inputs, request=study.request(stage, run))

    @property
    def _teachers_first(self) -> list[str]:
        runs = self.study.runs

        def depth(run: str) -> int:
            teacher = runs[run].teacher
            return 0 if teacher is None else 1 + depth(teacher)

        return sorted(runs, key=depth)


def command(stage: str, study: Study, *arguments: str) -> str:
    """The one line that runs a stage, for any shell: names that it would read otherwise are quoted."""
    return shlex.join(["python", "-m", f"stages.{stage}", "--study", str(study.path), *arguments])


def _check(key: Any, known: Any, where: str) -> None:
    if key not in list(known):
        raise ConfigError(f"{key!r} is not among the {where}; available: {list(known)}")
