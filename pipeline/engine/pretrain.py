"""Pretraining of one cell: data, method, optimiser and schedule from its recipe; encoder and log to its files."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine import dist
from mmengine.device import get_device

from pipeline import manifest
from pipeline.cell import Cell
from pipeline.data.kinds import load_kind
from pipeline.engine.hooks import SnapshotHook
from pipeline.engine.objective import Objective
from pipeline.engine.phases import run_phases, total_cost
from pipeline.engine.processes import connect
from pipeline.engine.runner import seed_everything
from pipeline.engine.teachers import PublishedRun
from pipeline.engine.train import fitted, train
from pipeline.engine.weights import import_weights
from pipeline.files import write_atomic, written
from pipeline.methods import build_method, load_method
from pipeline.methods.base import Context, Method, Phase
from pipeline.nn.encoders import save_encoder
from pipeline.nn.tensors import save_weights

PICTURES = 8  # images shown of each run
BEGINNING = 2**31 - 1  # the "step" whose seed initialises the weights


def pretrain(cell: Cell) -> None:
    """Train what the cell's settings say and publish it; ranks other than the first only take part."""
    connect()
    settings = cell.settings
    method_class, kind = load_method(settings["method"]), load_kind(cell.run.data.kind)
    data = manifest.read(cell.data / "manifest.json")["data"]
    num_classes = len(data["classes"])
    num_samples = data["splits"]["train"]["count"]
    length = fitted(settings["train"], num_samples) if "train" in settings else {}
    num_steps = length.get("num_steps", 0)
    context = Context(
        num_classes=num_classes,
        num_steps=num_steps,
        batch_size=length.get("batch_size", 0),
        num_epochs=max(1, round(num_steps / max(1, num_samples // length["batch_size"]))) if length else 1,
        teacher=PublishedRun(cell.teacher, num_classes) if cell.teacher else None,
    )
    seed_everything(cell.seed, BEGINNING, rank=0)
    method = build_method(settings, context)
    cost: dict[str, Any] = {"seconds": 0.0, "samples": 0}
    seen: Mapping[str, Any] = settings
    more: dict[str, Any] = {}
    if "weights" in settings:
        more["weights"] = import_weights(method, settings["weights"])
    elif method_class.trains:
        phases = method.phases(settings, lambda changed: kind.open_train(cell.data, changed, cell.seed))
        done, last = run_phases(method, phases, partial(_train, cell, method), work=cell.work, seed=cell.seed)
        cost, seen = total_cost([phase["cost"] for phase in done]), last.settings
        if last.name and dist.is_main_process():
            told = [{key: phase[key] for key in ("name", "steps", "result")} for phase in done]
            write_atomic(cell.files / "phases.json", json.dumps(told, indent=1) + "\n")
    # Weights that are read came without a teacher, and a step may need one.
    shows = method_class.trains and ("weights" not in settings or method_class.pictures is not Method.pictures)
    shown = _draw(cell, Objective(method, cell.seed), seen, "pictures") if shows else None
    if not dist.is_main_process():
        return
    method.cpu().eval()
    save_encoder(method.exported(), cell.files / "encoder.safetensors")
    save_method(method, cell.files / "method.safetensors")
    pictures = [{"path": "files/pictures.png", "caption": f"{shown}; from the validation split"}] if shown else []
    for path in sorted(cell.files.glob("snapshot-*.png")):
        step = int(path.stem.split("-")[1])
        pictures.append({"path": f"files/{path.name}", "caption": f"step {step} of {cost['steps']}: {shown}"})
    cell.publish(pictures=pictures, cost=cost, **more)


def _train(cell: Cell, method: Method, phase: Phase, *, work: Path, seed: int, steps_before: int) -> dict[str, Any]:
    """Train one phase, or go on with it, and return its cost."""
    model = Objective(method, seed)

    def draw(step: int) -> None:
        _draw(cell, model, phase.settings, f"snapshot-{steps_before + step:06d}")

    return train(
        model,
        load_kind(cell.run.data.kind).open_train(cell.data, phase.settings, seed),
        phase.settings["train"],
        work=work,
        files=cell.files,
        seed=seed,
        teacher=cell.teacher,
        phase=phase.name,
        steps_before=steps_before,
        hooks=[SnapshotHook(method.num_snapshots, draw)],
    )


def save_method(method: Method, path: Path) -> None:
    """Write all that a method trained as safetensors, which leaves out a frozen teacher."""
    save_weights({name: value for name, value in method.state_dict().items() if not name.startswith("teacher.")}, path)


@torch.no_grad()
def _draw(cell: Cell, model: Objective, settings: Mapping[str, Any], name: str) -> str | None:
    """Save what the method makes of the first samples of each class of the validation split, and say what is shown.

    All ranks call it, for a step may take collectives; the first one saves.
    """
    kind = load_kind(cell.run.data.kind)
    device, training = get_device(), model.training
    model.to(device).eval()
    shown = kind.first_of_each(cell.data, settings, cell.seed, PICTURES)
    batch = {key: value.to(device) for key, value in shown.items()}
    rows = model.method.pictures(model.step(**batch), batch[kind.KEY])
    model.train(training)
    if not rows:
        return None
    if dist.is_main_process():
        with written(cell.files / f"{name}.png") as path:
            kind.montage({title: row.cpu() for title, row in rows.items()}).save(path, optimize=True)
    return f"{' / '.join(rows)}, from top to bottom"
