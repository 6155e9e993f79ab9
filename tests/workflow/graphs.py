"""The graph of the study as Snakemake and as DVC resolve it, in one form that can be compared."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PARTS = (
    ".gitignore",
    ".dvcignore",
    "Snakefile",
    "dvc.yaml",
    "config",
    "pipeline",
    "profiles",
    "reports/templates",
    "stages",
)


@dataclass(frozen=True)
class Node:
    """One node: the command without its log, what it reads and writes, and the numbers it depends on."""

    command: str
    deps: frozenset[str]
    outs: frozenset[str]
    settings: Any = field(hash=False)


def copy_tree(target: Path) -> Path:
    """A copy of what the workflow consists of, without anything it has made."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / part).exists():
            shutil.copy(ROOT / part, target / part)
    return target


@contextlib.contextmanager
def snakemake_jobs(folder: Path, study: str = "demo") -> Iterator[list[Any]]:
    """Every job of the target `all`, as Snakemake's own objects."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

    settings = ConfigSettings(configfiles=[folder / "config" / f"{study}.yaml"])
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(ResourceSettings(cores=1), settings, snakefile=folder / "Snakefile", workdir=folder)
        with contextlib.redirect_stdout(io.StringIO()):
            workflow.dag(DAGSettings(targets={"all"}, forceall=True)).printrulegraph()  # has it resolve the graph
        gc.enable()  # which the Snakefile stops for the process that it takes for Snakemake's own
        yield [job for job in workflow._workflow.dag.jobs if job.rule.name != "all"]


def snakemake_graph(folder: Path) -> dict[str, Node]:
    with snakemake_jobs(folder) as jobs:
        return {_name(job): _node(job) for job in jobs}


def _name(job: Any) -> str:
    """DVC's name of a node: the stage, and run and seed or data set."""
    wildcards = dict(job.wildcards.items())
    if job.rule.name in ("prepare", "report"):
        return f"prepare@{wildcards['data']}" if wildcards else "report"
    return f"{wildcards.get('task', 'pretrain')}@{wildcards['run']}-{wildcards['seed']}"


def _node(job: Any) -> Node:
    settings = job.params.get("settings")
    return Node(
        command=re.sub(r'^"\$\{UNMASK_START:-env\}" | > \S+ 2>&1$', "", job.shellcmd),  # run as it is, or as a fork
        deps=frozenset(map(str, job.input)),
        outs=frozenset(map(str, job.output)),
        settings=None if settings is None else json.loads(settings),
    )


def dvc_graph(folder: Path) -> dict[str, Node]:
    from dvc.dependency.param import ParamsDependency
    from dvc.repo import Repo

    here = os.getcwd()
    os.chdir(folder)
    try:
        if not Path(".dvc").exists():
            Repo.init(no_scm=True).close()
        with Repo() as repo:
            stages = repo.index.stages
            return {
                stage.addressing: Node(
                    command=stage.cmd,
                    deps=frozenset(dep.def_path for dep in stage.deps if not isinstance(dep, ParamsDependency)),
                    # Snakemake must not know of `files`, which it would delete when a job fails.
                    outs=frozenset(out.def_path for out in stage.outs if not out.def_path.endswith("/files")),
                    settings=_settings([dep for dep in stage.deps if isinstance(dep, ParamsDependency)]),
                )
                for stage in stages
            }
    finally:
        os.chdir(here)


def _settings(dependencies: list[Any]) -> Any:
    """The one entry of a params file that a stage names, `None` where it names none."""
    places = [(dep.def_path, place) for dep in dependencies for place in dep.params]
    if not places:
        return None
    ((path, place),) = places
    value = json.loads(Path(path).read_text())
    for key in place.split("."):
        value = value[key]
    return value


def differences(first: dict[str, Node], second: dict[str, Node], names: tuple[str, str]) -> list[str]:
    """What is missing where, a line each."""
    told = []
    for name in sorted(first.keys() | second.keys()):
        pair = (first.get(name), second.get(name))
        for node, other, here, there in zip(pair, pair[::-1], names, names[::-1], strict=True):
            if node is None:
                told.append(f"{name}: in {there}, not in {here}")
            elif other is not None:
                told += [f"{name}: dep {dep} in {here}, not in {there}" for dep in sorted(node.deps - other.deps)]
                told += [f"{name}: out {out} in {here}, not in {there}" for out in sorted(node.outs - other.outs)]
        if None not in pair:
            for what in ("command", "settings"):
                mine, other = (getattr(node, what) for node in pair)
                if mine != other:
                    told.append(f"{name}: {what} is {mine!r} in {names[0]}, {other!r} in {names[1]}")
    return told
