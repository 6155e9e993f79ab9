"""A made-up study with its records: five runs, five tasks, one cell that failed and one that was not run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from pipeline import manifest as manifests
from pipeline.config import DataSet, Run, Study, Task, flatten, protocol_head, recipe_head
from pipeline.graph import Graph

RECIPE = {"model": "vit_micro", "duration": "120 steps", "precision": "bf16"}
RECIPES = {
    "mae": {**RECIPE, "options": {"mask_ratio": 0.75, "decoder_depth": 2}},
    "supervised": {**RECIPE, "label_smoothing": 0.1},
    "random": RECIPE,
}
PROTOCOLS = {
    "knn": {"num_neighbours": 20, "temperature": 0.07},
    "linear_probe": {"duration": "90 epochs", "lrs": [0.05, 0.1]},
    "finetune": {"duration": "100 epochs", "layer_decay": 0.75},
    "detect": {"duration": "60 steps"},
    "segment": {"duration": "60 steps"},
}
DATA = "data/digits/manifest.json"
METRICS = {
    "knn": ["top1"],
    "linear_probe": ["top1"],
    "finetune": ["top1"],
    "detect": ["box_ap", "box_ap50", "mask_ap", "mask_ap50"],
    "segment": ["miou", "macc", "aacc"],
}
LEVELS = {"random": 9.3, "supervised": 55.0, "mae": 61.0, "mae-r50": 58.0, "mae-r90": 49.0}
# Against value_of below: mae 61.85 on k-NN (n = 2), 60.4 fine-tuned, detection of mae-r50 22.3.
QUOTES = [
    {"method": "MAE", "model": "ViT-B/16", "pretrain_data": "IN1K", "pretrain_epochs": None, "task": task,
     "dataset": "x", "metric": metric, "value": value, "higher_is_better": True,
     "source": source, "kind": "paper"}
    for task, metric, value, source in [
        ("k-NN", "top-1", 61.9, "Made paper Table 1"),
        ("fine-tuning", "top-1", 63.0, "Made paper Table 1"),
        ("detection", "box AP", 22.0, "Made paper Table 2 (a remark)"),
        ("segmentation", "mIoU", 24.0, "Made paper Table 2"),
    ]
]  # fmt: skip
COMPARISONS = [
    {"run": {"model": "vit_micro", "options.mask_ratio": ratio}, "task": task, "metric": metric,
     "quote": {"task": quoted}, "protocol": protocol, "tolerance": 0.5, "because": "made up"}
    for ratio, task, metric, quoted, protocol in [
        (0.75, "knn", "top1", "k-NN", {"pretrain": {"data": "digits", "duration": "120 steps"}}),
        (0.75, "finetune", "top1", "fine-tuning", {"finetune": {"data": "digits"}}),
        (0.5, "detect", "box_ap", "detection", {"detect": {"data": "coco", "duration": "60 steps"}}),
        (0.5, "segment", "miou", "segmentation", {}),
    ]
]  # fmt: skip
NASTY = 'loss is nan at step 7: <b>lr</b> & "scale" | 100 % of $x_i$'
SETS = {
    name: DataSet(name=name, kind=kind, source=source, options={})
    for name, kind, source in [
        ("digits", "images", "digits"),
        ("scenes", "detection", "scenes_coco"),
        ("ground", "segmentation", "scenes_ade20k"),
    ]
}
READ = {"detect": SETS["scenes"], "segment": SETS["ground"]}
TITLES = {"mae": "MAE", "supervised": "supervised", "random": "untrained"}
FAILED, MISSING = ("detect", "random", 0), ("segment", "mae-r50", 0)


def make_run(name: str, method: str, **more: Any) -> Run:
    """A run that changes nothing and learns from none, but for what is said."""
    return Run(
        name=name,
        method=method,
        head=recipe_head(method),
        data=SETS["digits"],
        **{"seeds": (0, 1), "changes": {}, "teacher": None, "weights": None, "cluster": {}, **more},
    )


def with_runs(study: Study, *runs: Run) -> Study:
    """The study with these runs instead of its own, in every task."""
    names = {run.name: run for run in runs}
    tasks = {name: replace(task, runs=tuple(names)) for name, task in study.tasks.items()}
    return replace(study, runs=names, tasks=tasks)


def make_study(scale: str = "demo", name: str = "made") -> Study:
    """The study alone; its recipes are written by `write_config`."""
    runs = {
        "random": make_run("random", "random"),
        "supervised": make_run("supervised", "supervised"),
        "mae": make_run("mae", "mae"),
        "mae-r50": make_run("mae-r50", "mae", changes={"options.mask_ratio": 0.5}),
        "mae-r90": make_run("mae-r90", "mae", changes={"options.mask_ratio": 0.9}),
    }
    tasks = {
        task: Task(
            name=task,
            protocol=task,
            head=protocol_head(task),
            data=READ.get(task, SETS["digits"]),
            seeds=(0, 1) if task in ("knn", "linear_probe") else (0,),
            runs=tuple(runs),
            changes={},
        )
        for task in PROTOCOLS
    }
    return Study(
        path=Path(f"config/{name}.yaml"), name=name, scale=scale, seeds=(0, 1), data=SETS, runs=runs,
        tasks=tasks, cluster={}
    )  # fmt: skip


def written(name: str, section: dict[str, Any]) -> str:
    """A recipe, or a protocol with the head that the project has, of one section whose types follow from its values."""
    head = {"version": 1, "title": TITLES.get(name, name), "kind": "images"}
    if name not in TITLES:
        real = yaml.safe_load((Path(__file__).parents[2] / "config/tasks" / f"{name}.yaml").read_text())
        head = {key: value for key, value in real.items() if key not in ("demo", "paper")}
    kinds = {str: "text", int: "count", float: "number", list: "list of number", type(None): "number?"}
    types = {key: kinds[type(value)] for key, value in flatten(section).items() if key != "model"}
    return yaml.safe_dump({**head, "types": types, "demo": section, "paper": section})


def write_config(root: Path) -> None:
    for folder, files in (("recipes", RECIPES), ("tasks", PROTOCOLS)):
        (root / "config" / folder).mkdir(parents=True, exist_ok=True)
        for name, section in files.items():
            (root / "config" / folder / f"{name}.yaml").write_text(written(name, section))
    for folder, content in (("papers", QUOTES), ("comparisons", {"comparisons": COMPARISONS})):
        (root / "config" / folder).mkdir(exist_ok=True)
        (root / "config" / folder / "mae.yaml").write_text(yaml.safe_dump(content))
    (root / "config/models").mkdir(exist_ok=True)
    family = "takes: [images]\ngives: [features, maps, patches]\nmodels: {vit_micro: {width: 96}}\n"
    (root / "config/models/vit.yaml").write_text(family)
    (root / "config/made.yaml").write_text("scale: demo\n")


def value_of(task: str, metric: str, run: str, seed: int) -> float:
    """A made-up measurement, different for each cell."""
    level = LEVELS.get(run, 50.0) * (1 if metric == "top1" else 0.4 + 0.05 * METRICS[task].index(metric))
    return round(level + 1.7 * seed - 0.3 * list(METRICS).index(task), 3)


def record(metric: str, value: float) -> dict[str, Any]:
    """One measured number in percent, without an interval."""
    return {"metric": metric, "value": value, "unit": "%", "higher_is_better": True, "count": 500, "interval": None}


def publish(study: Study, stage: str, run: str, seed: int, **changes: Any) -> dict[str, Any]:
    """One cell's manifest with its files, as a stage would leave it."""
    files = Path("work/files")
    files.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, len(run), len(stage)])
    pictures = []
    if stage != "knn" and not (stage == "pretrain" and run == "random"):
        steps = [{"step": s, "loss": math.exp(-s / 300) + 0.02 * rng.random() + seed * 0.02, "lr": 1e-3}
                 for s in range(0, 1200, 4)]  # fmt: skip
        (files / "log.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps) + '{"step": 12')
    if stage in ("detect", "segment") or (stage == "pretrain" and run.startswith("mae")):
        tiles = np.kron(rng.integers(0, 255, (8, 24, 3), np.uint8), np.ones((24, 24, 1), np.uint8))
        Image.fromarray(tiles).save(files / "picture.png")
        pictures = [
            {
                "path": "files/picture.png",
                "caption": f"What {run} sees: input, masked <75 %>, reconstruction.",
            }
        ]
    (files / "weights.bin").write_bytes(rng.bytes(64))
    read = manifests.read(DATA)["digest"] if Path(DATA).is_file() else "d" * 64
    whole = {
        "stage": stage, "study": study.name, "run": run, "method": study.runs[run].method, "seed": seed,
        "command": Graph(study).node(stage, run, seed).command,
        "settings": study.settings(stage, run),
        "inputs": {"data": {"manifest": DATA, "digest": read}},
        "records": [record(m, value_of(stage, m, run, seed)) for m in METRICS.get(stage, [])],
        "pictures": pictures,
        "cost": {"seconds": 61.25, "device": "cpu: Made-Up 9000", "num_devices": 1, "samples": 12000, "unit": "images",
                 "samples_per_second": 1960.0 + seed, "flops_per_sample": 1.2e7, "kwh": None,
                 "peak_memory_gib": 0.8},
        "provenance": {"commit": "c0ffee" * 6, "dirty": False, "lock_sha256": "ab" * 32, "host": "here",
                       "python": "3.11.2", "processor": "Made-Up 9000", "packages": {"torch": "2.11.0"},
                       "started": "2026-01-02T03:04:05+00:00", "finished": "2026-01-02T03:05:06+00:00"},
        **changes,
    }  # fmt: skip
    return manifests.publish(Graph(study).node(stage, run, seed).folder, files, whole)


def fill(study: Study) -> None:
    """Every cell's records but the failed one's and the missing one's."""
    for spec in study.data.values():
        files = Path("work/data/files")
        files.mkdir(parents=True, exist_ok=True)
        (files / "train.pack").write_bytes(b"pack")
        about = {
            "name": spec.name, "source": spec.source,
            "splits": {"train": {"count": 6000}, "val": {"count": 500}},
            "classes": [str(i) for i in range(10)], "rejects": {"count": 1, "first": []},
        }  # fmt: skip
        manifests.publish(spec.folder, files, {"stage": "prepare", "data": about, "inputs": {}})
    for cell in study.cells():
        if cell == FAILED:
            path = Path(f"work/{study.name}/{cell[0]}/{cell[1]}-{cell[2]}.failure.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"error": NASTY, "when": "2026-01-02T03:04:05+00:00", "command": "x"}))
        elif cell != MISSING:
            publish(study, *cell)
