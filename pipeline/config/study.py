"""A study: the grid of runs, tasks and seeds over named data sets, read from `config/<study>.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.config.errors import ConfigError, check_keys, check_name, check_seeds, mapping, nearest
from pipeline.config.files import copied, read
from pipeline.config.heads import (
    PROTOCOL_HEAD,
    PROTOCOLS,
    RECIPE_HEAD,
    RECIPES,
    ProtocolHead,
    RecipeHead,
    available_methods,
    available_tasks,
    protocol_head,
    recipe_head,
)
from pipeline.config.models import Family, family_of, models
from pipeline.config.requests import Request, parse_requests
from pipeline.config.sections import section
from pipeline.config.sets import DataSet, choose_set, parse_set

# Folders that stand where a study's own would: reports/templates, work/data, logs/data, logs/slurm, work/uv.
RESERVED = frozenset({"templates", "data", "slurm", "uv"})
_STAGES = {"prepare": "Preparation", "pretrain": "Pretraining"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One pretraining of the grid: a method, what it changes in the recipe, what it reads and whom it learns from.

    weights: file of the authors' that is read instead of training.
    """

    name: str
    method: str
    head: RecipeHead
    data: DataSet
    seeds: tuple[int, ...]
    changes: Mapping[str, Any]
    teacher: str | None
    weights: str | None
    cluster: Mapping[str, Request]


@dataclass(frozen=True, kw_only=True)
class Task:
    """An instance of a downstream protocol: the set it reads, the seeds and runs that it measures.

    skipped: runs to which it does not apply, each with the reason.
    note: what a reader of its numbers should know, for the report alone.
    """

    name: str
    protocol: str
    head: ProtocolHead
    data: DataSet
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    changes: Mapping[str, Any]
    skipped: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def track(self) -> str:
        """The kind of sample that it gives an encoder."""
        return self.head.takes or self.head.kind

    @property
    def title(self) -> str:
        """The protocol's title, with the instance's own name where it has one."""
        return self.head.title if self.name == self.protocol else f"{self.head.title} ({self.name})"

    @property
    def short(self) -> str:
        """The same for a narrow column."""
        return (self.head.short or self.head.title) if self.name == self.protocol else self.name


@dataclass(frozen=True, kw_only=True)
class Track:
    """Runs that can be ranked, and so share a leaderboard: of one kind of sample, with tasks in common."""

    title: str
    runs: tuple[str, ...]
    tasks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Study:
    """The whole grid: runs × tasks × seeds over named data sets, at one scale.

    tuning: path of the study by which settings were chosen, of which the report tells; no part of any result.
    """

    path: Path
    name: str
    scale: str
    seeds: tuple[int, ...]
    data: Mapping[str, DataSet]
    runs: Mapping[str, Run]
    tasks: Mapping[str, Task]
    cluster: Mapping[str, Request]
    tuning: Path | None = None

    def cells(self) -> Iterator[tuple[str, str, int]]:
        """Every (stage, run, seed) the study implies, pretraining first."""
        for stage in ("pretrain", *self.tasks):
            runs = self.runs if stage == "pretrain" else self.tasks[stage].runs
            yield from ((stage, run, seed) for run in runs for seed in self.seeds_of(stage, run))

    def seeds_of(self, stage: str, run: str) -> tuple[int, ...]:
        """The seeds at which a stage treats a run: those of the run, and of the task as well."""
        own = self.runs[run].seeds
        return own if stage == "pretrain" else tuple(seed for seed in self.tasks[stage].seeds if seed in own)

    def settings(self, stage: str, run: str) -> dict[str, Any]:
        """Every number one cell depends on: recipe or protocol at this scale, with the changes applied."""
        return copied(self._resolved(stage, run))

    def _resolved(self, stage: str, run: str) -> dict[str, Any]:
        if (stage, run) not in self._settings:
            own = self.runs[run]
            if stage == "pretrain":
                found = self._recipes.get(run) or _recipe(own, self.scale)
                found = found if own.weights is None else {**found, "weights": own.weights}
            else:
                found = self._protocol(stage, self._resolved("pretrain", run)["model"])
            self._settings[stage, run] = {**found, "threads": self.request(stage, run).threads}
        return self._settings[stage, run]

    def _protocol(self, task: str, model: str) -> dict[str, Any]:
        """A task's protocol for runs of one model, which may be hundreds."""
        if (task, model) not in self._protocols:
            self._protocols[task, model] = _protocol(self.tasks[task], self.scale, model)
        return self._protocols[task, model]

    @cached_property
    def _settings(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {}

    @cached_property
    def _recipes(self) -> dict[str, dict[str, Any]]:
        """By run, where they were read before the study was whole."""
        return {}

    @cached_property
    def _protocols(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {}

    @cached_property
    def identities(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """What decides the results of a stage of a run, once a node of theirs was asked for it."""
        return {}

    @cached_property
    def tracks(self) -> Mapping[str, Track]:
        """The leaderboards by the kind of sample that encoders are given, in the order of runs; of kinds with tasks.

        Tasks of a kind that no chain of runs connects are tracks of their own, named after the first one's data as
        well: nothing tells how their runs compare.
        """
        kinds = dict.fromkeys(run.data.kind for run in self.runs.values())
        kinds |= dict.fromkeys(task.track for task in self.tasks.values())
        measured = {task.track for task in self.tasks.values()}
        found = {}
        for kind in (kind for kind in kinds if kind in measured or not measured):
            groups = self._connected([name for name, task in self.tasks.items() if task.track == kind])
            placed = {run for group in groups for task in group for run in self.tasks[task].runs}
            for i, group in enumerate(groups or [[]]):
                named = {run for task in group for run in self.tasks[task].runs}
                if i == 0:  # a run that nothing measures stands with those of its kind
                    named |= {name for name, run in self.runs.items() if run.data.kind == kind and name not in placed}
                words = kind.replace("_", " ") + (f", {self.tasks[group[0]].data.name}" if i else "")
                runs = tuple(name for name in self.runs if name in named)
                found[words] = Track(title=words, runs=runs, tasks=tuple(group))
        return MappingProxyType(found)

    def _connected(self, tasks: list[str]) -> list[list[str]]:
        """Tasks in groups, within each of which a chain of runs leads from any to any other."""
        groups: list[list[str]] = []
        for name in tasks:
            joined = [g for g in groups if any(set(self.tasks[name].runs) & set(self.tasks[t].runs) for t in g)]
            merged = [task for group in joined for task in group] + [name]
            groups = [group for group in groups if group not in joined] + [sorted(merged, key=tasks.index)]
        return sorted(groups, key=lambda group: tasks.index(group[0]))

    def title(self, stage: str) -> str:
        """A stage's full name."""
        return self.tasks[stage].title if stage in self.tasks else _STAGES.get(stage, stage)

    def short(self, stage: str) -> str:
        """A stage's name for a narrow column."""
        return self.tasks[stage].short if stage in self.tasks else _STAGES.get(stage, stage)

    def metric(self, task: str, name: str) -> str:
        """A metric's name as papers print it: `r2_fainter` as `R² fainter`, `top1_n5` as `top1 n = 5`."""
        spelled = re.sub(r"^r2(?=_|$)", "R²", name).replace("_", " ")
        return self.tasks[task].head.metrics.get(name, re.sub(r"\b([kn])(\d+)$", r"\1 = \2", spelled))

    def request(self, stage: str, run: str | None = None) -> Request:
        """What a cluster job of these cells asks for: the run's own word, or the study's, or one CPU for an hour.

        What is said of a protocol holds for those of its instances of which nothing is said.
        """
        asked = {**self.cluster, **(self.runs[run].cluster if run is not None else {})}
        protocol = self.tasks[stage].protocol if stage in self.tasks else stage
        return asked.get(stage) or asked.get(protocol) or Request()


def load_study(path: str | Path) -> Study:
    """Read and check a study.

    Raises:
        ConfigError: on the first mistake in the study or in a recipe it uses.
    """
    path = Path(path)
    check_name(path.stem, f"the study {str(path)!r}")
    if path.stem in RESERVED:
        raise ConfigError(f"the study {path} is called {path.stem!r}, as a folder of the project in reports/, work/ or "
                          f"logs/ is; call it something else (taken: {sorted(RESERVED)})")  # fmt: skip
    if not re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./-]*", str(path)):  # it becomes part of commands
        raise ConfigError(f"the study is {str(path)!r}; expected a path of letters, digits, '.', '_', '-' and '/'")
    raw = read(path, "study")
    check_keys(
        raw, f"study {path}", required=("scale", "seeds", "data", "runs", "tasks"), optional=("cluster", "tuning")
    )
    data = {name: parse_set(name, entry) for name, entry in mapping(raw["data"], "data").items()}
    seeds = check_seeds(raw["seeds"], "seeds")
    tasks = mapping(raw["tasks"], "tasks")
    if not isinstance(raw["scale"], str):
        raise ConfigError(f"scale is {raw['scale']!r}; expected the name of a section of the recipes, such as 'demo'")
    stages = list(dict.fromkeys(["pretrain", *map(str, tasks), *map(str, available_tasks())]))
    methods = available_methods()
    runs = {
        name: _run(name, entry, seeds, data, stages, methods) for name, entry in mapping(raw["runs"], "runs").items()
    }
    _check_teachers(runs, path)
    recipes = {name: _recipe(run, raw["scale"]) for name, run in runs.items()}
    encoders = {name: _encoder(run, recipes[name]["model"]) for name, run in runs.items()}
    study = Study(
        path=path,
        name=path.stem,
        scale=raw["scale"],
        seeds=seeds,
        data=MappingProxyType(data),
        runs=MappingProxyType(runs),
        tasks=MappingProxyType(
            {name: _task(name, entry, runs, encoders, seeds, data) for name, entry in tasks.items()}
        ),
        cluster=parse_requests(raw.get("cluster"), ["prepare", *stages], "cluster"),
        tuning=_tuning(raw.get("tuning"), path),
    )
    study._recipes.update(recipes)
    for stage, run, _ in study.cells():
        study._resolved(stage, run)
    return study


def _tuning(given: Any, study: Path) -> Path | None:
    if given is None:
        return None
    if not isinstance(given, str) or not Path(given).is_file() or Path(given) == study:
        found = sorted(str(file) for file in study.parent.glob("*.yaml") if file != study)
        raise ConfigError(f"tuning is {given!r}; expected the path of another study, of {found}")
    return Path(given)


def _run(
    name: Any,
    entry: Any,
    seeds: tuple[int, ...],
    data: Mapping[str, DataSet],
    stages: list[str],
    methods: list[str],
) -> Run:
    where = f"runs.{check_name(name, 'a run')}"
    entry = mapping(entry, where)
    check_keys(entry, where, required=("method",), optional=("data", "set", "seeds", "teacher", "weights", "cluster"))
    method = entry["method"]
    if method not in methods:
        raise ConfigError(f"{where}.method is {method!r}; available methods: {methods}{nearest(method, methods)}")
    weights = entry.get("weights")
    if weights is not None and not isinstance(weights, str):
        raise ConfigError(f"{where}.weights is {weights!r}; expected the path of a file, such as 'weights/mae.pth'")
    own = check_seeds(entry.get("seeds", list(seeds)), f"{where}.seeds")
    if not set(own) <= set(seeds):
        raise ConfigError(f"{where}.seeds is {list(own)}; expected seeds of the study: {list(seeds)}")
    head = recipe_head(method)
    if head.needs_weights and weights is None:
        raise ConfigError(f"{where} lacks 'weights': {method} makes none itself; expected the path of a file, such as "
                          "'weights/vit_base.safetensors' (an untrained encoder is the method random)")  # fmt: skip
    return Run(
        name=name,
        method=method,
        head=head,
        data=choose_set(data, head.kind, entry.get("data"), where),
        seeds=own,
        changes=MappingProxyType(mapping(entry.get("set") or {}, f"{where}.set")),
        teacher=entry.get("teacher"),
        weights=weights,
        cluster=parse_requests(entry.get("cluster"), stages, f"{where}.cluster"),
    )


def _task(
    name: Any,
    entry: Any,
    runs: Mapping[str, Run],
    encoders: Mapping[str, tuple[str, str, Family]],
    seeds: tuple[int, ...],
    data: Mapping[str, DataSet],
) -> Task:
    where, known = f"tasks.{check_name(name, 'a task')}", available_tasks()
    if name in ("prepare", "pretrain", "report"):
        raise ConfigError(f"{where} has the name of a stage; call it something else")
    entry = mapping(entry, where)
    check_keys(entry, where, required=("seeds",), optional=("task", "data", "runs", "set", "note"))
    protocol = entry.get("task", name)
    if protocol not in known:
        hint = f"{nearest(protocol, known)}; an instance of another name says which: {where}.task"
        said = f"{where}.task is {protocol!r}" if "task" in entry else f"tasks has {name!r}"
        raise ConfigError(f"{said}; available tasks: {known}{hint}")
    note = entry.get("note", "")
    if not isinstance(note, str):
        raise ConfigError(f"{where}.note is {note!r}; expected a sentence for the report")
    own = check_seeds(entry["seeds"], f"{where}.seeds")
    if not set(own) <= set(seeds):
        raise ConfigError(f"{where}.seeds is {list(own)}; expected seeds that are pretrained: {list(seeds)}")
    head = protocol_head(protocol)
    reasons = {run: _why_not(protocol, head, *encoders[run], named="runs" in entry) for run in runs}
    fitting = [run for run, reason in reasons.items() if reason is None]
    chosen = entry.get("runs", fitting)
    if not isinstance(chosen, list) or not chosen:
        raise ConfigError(
            f"{where}.runs is {chosen!r}; expected a list of runs, or no such key for all it applies to: {fitting}"
        )
    for run in chosen:
        if run not in list(runs):
            raise ConfigError(f"{where}.runs names {run!r}; available runs: {list(runs)}{nearest(run, runs)}")
        if reasons[run] is not None:
            raise ConfigError(f"{where}.runs names {run!r}, but {reasons[run]}; runs that it applies to: {fitting}")
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"{where}.runs is {chosen!r}; a run stands there twice")
    return Task(
        name=name,
        protocol=protocol,
        head=head,
        data=choose_set(data, head.kind, entry.get("data"), where),
        seeds=own,
        runs=tuple(chosen),
        changes=MappingProxyType(mapping(entry.get("set") or {}, f"{where}.set")),
        skipped={} if "runs" in entry else {run: reason for run, reason in reasons.items() if reason is not None},
        note=note.strip(),
    )


def _why_not(protocol: str, head: ProtocolHead, model: str, name: str, family: Family, *, named: bool) -> str | None:
    """Why a task cannot measure a run's encoder, or None where it can; some it can if it names its runs."""
    wanted = head.takes or head.kind  # as Task.track
    taken = family.takes + (family.takes_if_named if named else ())
    if wanted not in taken:
        takes = " or ".join(taken)
        more = f", and {wanted} for tasks that list it in their runs" if wanted in family.takes_if_named else ""
        return f"{protocol} gives its encoder {wanted}, and {model}, of family {name}, takes {takes}{more}"
    if head.needs not in family.gives:
        gives = " and ".join(family.gives)
        return f"{protocol} needs {head.needs}, and {model}, of family {name}, gives {gives}"
    return None


def _check_teachers(runs: Mapping[str, Run], study: Path) -> None:
    for name in runs:
        chain = [name]
        while (teacher := runs[chain[-1]].teacher) is not None:
            if teacher not in list(runs):
                hint = nearest(teacher, runs)
                raise ConfigError(f"runs.{chain[-1]}.teacher is {teacher!r}; available runs: {list(runs)}{hint}")
            if teacher in chain:
                circle = " <- ".join([*chain, teacher])
                raise ConfigError(f"the teachers form a cycle ({circle}); one run of it must learn without a teacher")
            chain.append(teacher)
    for run in runs.values():
        _check_teacher(run, runs, study)


def _check_teacher(run: Run, runs: Mapping[str, Run], study: Path) -> None:
    """A run that learns from another names it, and one that learns from none does not."""
    wanted, where = run.head.teacher, f"runs.{run.name}"
    if wanted is None and run.teacher is not None:
        raise ConfigError(f"{where}.teacher is {run.teacher!r}, but {run.method} learns from no teacher; leave it out")
    if wanted is None or run.weights is not None:
        return
    fitting = [
        name
        for name, other in runs.items()
        if name != run.name
        and (wanted == "any" or other.method in wanted)
        and set(run.seeds) <= set(other.seeds)
        and other.data.kind == run.data.kind
    ]
    if run.teacher is None:
        raise ConfigError(f"{where} lacks a teacher, which {run.method} learns from; runs that fit: {fitting}")
    teacher = runs[run.teacher]
    if wanted != "any" and teacher.method not in wanted:
        raise ConfigError(
            f"{where}.teacher is {run.teacher!r}, a run of {teacher.method}; "
            f"{run.method} learns from {' or '.join(wanted)}; runs that fit in {study}: {fitting}"
        )
    if teacher.data.kind != run.data.kind:
        raise ConfigError(
            f"{where}.teacher is {run.teacher!r}, which learned from {teacher.data.kind}; {run.name} reads "
            f"{run.data.kind}; runs that fit in {study}: {fitting}"
        )
    if not set(run.seeds) <= set(teacher.seeds):
        raise ConfigError(
            f"{where} has the seeds {list(run.seeds)} and its teacher {run.teacher!r} {list(teacher.seeds)}; "
            "expected at least the same, since each seed learns from its own teacher"
        )


def _recipe(run: Run, scale: str) -> dict[str, Any]:
    path = RECIPES / f"{run.method}.yaml"
    settings = section(path, RECIPE_HEAD, scale, run.changes, f"runs.{run.name}.set")
    method = run.head.method or run.method
    return {"version": run.head.version, "method": method, "data": run.data.name, **settings}


def _encoder(run: Run, model: str) -> tuple[str, str, Family]:
    """The model of a run, which its method can train, with the name of its family, and that."""
    name, family = family_of(model, f"runs.{run.name}")
    if name not in run.head.encoders:
        fitting = [other for other, size in models().items() if size["family"] in run.head.encoders]
        raise ConfigError(
            f"runs.{run.name}: model is {model!r}, of family {name!r}; "
            f"{run.method} trains {' or '.join(run.head.encoders)}: {fitting}"
        )
    return model, name, family


def _protocol(task: Task, scale: str, model: str) -> dict[str, Any]:
    """A task's protocol for one run: the same for every method, but for what goes with the size of the model."""
    path = PROTOCOLS / f"{task.protocol}.yaml"
    settings = section(path, PROTOCOL_HEAD, scale, task.changes, f"tasks.{task.name}.set", model=model)
    return {"version": task.head.version, "task": task.protocol, "data": task.data.name, **settings}
