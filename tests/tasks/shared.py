"""Measure every task without training: alone, or as one of several processes.

python -m pipeline.engine.loopback --nproc-per-node=2 -m tests.tasks.shared FOLDER
"""

from __future__ import annotations

import contextlib
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from pipeline.cell import Cell
from pipeline.config import load_study
from pipeline.graph import Graph
from tests.real import ROOT

TASKS = {
    "knn": "mae",
    "few_labels": "mae",
    "linear_probe": "mixmask",
    "finetune": "mixmask",
    "detect": "mae",
    "segment": "mae",
    "separability": "mae",
    "video_knn": "mae-st",
    "video_few_labels": "mae-st",
    "masked_tokens": "m3ae",
    "continual": "exssnet",
    "face_segmentation": "brep-ssl",
}
BATCH = 3  # samples of a batch, so that shares are not even
SETS = ("digits", "scenes-coco", "scenes-ade20k", "moving-digits", "captions", "machined", "digit-pairs")


def write(folder: Path) -> None:
    (folder / "config").mkdir(parents=True)
    for name in ("recipes", "tasks", "models"):
        (folder / "config" / name).symlink_to(ROOT / "config" / name)
    study = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    study["runs"] = {name: study["runs"][name] for name in dict.fromkeys(TASKS.values())}
    study["tasks"] = {task: study["tasks"][task] | {"runs": [run]} for task, run in TASKS.items()}
    (folder / "config/tiny.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def cells() -> dict[str, Cell]:
    graph = Graph(load_study("config/tiny.yaml"))
    return {task: Cell(graph.node(task, run, 0)) for task, run in TASKS.items()}


def untrained(model: Any, *_: Any, **__: Any) -> dict[str, Any]:
    """In place of training: BatchNorm's statistics become those of this process, as training leaves them."""
    import torch
    from mmengine import dist

    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer += 0.1 * torch.arange(len(buffer)).sin()
    dist.barrier()
    return {}


def measure_all() -> dict[str, Any]:
    """Records and published files of each task, those of the first process."""
    import torch

    from pipeline.engine.processes import connect
    from pipeline.tasks import knn

    torch.set_num_threads(1)
    connect()
    knn.CHUNK = 9
    found = {}
    for task, cell in cells().items():
        module = import_module(f"pipeline.tasks.{task}")
        if hasattr(module, "train"):
            module.train = untrained
        for key in ("batch_size", "eval_batch_size"):
            if key in cell.settings:
                cell.settings[key] = 1 if task in ("detect", "segment") else BATCH
        if told := module.evaluate(cell):
            files = {path.name: path.read_bytes().hex() for path in cell.files.iterdir()}
            found[task] = {"records": told["records"], "files": files}
    return found


if __name__ == "__main__":
    with contextlib.chdir(sys.argv[1]):
        if found := measure_all():
            Path("found.json").write_text(json.dumps(found))
