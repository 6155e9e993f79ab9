"""What is to be run: studies, their runs and tasks, and the recipes behind them.

A study (`config/<study>.yaml`) is a grid of runs, tasks and seeds over named data sets. Its numbers stand in
recipes (`config/recipes/<method>.yaml`, `config/tasks/<task>.yaml`), one section per scale. This module reads
and checks them all, so that a mistake is found while planning; it never imports torch.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

RECIPES = Path("config/recipes")
PROTOCOLS = Path("config/tasks")
MODELS = Path("config/models.yaml")
ROLES = ("images", "detection", "segmentation")
# Which role each built-in source can play.
SOURCES = {
    "digits": "images",
    "imagenet": "images",
    "scenes_coco": "detection",
    "coco": "detection",
    "scenes_ade20k": "segmentation",
    "ade20k": "segmentation",
}
UNITS = ("steps", "epochs")
FAMILIES = ("vit", "beit", "clip", "resnet", "vit_st")
# What stands beside the scales of a recipe.
_HEAD = ("version", "encoders", "teacher")
# Values whose range their names tell; see `_check_range`.
_FRACTIONS = ("betas", "drop_path", "label_smoothing", "layer_decay", "momentum", "ema_momentum")
_COUNTS = ("accumulate", "checkpoint_every", "log_every", "resize")
_MAY_BE_NONE = ("num_workers", "num_extra_levels", "teacher_depth")


class ConfigError(ValueError):
    """A mistake in what the user wrote: says what was received, expected and available, and the next step."""


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """One data set of a study: the part it plays, where it comes from and the options of its source."""

    role: str
    name: str
    source: str
    options: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        return Path("data") / self.name


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a cluster job asks for: nodes, and on each of them GPUs, CPUs and memory; hours until it is stopped."""

    nodes: int = 1
    gpus: int = 0
    cpus: int = 1
    memory_gib: int = 3
    hours: int = 1


@dataclass(frozen=True, kw_only=True)
class Run:
    """One pretraining of the grid: a method, what it changes in the recipe, and whom it learns from.

    weights: file of the authors' that is read instead of training.
    """

    name: str
    method: str
    seeds: tuple[int, ...]
    changes: Mapping[str, Any]
    teacher: str | None
    weights: str | None
    cluster: Mapping[str, Request]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One downstream protocol of the grid: the seeds it is measured with and the runs it applies to."""

    name: str
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    changes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Study:
    """The whole grid: runs × tasks × seeds over named data sets, at one scale."""

    path: Path
    name: str
    scale: str
    seeds: tuple[int, ...]
    data: Mapping[str, DataSpec]
    runs: Mapping[str, Run]
    tasks: Mapping[str, Task]
    cluster: Mapping[str, Request]

    def cells(self) -> Iterator[tuple[str, str, int]]:
        """Every (stage, run, seed) the study implies, pretraining first."""
        for stage in ("pretrain", *self.tasks):
            runs = self.runs if stage == "pretrain" else self.tasks[stage].runs
            yield from ((stage, run, seed) for run in runs for seed in self.seeds_of(stage, run))

    def seeds_of(self, stage: str, run: str) -> tuple[int, ...]:
        """The seeds at which a stage treats a run: those of the run, and of the task as well."""
        own = self.runs[run].seeds
        return own if stage == "pretrain" else tuple(seed for seed in self.tasks[stage].seeds if seed in own)

    def folder(self, stage: str, run: str, seed: int | None) -> Path:
        """Where a cell publishes: `results/<study>/<stage>/<run>-<seed>`."""
        return Path("results") / self.name / stage / f"{run}-{seed}"

    def settings(self, stage: str, run: str) -> dict[str, Any]:
        """Every number one cell depends on: recipe or protocol at this scale, with the changes applied."""
        recipe = _recipe(self.runs[run], self.scale)
        if stage == "pretrain":
            weights = self.runs[run].weights
            return recipe if weights is None else {**recipe, "weights": weights}
        return _protocol(self.tasks[stage], self.scale, recipe)

    def request(self, stage: str, run: str) -> Request:
        """What a cluster job of these cells asks for: the run's own word, or the study's, or one CPU for an hour."""
        return {**self.cluster, **self.runs[run].cluster}.get(stage, Request())


@dataclass(frozen=True)
class Duration:
    """A length of training, written `800 epochs` or `300 steps`; steps are all that training ever sees."""

    value: float
    unit: str

    @classmethod
    def parse(cls, text: str, key: str = "duration") -> Duration:
        number, _, unit = str(text).partition(" ")
        unit = unit if unit.endswith("s") else unit + "s"
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if unit not in UNITS or not 0 <= value < math.inf:
            raise ConfigError(f"{key} is {text!r}; expected a number and a unit, such as '300 steps' or '800 epochs'")
        return cls(value, unit)

    def steps(self, num_samples: int, batch_size: int) -> int:
        """Optimiser steps of this duration.

        Args:
            num_samples: images in the training split.
            batch_size: images of one optimiser step over all devices; the incomplete last batch is dropped.
        """
        if self.unit == "steps":
            return round(self.value)
        return round(self.value * max(1, num_samples // batch_size))


def load_study(path: str | Path) -> Study:
    """Read and check a study.

    Raises:
        ConfigError: on the first mistake in the study or in a recipe it uses.
    """
    path = Path(path)
    raw = _read(path, "study")
    _keys(raw, f"study {path}", required=("scale", "seeds", "data", "runs", "tasks"), optional=("cluster",))
    data = {role: _data(role, entry) for role, entry in _mapping(raw["data"], "data").items()}
    names = [spec.name for spec in data.values()]
    if len(set(names)) < len(names):
        raise ConfigError(f"two data sets of {path} share a name ({names}); give each its own folder under data/")
    seeds = _seeds(raw["seeds"], "seeds")
    runs = {name: _run(name, entry, seeds) for name, entry in _mapping(raw["runs"], "runs").items()}
    _check_teachers(runs, path)
    tasks = {name: _task(name, entry, runs, seeds) for name, entry in _mapping(raw["tasks"], "tasks").items()}
    if not isinstance(raw["scale"], str):
        raise ConfigError(f"scale is {raw['scale']!r}; expected the name of a section of the recipes, such as 'demo'")
    study = Study(
        path=path,
        name=path.stem,
        scale=raw["scale"],
        seeds=seeds,
        data=MappingProxyType(data),
        runs=MappingProxyType(runs),
        tasks=MappingProxyType(tasks),
        cluster=_cluster(raw.get("cluster"), "cluster"),
    )
    for stage, run, _ in study.cells():
        role = study.settings(stage, run)["data"]
        if role not in data:
            raise ConfigError(f"{stage} of run {run} reads {role!r}, which study {path} lacks; "
                              f"available: {list(data)}; add data.{role}")  # fmt: skip
    return study


def available_methods() -> list[str]:
    """Methods that can be named in a study: those with both a module and a recipe."""
    modules = {file.stem for file in (Path(__file__).parent / "methods").glob("*.py")}
    return sorted(file.stem for file in RECIPES.glob("*.yaml") if file.stem in modules)


def available_tasks() -> list[str]:
    """Tasks that can be named in a study: those with a protocol."""
    return sorted(file.stem for file in PROTOCOLS.glob("*.yaml"))


def models() -> dict[str, dict[str, Any]]:
    """The named encoders of `config/models.yaml` with their family and sizes."""
    table = _read(MODELS, "table of models")
    for name, size in table.items():
        if _mapping(size, f"{MODELS}: {name}").get("family") not in FAMILIES:
            raise ConfigError(f"{MODELS}: {name}.family is {size.get('family')!r}; expected one of {list(FAMILIES)}")
    return table


def spec_hash(*parts: Any) -> str:
    """SHA-256 of JSON-able parts; equal specifications share a work directory and so resume each other."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _data(role: str, entry: Any) -> DataSpec:
    where = f"data.{role}"
    if role not in ROLES:
        raise ConfigError(f"data has {role!r}; expected one of {list(ROLES)}{_nearest(role, ROLES)}")
    entry = _mapping(entry, where)
    _keys(entry, where, required=("name", "source"), open_ended=True)
    fitting = [source for source, plays in SOURCES.items() if plays == role]
    if entry["source"] not in fitting:
        hint = _nearest(entry["source"], fitting)
        raise ConfigError(f"{where}.source is {entry['source']!r}; expected one of {fitting}{hint}")
    options = {key: value for key, value in entry.items() if key not in ("name", "source")}
    for key, value in options.items():
        _check_range(f"{where}.{key}", value)
    name = _name(entry["name"], f"{where}.name")
    return DataSpec(role=role, name=name, source=entry["source"], options=MappingProxyType(options))


def _run(name: str, entry: Any, seeds: tuple[int, ...]) -> Run:
    where = f"runs.{_name(name, 'a run')}"
    entry = _mapping(entry, where)
    _keys(entry, where, required=("method",), optional=("set", "seeds", "teacher", "weights", "cluster"))
    method, known = entry["method"], available_methods()
    if method not in known:
        raise ConfigError(f"{where}.method is {method!r}; available methods: {known}{_nearest(method, known)}")
    changes = MappingProxyType(_mapping(entry.get("set") or {}, f"{where}.set"))
    cluster = _cluster(entry.get("cluster"), f"{where}.cluster")
    weights = entry.get("weights")
    if weights is not None and not isinstance(weights, str):
        raise ConfigError(f"{where}.weights is {weights!r}; expected the path of a file, such as 'weights/mae.pth'")
    own = _seeds(entry.get("seeds", list(seeds)), f"{where}.seeds")
    if not set(own) <= set(seeds):
        raise ConfigError(f"{where}.seeds is {list(own)}; expected seeds of the study: {list(seeds)}")
    return Run(
        name=name,
        method=method,
        seeds=own,
        changes=changes,
        teacher=entry.get("teacher"),
        weights=weights,
        cluster=cluster,
    )


def _cluster(entry: Any, where: str) -> Mapping[str, Request]:
    """Stage to request, from `{pretrain: {nodes: 2, gpus: 8}}`."""
    stages, names = ["pretrain", *available_tasks()], [field.name for field in fields(Request)]
    requests = {}
    for stage, asked in _mapping(entry or {}, where).items():
        if stage not in stages:
            raise ConfigError(f"{where} has {stage!r}; available stages: {stages}{_nearest(stage, stages)}")
        asked = _mapping(asked, f"{where}.{stage}")
        _keys(asked, f"{where}.{stage}", required=(), optional=tuple(names))
        for key, value in asked.items():
            least = 0 if key == "gpus" else 1
            if type(value) is not int or value < least:
                raise ConfigError(f"{where}.{stage}.{key} is {value!r}; expected a whole number, {least} or more")
        requests[stage] = Request(**asked)
    return MappingProxyType(requests)


def _task(name: str, entry: Any, runs: Mapping[str, Run], seeds: tuple[int, ...]) -> Task:
    where, known = f"tasks.{name}", available_tasks()
    if name not in known:
        raise ConfigError(f"tasks has {name!r}; available tasks: {known}{_nearest(name, known)}")
    entry = _mapping(entry, where)
    _keys(entry, where, required=("seeds",), optional=("runs", "set"))
    own = _seeds(entry["seeds"], f"{where}.seeds")
    if not set(own) <= set(seeds):
        raise ConfigError(f"{where}.seeds is {list(own)}; expected seeds that are pretrained: {list(seeds)}")
    chosen = entry.get("runs", list(runs))
    if not isinstance(chosen, list) or not chosen:
        raise ConfigError(f"{where}.runs is {chosen!r}; expected a list of runs, or no such key for all: {list(runs)}")
    for run in chosen:
        if run not in list(runs):
            raise ConfigError(f"{where}.runs names {run!r}; available runs: {list(runs)}{_nearest(run, runs)}")
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"{where}.runs is {chosen!r}; a run stands there twice")
    changes = MappingProxyType(_mapping(entry.get("set") or {}, f"{where}.set"))
    return Task(name=name, seeds=own, runs=tuple(chosen), changes=changes)


def _check_teachers(runs: Mapping[str, Run], study: Path) -> None:
    for name in runs:
        chain = [name]
        while (teacher := runs[chain[-1]].teacher) is not None:
            if teacher not in list(runs):
                hint = _nearest(teacher, runs)
                raise ConfigError(f"runs.{chain[-1]}.teacher is {teacher!r}; available runs: {list(runs)}{hint}")
            if teacher in chain:
                circle = " <- ".join([*chain, teacher])
                raise ConfigError(f"the teachers form a cycle ({circle}); one run of it must learn without a teacher")
            chain.append(teacher)
    for run in runs.values():
        _check_teacher(run, runs, study)


def _check_teacher(run: Run, runs: Mapping[str, Run], study: Path) -> None:
    """A run that learns from another names it, and one that learns from none does not."""
    path = RECIPES / f"{run.method}.yaml"
    wanted, where = _read(path, "recipe").get("teacher"), f"runs.{run.name}"
    if wanted != "any" and not (wanted is None or isinstance(wanted, list)):
        raise ConfigError(f"{path}: teacher is {wanted!r}; expected 'any', or a list of methods")
    if wanted is None and run.teacher is not None:
        raise ConfigError(f"{where}.teacher is {run.teacher!r}, but {run.method} learns from no teacher; leave it out")
    if wanted is None or run.weights is not None:
        return
    fitting = [
        name
        for name, other in runs.items()
        if name != run.name and (wanted == "any" or other.method in wanted) and set(run.seeds) <= set(other.seeds)
    ]
    if run.teacher is None:
        raise ConfigError(f"{where} lacks a teacher, which {run.method} learns from; runs that fit: {fitting}")
    if run.teacher in list(runs) and wanted != "any" and runs[run.teacher].method not in wanted:
        raise ConfigError(
            f"{where}.teacher is {run.teacher!r}, a run of {runs[run.teacher].method}; "
            f"{run.method} learns from {' or '.join(wanted)}; runs that fit in {study}: {fitting}"
        )
    if run.teacher in list(runs) and not set(run.seeds) <= set(runs[run.teacher].seeds):
        raise ConfigError(
            f"{where} has the seeds {list(run.seeds)} and its teacher {run.teacher!r} {list(runs[run.teacher].seeds)}; "
            "expected at least the same, since each seed learns from its own teacher"
        )


def _recipe(run: Run, scale: str) -> dict[str, Any]:
    path = RECIPES / f"{run.method}.yaml"
    settings = _section(path, scale, run.changes, f"runs.{run.name}.set")
    families, sizes = _read(path, "recipe").get("encoders", ["vit"]), models()
    family = sizes[settings["model"]]["family"]
    if family not in families:
        fitting = [name for name, size in sizes.items() if size["family"] in families]
        raise ConfigError(
            f"runs.{run.name}: model is {settings['model']!r}, of family {family!r}; "
            f"{run.method} trains {' or '.join(families)}: {fitting}"
        )
    return {"method": run.method, **settings}


def _protocol(task: Task, scale: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A task's protocol for one run: the same for every method, but for what goes with the size of the model."""
    path = PROTOCOLS / f"{task.name}.yaml"
    return _section(path, scale, task.changes, f"tasks.{task.name}.set", model=recipe["model"])


def _section(
    path: Path, scale: str, changes: Mapping[str, Any], where: str, model: str | None = None
) -> dict[str, Any]:
    """One scale's section of a recipe with its per-model overlay and the study's changes applied."""
    raw = _read(path, "recipe")
    scales = [key for key in raw if key not in _HEAD]
    if scale not in scales:
        raise ConfigError(f"{path} has no section {scale!r}; available scales: {scales}{_nearest(scale, scales)}")
    if not isinstance(raw.get("version"), int):
        raise ConfigError(f"{path} has version {raw.get('version')!r}; expected a whole number, raised with numerics")
    settings = deepcopy(_mapping(raw[scale], f"{path}: {scale}"))
    overlays = _mapping(settings.pop("by_model", {}), f"{path}: {scale}.by_model")
    flat = _flatten(settings)
    for key in ("data",) if model else ("data", "model"):
        if key not in settings:
            raise ConfigError(f"{path}: section {scale} lacks {key!r}; available: {sorted(settings)}")
    for key in changes:
        if key not in flat:
            raise ConfigError(f"{where} changes {key!r}, which {path} ({scale}) lacks; "
                              f"available: {sorted(flat)}{_nearest(key, flat)}")  # fmt: skip
    model = model or changes.get("model") or settings["model"]
    for name, source in ((model, where if "model" in changes else f"{path}: {scale}"),
                         *((name, f"{path}: {scale}.by_model") for name in overlays)):  # fmt: skip
        if name not in list(models()):
            raise ConfigError(f"{source}: model is {name!r}; available: {sorted(models())}{_nearest(name, models())}")
    for key, value in _flatten(overlays.get(model, {})).items():
        if key not in flat:
            raise ConfigError(f"{path}: by_model.{model} changes {key!r}, which section {scale} lacks; "
                              f"available: {sorted(flat)}{_nearest(key, flat)}")  # fmt: skip
        flat[key] = value
    for key, value in changes.items():
        # What some scale leaves open may be left open by a study.
        open_ = any(_flatten(_mapping(raw[name], f"{path}: {name}")).get(key, 0) is None for name in scales)
        flat[key] = None if value is None and open_ else _check_type(f"{where}: {key}", value, flat[key])
        _check_range(f"{where}: {key}", value)
    for key, value in flat.items():
        _check_range(f"{path}: {scale}.{key}", value)
    return {"version": raw["version"], **_nest(flat)}


def _check_type(where: str, value: Any, like: Any) -> Any:
    """A change has the type of what it changes; a whole number may stand for a fraction."""
    if isinstance(value, list) and isinstance(like, list):
        example = next((item for item in like if isinstance(item, float)), like[0] if like else None)
        return [_check_type(where, item, example) for item in value]
    if like is None or (type(value) is type(like) and not isinstance(value, Mapping)):
        return value
    if type(like) is float and type(value) is int:
        return float(value)
    expected = "no key (it is empty in the recipe)" if like == {} else f"a {type(like).__name__}, such as {like!r}"
    raise ConfigError(f"{where} is {value!r}; expected {expected}{_text_hint(value)}")


def _check_range(where: str, value: Any) -> None:
    """Ranges follow from names: ratios are fractions, counts and sizes are positive, rates are not negative."""
    name = re.split(r"[. ]", where)[-1]
    if name in ("duration", "warmup"):
        if Duration.parse(value, where).value == 0 and name == "duration":
            raise ConfigError(f"{where} is {value!r}; expected more than none, such as '300 steps'")
        return
    if name == "precision" and value not in ("float32", "bf16"):
        raise ConfigError(f"{where} is {value!r}; expected 'float32' or 'bf16'")
    for item in value if isinstance(value, list) else [value]:
        number = type(item) in (int, float) and math.isfinite(item)
        if type(item) is float and not number:
            raise ConfigError(f"{where} is {value!r}; expected a finite number")
        if item is None:
            continue
        if name == "mask_ratio" and not (number and 0 < item < 1):
            raise ConfigError(f"{where} is {value!r}; expected a fraction between 0 and 1 "
                              f"(0.75 hides three patches in four){_text_hint(item)}")  # fmt: skip
        if (name.endswith(("_ratio", "_share")) or name in _FRACTIONS) and not (number and 0 <= item <= 1):
            raise ConfigError(f"{where} is {value!r}; expected a fraction between 0 and 1{_text_hint(item)}")
        if name.startswith("num_") or name.endswith(("_size", "_depth", "_width", "_heads", "_images", *_COUNTS)):
            if type(item) is not int or item < (name not in _MAY_BE_NONE):
                raise ConfigError(f"{where} is {value!r}; expected a positive whole number")
        if name.endswith(("lr", "lrs", "weight_decay", "mixup", "cutmix")) and not (number and item >= 0):
            raise ConfigError(f"{where} is {value!r}; expected a number of at least 0{_text_hint(item)}")
        if name == "temperature" and not (number and item > 0):
            raise ConfigError(f"{where} is {value!r}; expected a number above 0{_text_hint(item)}")


def _text_hint(value: Any) -> str:
    """YAML 1.1, which every tool here reads, takes a power of ten without a point for text."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value):
        return f" (YAML takes {value} for text; write {re.sub('[eE]', '.0e', value)})"
    return ""


def _name(value: Any, where: str) -> str:
    """Names of runs and data sets become parts of paths, of commands and of DVC's keys."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
        raise ConfigError(f"{where} is called {value!r}; expected letters, digits, '-' and '_', such as 'mae-r50'")
    return value


def _seeds(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not value or not all(type(seed) is int and seed >= 0 for seed in value):
        raise ConfigError(f"{where} is {value!r}; expected a list of whole numbers, such as [0, 1]")
    if len(set(value)) < len(value):
        raise ConfigError(f"{where} is {value!r}; a seed stands there twice")
    return tuple(value)


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        state = path.stat()
        raw = deepcopy(_parse(path.resolve(), state.st_mtime_ns, state.st_size))
    except FileNotFoundError:
        others = sorted(str(file) for file in path.parent.glob("*.yaml") if file != MODELS)
        raise ConfigError(f"there is no {what} {path}; available: {others}{_nearest(path, others)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} {path} cannot be read ({error}); expected a YAML file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return _mapping(raw, str(path))


@lru_cache(maxsize=256)
def _parse(path: Path, changed: int, size: int) -> Any:
    """A file's content; planning a large study asks for the same recipe hundreds of times."""
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {value!r}; expected a mapping of keys to values")
    return dict(value)


def _keys(
    entry: Mapping[str, Any],
    where: str,
    required: tuple[str, ...],
    optional: tuple[str, ...] = (),
    open_ended: bool = False,
) -> None:
    known = (*required, *optional)
    for key in required:
        if key not in entry:
            raise ConfigError(f"{where} lacks {key!r}; required keys: {list(required)}")
    for key in entry:
        if key not in known and not open_ended:
            raise ConfigError(f"{where} has {key!r}; available keys: {list(known)}{_nearest(key, known)}")


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return nested


def _nearest(word: Any, known: Any) -> str:
    near = difflib.get_close_matches(str(word), [str(item) for item in known], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
