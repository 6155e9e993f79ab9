"""A study as DVC reads it: `dvc.yaml` for the demo, `dvc/<study>/dvc.yaml` for any other, and the plan behind it.

A dvc.yaml cannot look a run's method up in the study, nor a method's numbers up in its recipe; it reads the plan
instead, which says both outright: `config/plans/<study>.json` all nodes, and `config/plans/<study>/<run>.json` the
settings of one run or data set, since DVC walks all of a file for each stage that names it. `dvc params diff` then
tells which number changed. All are written, never edited: Snakemake writes them at the end of a run,
`python -m stages.plan` at any time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError, Study
from pipeline.graph import Graph, Node, command

PLANS = Path("config/plans")
ROOT = "demo"  # the study whose graph stands at the top, where `dvc repro` looks for it


def resolve(study: Study) -> dict[str, Any]:
    """The plan: every node by the name that DVC gives it."""
    nodes: dict[str, dict[str, Any]] = {"prepare": {}, "pretrain": {}, **{task: {} for task in study.tasks}}
    for node in Graph(study):
        stage, _, key = node.name.partition("@")
        nodes[stage][key] = {
            "run": node.run,
            "command": node.command,
            "reads": _reads(node),
            "folder": str(node.folder),
        }
    return {"study": study.name, "file": str(study.path), "nodes": nodes}


def settings(study: Study) -> dict[str, dict[str, Any]]:
    """What decides the result of each stage of a run, or of a data set."""
    found: dict[str, dict[str, Any]] = {}
    for node in Graph(study):
        found.setdefault(node.run, {})[node.name.partition("@")[0]] = node.identity
    return found


def dvc_file(study: Study) -> str:
    """The text of the study's dvc.yaml."""
    plan, up = _plan_path(study), "" if study.name == ROOT else "../../"
    stages = [_stage(stage, plan.with_suffix(""), bool(up)) for stage in ("prepare", "pretrain", *study.tasks)]
    report = Graph(study).report
    wdir = f"    wdir: {up.rstrip('/')}\n" if up else ""
    lines = [f"    - {node.manifest}\n" for node in Graph(study)]
    products = ("manifest.json", "index.html", "compare.html", "summary.txt", "tables", "figures", "pictures")
    return (
        f"# The study {study.name} in DVC's idiom: the same graph and the same commands as the Snakefile's.\n"
        f"# Written by `python -m stages.plan --study {study.path}`; do not edit.\n#\n"
        f"#     dvc repro{_target(study)}                       everything\n"
        f"#     dvc repro {_target(study, 'pretrain@mae-0')}         one node: stage@run-seed\n"
        "#     dvc push, dvc pull              data, checkpoints and results\n"
        f"vars:\n  - {up}{plan}\n\nstages:\n"
        + "\n".join(stages)
        + f"\n  report:\n{wdir}    cmd: {command('report', study)}\n    deps:\n"
        + "".join(line.replace("    - ", "      - ") for line in lines)
        + "    outs:\n"
        + "".join(f"      - {report}/{product}\n" for product in products)
    )


def write(study: Study) -> list[Path]:
    """Write the plan and the dvc.yaml of a study where they differ; returns these two paths."""
    for path in _left_over(study):
        path.unlink()
    for path, text in _files(study).items():
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return [_plan_path(study), dvc_path(study)]


def check(study: Study) -> None:
    """Raises ConfigError when a file on disk is not what the study and its recipes say now."""
    for path, text in {**_files(study), **dict.fromkeys(_left_over(study))}.items():
        if not path.is_file() or path.read_text() != text:
            raise ConfigError(
                f"{path} is not what {study.path} and its recipes say now; "
                f"run `python -m stages.plan --study {study.path}`"
            )


def dvc_path(study: Study) -> Path:
    """Where the dvc.yaml of a study stands."""
    return Path("dvc.yaml") if study.name == ROOT else Path("dvc") / study.name / "dvc.yaml"


def _files(study: Study) -> dict[Path, str]:
    # JSON: DVC reads a file once per stage, and takes long to do so where it is YAML.
    plans = {_plan_path(study): resolve(study)}
    plans |= {_plan_path(study, run): found for run, found in settings(study).items()}
    return {path: json.dumps(plan, indent=1) + "\n" for path, plan in plans.items()} | {
        dvc_path(study): dvc_file(study)
    }


def _left_over(study: Study) -> list[Path]:
    """Plans of runs that the study no longer has."""
    return sorted(set(_plan_path(study).with_suffix("").glob("*.json")) - set(_files(study)))


def _plan_path(study: Study, run: str = "") -> Path:
    return PLANS / study.name / f"{run}.json" if run else PLANS / f"{study.name}.json"


def _target(study: Study, name: str = "") -> str:
    if study.name == ROOT:
        return name
    return f" {dvc_path(study)}" if not name else f"{dvc_path(study)}:{name}"


def _reads(node: Node) -> list[str]:
    """Manifests that a node reads, as many for each node of a stage, since DVC lists them by number."""
    found = [f"{folder}/manifest.json" for folder in node.inputs.values()]
    return found if len(found) != 1 else found * 2


def _stage(stage: str, plans: Path, nested: bool) -> str:
    wdir = "      wdir: ../..\n" if nested else ""
    deps = "" if stage == "prepare" else "      deps:\n        - ${item.reads[0]}\n        - ${item.reads[1]}\n"
    return (
        f"  {stage}:\n    foreach: ${{nodes.{stage}}}\n    do:\n{wdir}      cmd: ${{item.command}}\n"
        f'      params:\n        - {plans}/${{item.run}}.json: ["{stage}"]\n{deps}'
        "      outs:\n        - ${item.folder}/manifest.json\n        - ${item.folder}/files\n"
    )
