"""A study resolved: every cell with what it reads and every number it depends on, as data.

dvc.yaml cannot look a run's method up in the study, nor a method's numbers up in its recipe; it reads the plan
instead, which says both outright. `dvc params diff` then tells which number changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError, Study

PLANS = Path("config/plans")


def resolve(study: Study) -> dict[str, Any]:
    """The plan: data sets, settings per stage and run, and cells by the names DVC gives them."""
    stages = ["pretrain", *study.tasks]
    runs = {"pretrain": tuple(study.runs), **{task.name: task.runs for task in study.tasks.values()}}
    settings = {stage: {run: study.settings(stage, run) for run in runs[stage]} for stage in stages}
    cells: dict[str, dict[str, Any]] = {stage: {} for stage in stages}
    for stage, run, seed in study.cells():
        data = study.data[settings[stage][run]["data"]]
        cell = cells[stage][f"{run}-{seed}"] = {"run": run, "seed": seed, "data": data.name}
        if stage == "pretrain":  # what must be there first: the teacher, or once more the data
            teacher = study.runs[run].teacher
            folder = study.folder("pretrain", teacher, seed) if teacher else data.folder
            cell["after"] = f"{folder}/manifest.json"
    return {
        "study": study.name,
        "file": str(study.path),
        "data": {role: {"name": spec.name, "source": spec.source, **spec.options} for role, spec in study.data.items()},
        "settings": settings,
        "cells": cells,
    }


def write(study: Study) -> Path:
    """Write the plan of a study to `config/plans/<study>.json`."""
    path = PLANS / f"{study.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_text(study))
    return path


def check(study: Study) -> None:
    """Raises ConfigError when the plan on disk is not what the study and its recipes say now."""
    path = PLANS / f"{study.name}.json"
    if not path.is_file() or path.read_text() != _text(study):
        raise ConfigError(
            f"{path} is not what {study.path} and its recipes say now; run `python -m stages.plan --study {study.path}`"
        )


def _text(study: Study) -> str:
    # JSON: DVC reads the plan once per stage, and takes 0.2 s to do so where it is YAML.
    return json.dumps(resolve(study), indent=1) + "\n"
