"""Pretraining of one cell: data, method, optimiser and schedule from its recipe; encoder and log to its files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import dist
from mmengine.device import get_device
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from pipeline import manifest
from pipeline.cell import Cell
from pipeline.data.augment import build_transform
from pipeline.data.images import Images
from pipeline.data.transforms import CenterCrop, denormalise
from pipeline.engine.fit import connect
from pipeline.engine.hooks import SnapshotHook
from pipeline.engine.objective import Objective
from pipeline.engine.runner import seed_everything
from pipeline.engine.teachers import PublishedRun
from pipeline.engine.train import fitted, train
from pipeline.engine.weights import import_weights
from pipeline.methods import build_method, load_method
from pipeline.methods.base import Context, Method
from pipeline.nn.encoders import save_encoder

PICTURES = 8  # images shown of each run
BEGINNING = 2**31 - 1  # the "step" whose seed initialises the weights


def pretrain(cell: Cell) -> None:
    """Train what the cell's settings say and publish it; ranks other than the first only take part."""
    connect()
    settings = cell.settings
    kind = load_method(settings["method"])
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
    model = Objective(method, cell.seed)
    cost: dict[str, Any] = {"seconds": 0.0, "samples": 0, "unit": "images"}
    more: dict[str, Any] = {}
    if "weights" in settings:
        more["weights"] = import_weights(method, settings["weights"])
    elif kind.trains:
        images = Images(
            cell.data / "files",
            "train",
            build_transform(settings["augment"]),
            cell.seed,
            views=settings.get("views", 1),
            same_class_share=settings.get("same_class_share"),
        )
        cost = train(
            model,
            images,
            settings["train"],
            work=cell.work,
            files=cell.files,
            seed=cell.seed,
            teacher=cell.teacher,
            hooks=[SnapshotHook(kind.num_snapshots, lambda step: _draw(cell, model, f"snapshot-{step:06d}"))],
        )
    # Weights that are read came without a teacher, and a step may need one.
    shows = kind.trains and ("weights" not in settings or kind.pictures is not Method.pictures)
    shown = _draw(cell, model, "pictures") if shows else None
    if not dist.is_main_process():
        return
    method.cpu().eval()
    save_encoder(method.exported(), cell.files / "encoder.safetensors")
    save_method(method, cell.files / "method.safetensors")
    pictures = [{"path": "files/pictures.png", "caption": f"{shown}; validation images"}] if shown else []
    for path in sorted(cell.files.glob("snapshot-*.png")):
        step = int(path.stem.split("-")[1])
        pictures.append({"path": f"files/{path.name}", "caption": f"step {step} of {num_steps}: {shown}"})
    cell.publish(pictures=pictures, cost=cost, **more)


def save_method(method: Method, path: Path) -> None:
    """Write all that a method trained as safetensors, which leaves out a frozen teacher."""
    own = {name: value.contiguous() for name, value in method.state_dict().items() if not name.startswith("teacher.")}
    save_file(own, path)


@torch.no_grad()
def _draw(cell: Cell, model: Objective, name: str) -> str | None:
    """Save what the method makes of the first images of each class of the validation split, and say what is shown.

    All ranks call it, for a step may take collectives; the first one saves.
    """
    size = cell.settings["augment"]["image_size"]
    views, share = cell.settings.get("views", 1), cell.settings.get("same_class_share")
    images = Images(
        cell.data / "files", "val", CenterCrop(size, size), cell.seed, views=views, same_class_share=share
    )  # fmt: skip
    firsts = [int((images.labels == label).nonzero()[0, 0]) for label in images.labels.unique()[:PICTURES]]
    device, training = get_device(), model.training
    model.to(device).eval()
    batch = {key: value.to(device) for key, value in images.__getitems__([(0, index) for index in firsts]).items()}
    rows = model.method.pictures(model.step(**batch), batch["images"])
    model.train(training)
    if not rows:
        return None
    if dist.is_main_process():
        montage({title: row.cpu() for title, row in rows.items()}).save(cell.files / f"{name}.png", optimize=True)
    return f"{' / '.join(rows)}, from top to bottom"


def montage(rows: Mapping[str, Tensor], least: int = 64, gap: int = 4) -> Image.Image:
    """Rows of (B, 3, H, W) normalised images as one picture; small ones are enlarged without smoothing."""
    scale = -(-least // next(iter(rows.values())).shape[2])
    lines = []
    for images in rows.values():
        pixels = (denormalise(images).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
        tiles = [np.pad(tile, ((gap, gap), (gap, gap), (0, 0)), constant_values=255) for tile in pixels]
        lines.append(np.concatenate(tiles, axis=1))
    return Image.fromarray(np.concatenate(lines, axis=0))
