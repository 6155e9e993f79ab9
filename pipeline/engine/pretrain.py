"""Pretraining of one cell: data, method, optimiser and schedule from its recipe; encoder and log to its files."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine import dist
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from pipeline import manifest
from pipeline.cell import Cell
from pipeline.config import ConfigError, Duration
from pipeline.data.augment import build_transform
from pipeline.data.images import Images
from pipeline.data.transforms import CenterCrop, denormalise
from pipeline.engine.fit import Plan, connect, fit
from pipeline.engine.objective import Objective
from pipeline.engine.optim import param_groups
from pipeline.engine.runner import seed_everything
from pipeline.engine.schedules import warmup_cosine
from pipeline.methods import load_method
from pipeline.methods.base import Context, Method, build_options
from pipeline.nn.encoders import build_encoder, load_encoder, save_encoder

PICTURES = 8  # images shown of each run
BEGINNING = 2**31 - 1  # the "step" whose seed initialises the weights


def pretrain(cell: Cell) -> None:
    """Train what the cell's settings say and publish it; ranks other than the first only take part."""
    connect()
    settings = cell.settings
    load_method(settings["method"])
    train = settings.get("train", {})
    image_size = settings["augment"]["image_size"]
    data = manifest.read(cell.data / "manifest.json")["data"]
    num_images, num_classes = data["splits"]["train"]["count"], len(data["classes"])
    num_steps = Duration.parse(train["duration"]).steps(num_images, train["batch_size"]) if train else 0
    seed_everything(cell.seed, BEGINNING, rank=0)
    method = build_method(
        settings,
        Context(
            num_classes=num_classes,
            num_steps=num_steps,
            teacher=load_encoder(cell.teacher, image_size) if cell.teacher else None,
        ),
    )
    cost: dict[str, Any] = {"seconds": 0.0, "images": 0}
    model = Objective(method, cell.seed)
    if method.trains:
        warmup = Duration.parse(train["warmup"], "warmup").steps(num_images, train["batch_size"])
        peak = train["base_lr"] * train["batch_size"] / 256  # linear scaling rule, Goyal et al. 2017
        cost = fit(
            model,
            Images(cell.data / "files", "train", build_transform(settings["augment"]), cell.seed),
            torch.optim.AdamW(param_groups(method, peak, train["weight_decay"]), lr=peak, betas=tuple(train["betas"])),
            warmup_cosine(num_steps, warmup),
            Plan(
                num_steps=num_steps,
                **{name: train[name] for name in ("batch_size", "accumulate", "precision", "num_workers")},
                checkpoint_every=train["checkpoint_every"],
                log_every=train["log_every"],
            ),
            work=cell.work,
            seed=cell.seed,
            log_path=cell.files / "log.jsonl",
        )
    if not dist.is_main_process():
        return
    method.cpu().eval()
    save_encoder(method.exported(), cell.files / "encoder.safetensors")
    save_file({name: value.contiguous() for name, value in method.state_dict().items()},
              cell.files / "method.safetensors")  # fmt: skip
    cell.publish(pictures=_draw(cell, model), cost=cost)


def build_method(settings: Mapping[str, Any], context: Context) -> Method:
    """The method a recipe describes, freshly initialised from PyTorch's generator."""
    kind = load_method(settings["method"])
    encoder = build_encoder(
        settings["model"], settings["augment"]["image_size"], settings.get("train", {}).get("drop_path", 0.0)
    )
    options = build_options(kind.Options, settings.get("options", {}), settings["method"])
    try:
        return kind(encoder, options, context)
    except ValueError as error:
        raise ConfigError(f"{settings['method']} cannot be built: {error}") from error


@torch.no_grad()
def _draw(cell: Cell, model: Objective) -> list[dict[str, str]]:
    """Show what the method makes of the first images of each class of the validation split."""
    if not model.method.trains:
        return []
    size = cell.settings["augment"]["image_size"]
    images = Images(cell.data / "files", "val", CenterCrop(size, size), cell.seed)
    firsts = [int((images.labels == label).nonzero()[0, 0]) for label in images.labels.unique()[:PICTURES]]
    batch = images.__getitems__([(0, index) for index in firsts])
    rows = model.method.pictures(model.step(**batch), batch["images"])
    if not rows:
        return []
    montage(rows).save(cell.files / "pictures.png", optimize=True)
    return [{"path": "files/pictures.png", "caption": f"{' / '.join(rows)}, from top to bottom; validation images"}]


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
