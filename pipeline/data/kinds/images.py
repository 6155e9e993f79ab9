"""Images: one at a time, with another view or a partner where a method wants them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.data.augment import build_transform
from pipeline.data.images import Images
from pipeline.data.transforms import CenterCrop, denormalise

KEY = "images"  # of a batch: what an encoder is given, (B, 3, H, W)


def open_train(folder: Path, settings: Mapping[str, Any], seed: int) -> Images:
    """The training split as a recipe sees it: its `augment`, `views` and `same_class_share`."""
    return Images(folder / "files", "train", build_transform(settings["augment"]), seed, raw=True, **_company(settings))


def first_of_each(folder: Path, settings: Mapping[str, Any], seed: int, num: int) -> dict[str, Tensor]:
    """A batch of the first validation image of each class, of `num` classes at most, as nobody has changed it."""
    size = settings["augment"]["image_size"]
    images = Images(folder / "files", "val", CenterCrop(size, size), seed, **_company(settings))
    firsts = [int((images.labels == label).nonzero()[0, 0]) for label in images.labels.unique()[:num]]
    return images.__getitems__([(0, index) for index in firsts])


def example(settings: Mapping[str, Any], batch_size: int) -> dict[str, Tensor]:
    """A batch as `open_train` makes it, with all that a method may ask for, of noise, always the same."""
    generator = torch.Generator().manual_seed(1)
    size = settings["augment"]["image_size"]
    pictures = {name: torch.randn(batch_size, 3, size, size, generator=generator) for name in (KEY, "view", "partner")}
    places = torch.arange(batch_size)
    return {**pictures, "labels": places % 4, "epoch": torch.zeros_like(places), "index": places}


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


def _company(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"views": settings.get("views", 1), "same_class_share": settings.get("same_class_share")}
