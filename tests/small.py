"""A small made-up project: recipes of a few numbers, one study, and cells published without any training."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from pipeline.cell import Cell
from pipeline.config import Study, load_study
from pipeline.graph import Graph

FAMILY = {
    "takes": ["images"],
    "gives": ["features", "maps"],
    "models": {"vit_micro": {"patch_size": 4, "width": 96}, "vit_large": {"patch_size": 16, "width": 1024}},
}
TYPES = {"options": {"mask_ratio": "mask_ratio", "norm_pixels": "flag"}}
HEADS: dict[str, dict[str, Any]] = {
    "mae": {"title": "MAE", "kind": "images", "types": TYPES},
    "random": {"title": "untrained", "kind": "images"},
    "dbot": {"title": "dBOT", "kind": "images", "types": TYPES},
    "knn": {
        "title": "k-nearest neighbours",
        "short": "k-NN",
        "kind": "images",
        "needs": "features",
        "headline": ["top1"],
        "types": {"num_neighbours": "count", "temperature": "positive"},
    },
    "detect": {
        "title": "Detection",
        "kind": "detection",
        "takes": "images",
        "needs": "maps",
        "headline": ["box_ap"],
        "types": {"duration": "duration", "layer_decay": "factor", "window_size": "count?"},
    },
}
MAE = {
    "model": "vit_micro",
    "options": {"mask_ratio": 0.75, "norm_pixels": True},
    "train": {
        "duration": "800 epochs",
        "warmup": "40 epochs",
        "batch_size": 256,
        "accumulate": 1,
        "optimizer": "adamw",
        "base_lr": 1.5e-4,
        "betas": [0.9, 0.95],
        "weight_decay": 0.05,
        "clip_norm": None,
        "precision": "float32",
        "num_workers": 0,
        "compile": False,
        "checkpoint_every": 100,
        "log_every": 10,
    },
    "by_model": {"vit_large": {"train": {"duration": "200 epochs", "batch_size": 64}}},
}
RECIPES = {"mae": MAE, "random": {"model": "vit_micro", "options": {}}}
PROTOCOLS = {
    "knn": {"num_neighbours": 20, "temperature": 0.07},
    "detect": {
        "duration": "60 steps",
        "layer_decay": 0.7,
        "window_size": 14,
        "by_model": {"vit_large": {"layer_decay": 0.8}},
    },
}
DIGITS = {
    "train_images": 80, "val_images": 40, "image_size": 16, "val_share": 0.2, "scale": [0.6, 0.95], "shift": 0.15,
    "rotation": 20.0, "shear": 0.2, "contrast": 0.35, "colour": 0.05, "noise": 0.02, "seed": 0,
}  # fmt: skip
SCENES = {
    "train_images": 8, "val_images": 4, "image_size": 96, "digits": [0, 1], "photos": ["brick", "grass"],
    "num_grounds": 1, "num_digits": [2, 4], "digit_size": [24, 40], "rotation": 10, "shear": 0.1, "contrast": 0.45,
    "colour": 1.0, "crowd_share": 0.1, "val_share": 0.3, "seed": 0,
}  # fmt: skip
STUDY: dict[str, Any] = {
    "scale": "demo",
    "seeds": [0, 1],
    "data": {
        "digits": {"source": "digits", **DIGITS},
        "scenes": {"source": "scenes_coco", **SCENES},
    },
    "runs": {
        "random": {"method": "random"},
        "mae": {"method": "mae"},
        "mae-r50": {"method": "mae", "set": {"options.mask_ratio": 0.5}},
    },
    "tasks": {"knn": {"seeds": [0, 1]}, "detect": {"seeds": [0], "runs": ["random", "mae"]}},
}


def write_project(root: Path) -> Path:
    """Write recipes, protocols, models and the study of this module; return the study's path."""
    for folder, sections in (("recipes", RECIPES), ("tasks", PROTOCOLS)):
        (root / "config" / folder).mkdir(parents=True)
        for name, section in sections.items():
            write_recipe(root / "config" / folder / f"{name}.yaml", section)
    (root / "config/models").mkdir()
    (root / "config/models/vit.yaml").write_text(yaml.safe_dump(FAMILY))
    return write_study(root, STUDY)


def write_recipe(path: Path, section: dict[str, Any], version: Any = 1, **head: Any) -> None:
    """One recipe: the section for the demo, and another scale that leaves the window open."""
    other = {**section, "window_size": None} if "window_size" in section else section
    head = {"version": version, **HEADS.get(path.stem, HEADS["random"]), **head}
    path.write_text(yaml.safe_dump({**head, "demo": section, "paper": other}))


def taught(root: Path, teacher: str, run: str = "mae") -> dict[str, Any]:
    """The study with one run that learns from another, by a method that does; its recipe is written."""
    write_recipe(root / "config/recipes/dbot.yaml", MAE, teacher="any")
    return changed(changed(STUDY, f"runs/{run}/method", "dbot"), f"runs/{run}/teacher", teacher)


def write_study(root: Path, content: Any, name: str = "small") -> Path:
    path = root / "config" / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path.relative_to(root)


def changed(content: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A copy with one entry set (`runs/mae/set`), or removed where the value is Ellipsis."""
    content = deepcopy(content)
    *parents, last = place.split("/")
    inner = content
    for parent in parents:
        inner = inner.setdefault(parent, {})
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return content


def cell(study: Study, stage: str, run: str, seed: int | None = None) -> Cell:
    """One cell of a study."""
    return Cell(Graph(study).node(stage, run, seed))


def folder(study: Study, stage: str, run: str, seed: int | None = None) -> Path:
    """Where a cell of a study publishes."""
    return Graph(study).node(stage, run, seed).folder


def publish_all(study: Study) -> list[Cell]:
    """Publish every cell of a study, each with one small file, in an order its inputs allow."""
    cells = [Cell(node) for node in Graph(study)]
    for one in cells:
        publish(one)
    return cells


def publish(cell: Cell, content: str = "made up") -> dict[str, Any]:
    name = {"prepare": "pack.bin", "pretrain": "encoder.safetensors"}.get(cell.stage, "log.jsonl")
    (cell.files / name).write_text(f"{cell.folder} {content}\n")
    return cell.publish(cost={"seconds": 1.0})


def load(name: str = "small") -> Study:
    return load_study(f"config/{name}.yaml")
