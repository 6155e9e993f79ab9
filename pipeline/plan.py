"""A study as DVC reads it: `dvc.yaml` for the demo, `dvc/<study>/dvc.yaml` for any other, and the plan behind it.

A dvc.yaml cannot look a run's method up in the study, nor a method's numbers up in its recipe; it reads the plan
instead, which says both outright. `dvc params diff` then tells which number changed. Both files are written, never
edited: Snakemake writes them at the end of a run, `python -m stages.plan` at any time.
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
    """The plan: settings per stage and run, and every node by the name that DVC gives it."""
    settings: dict[str, dict[str, Any]] = {}
    nodes: dict[str, dict[str, Any]] = {"prepare": {}, "pretrain": {}, **{task: {} for task in study.tasks}}
    for node in Graph(study):
        stage, _, key = node.name.partition("@")
        settings.setdefault(stage, {})[node.run] = node.settings
        nodes[stage][key] = {
            "run": node.run,
            "command": node.command,
            "reads": _reads(node),
            "folder": str(node.folder),
        }
    return {"study": study.name, "file": str(study.path), "settings": settings, "nodes": nodes}


def dvc_file(study: Study) -> str:
    """The text of the study's dvc.yaml."""
    plan, up = _plan_path(study), "" if study.name == ROOT else "../../"
    stages = [_stage(stage, plan, bool(up)) for stage in ("prepare", "pretrain", *study.tasks)]
    report = Graph(study).report
    wdir = f"    wdir: {up.rstrip('/')}\n" if up else ""
    lines = [f"    - {node.manifest}\n" for node in Graph(study)]
    products = ("manifest.json", "index.html", "summary.txt", "tables", "figures")
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
    """Write the plan and the dvc.yaml of a study where they differ; returns both paths."""
    for path, text in (files := _files(study)).items():
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return list(files)


def check(study: Study) -> None:
    """Raises ConfigError when a file on disk is not what the study and its recipes say now."""
    for path, text in _files(study).items():
        if not path.is_file() or path.read_text() != text:
            raise ConfigError(
                f"{path} is not what {study.path} and its recipes say now; "
                f"run `python -m stages.plan --study {study.path}`"
            )


def dvc_path(study: Study) -> Path:
    """Where the dvc.yaml of a study stands."""
    return Path("dvc.yaml") if study.name == ROOT else Path("dvc") / study.name / "dvc.yaml"


def _files(study: Study) -> dict[Path, str]:
    # JSON: DVC reads the plan once per stage, and takes 0.2 s to do so where it is YAML.
    return {_plan_path(study): json.dumps(resolve(study), indent=1) + "\n", dvc_path(study): dvc_file(study)}


def _plan_path(study: Study) -> Path:
    return PLANS / f"{study.name}.json"


def _target(study: Study, name: str = "") -> str:
    if study.name == ROOT:
        return name
    return f" {dvc_path(study)}" if not name else f"{dvc_path(study)}:{name}"


def _reads(node: Node) -> list[str]:
    """Manifests that a node reads, as many for each node of a stage, since DVC lists them by number."""
    found = [f"{folder}/manifest.json" for folder in node.inputs.values()]
    return found if len(found) != 1 else found * 2


def _stage(stage: str, plan: Path, nested: bool) -> str:
    wdir = "      wdir: ../..\n" if nested else ""
    deps = "" if stage == "prepare" else "      deps:\n        - ${item.reads[0]}\n        - ${item.reads[1]}\n"
    return (
        f"  {stage}:\n    foreach: ${{nodes.{stage}}}\n    do:\n{wdir}      cmd: ${{item.command}}\n"
        f'      params:\n        - {plan}: ["settings.{stage}.${{item.run}}"]\n{deps}'
        "      outs:\n        - ${item.folder}/manifest.json\n        - ${item.folder}/files\n"
    )
