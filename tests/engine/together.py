"""Train every case for a few steps; alone, or as one of several processes: `torchrun ... -m tests.engine.together`.

python -m tests.engine.together FOLDER...    micro-batches stand in a folder's name: one-2, two-2
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

STEPS = 3
EQUAL: dict[str, dict[str, Any]] = {
    "mae": {"method": "mae"},
    "mae-block": {"method": "mae", "set": {"options.mask_kind": "block"}},
    "supervised": {"method": "supervised", "set": {"options.ema_momentum": 0.9}},
    "supervised-mixed": {"method": "supervised", "set": {"options.mixup": 0.8, "options.cutmix": 1.0}},
    "dbot": {"method": "dbot", "teacher": "mae"},
    "maskdistill": {"method": "maskdistill", "teacher": "mae"},
    "imae": {"method": "imae", "teacher": "mae", "set": {"options.mix_weight": 0.3}},
    "imae-drawn": {"method": "imae", "teacher": "mae"},
    "mae-st": {"method": "mae_st"},
    "moco": {"method": "mixmask", "set": {"model": "vit_micro", "options.fill": "none", "options.queue_size": 32}},
}
# Each with what makes it depend on how a batch is shared out.
UNEQUAL: dict[str, tuple[str, dict[str, Any]]] = {
    "clmae": ("the masks of one device's images are kept apart from each other alone", {"method": "clmae"}),
    "mixmask": ("BatchNorm's statistics and the partners are of one device's images", {"method": "mixmask"}),
    "meta-labels": (
        "dropout and, but for the first, exploration are drawn by each device's own generator",
        {
            "method": "meta_multilabel",
            "set": {"options.num_episodes": 1, "options.window": 2, "episode.duration": f"{STEPS} steps"},
        },
    ),
    "mixmask-byol": ("as mixmask", {"method": "mixmask", "set": {"options.base": "byol"}}),
    "mixmask-simsiam": ("as mixmask", {"method": "mixmask", "set": {"options.base": "simsiam"}}),
}
EQUAL_TASKS = ("finetune",)
UNEQUAL_TASKS = {
    "linear_probe": "BatchNorm's statistics are of one device's images, as in the authors' code",
    "detect": "boxes to learn from are sampled by each device's own generator, and losses are means over them",
    "segment": "BatchNorm's statistics are of one device's images on CPUs, where PyTorch synchronises none",
}
MAPS = ("detect", "segment")  # which read some stages of a ResNet only, as of mixmask
# SGD, since Adam blows up what is rounding alone: the gradient of the keys' bias, which softmax ignores.
CHANGES = {"optimizer": "sgd", "momentum": 0.9, "clip_norm": None}


def write(folder: Path) -> None:
    """Lay out the project with a study of all cases."""
    (folder / "config").mkdir(parents=True)
    for name in ("recipes", "tasks", "models"):
        (folder / "config" / name).symlink_to(ROOT / "config" / name)
    study = yaml.safe_load((ROOT / "config/smoke.yaml").read_text())
    short = study["runs"]["mae"]["set"] | {"train.duration": f"{STEPS} steps"}
    cases = EQUAL | {name: entry for name, (_, entry) in UNEQUAL.items()}
    study["runs"] = {name: entry | {"set": short | entry.get("set", {})} for name, entry in cases.items()}
    study["tasks"] = {name: study["tasks"][name] | {"runs": ["mae"]} for name in (*EQUAL_TASKS, *UNEQUAL_TASKS)}
    for name in MAPS:
        study["tasks"][name]["runs"] = ["mae", "mixmask"]
    study["tasks"]["segment"]["set"]["train.batch_size"] = 8  # BatchNorm cannot do with one image a device
    (folder / "config/tiny.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def train_all(accumulate: int) -> None:
    """Train all cases and tasks of the project in the working directory; each of several processes calls it."""
    import torch
    from mmengine import dist

    from pipeline.engine.pretrain import pretrain
    from pipeline.engine.processes import connect

    torch.set_num_threads(1)
    connect()
    graph = Graph(load_study("config/tiny.yaml"))
    for stage, name, seed in graph.study.cells():
        cell = Cell(graph.node(stage, name, seed))
        cell.settings["train"] |= {"accumulate": accumulate} | ({} if stage in UNEQUAL_TASKS else CHANGES)
        if stage == "pretrain":
            pretrain(cell)
        else:
            import_module(f"pipeline.tasks.{stage}").evaluate(cell)
        dist.barrier()  # the next one may read what the first process has just published


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    for place in sys.argv[1:]:
        with contextlib.chdir(place):
            train_all(int(place.rpartition("-")[2]))
