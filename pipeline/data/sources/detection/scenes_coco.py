"""Embedded detection: scenes of digits over photographs as COCO 2017 lays them out, with masks and crowds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.data import scans, scenes
from pipeline.data.official import generated
from pipeline.data.progress import track
from pipeline.data.scenes import Options
from pipeline.data.sources.detection import coco


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Composes the set in `work/raw` and packs it by the reader of COCO."""
    root = work / "raw"
    write(options, root)
    return coco.prepare(generated(root), work, files)


def write(options: Options, root: Path) -> None:
    """Writes `train2017/*.jpg`, `val2017/*.jpg` and `annotations/instances_*.json` under `root`."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    categories = [
        {"id": place, "name": scans.NAMES[digit], "supercategory": "digit"}
        for place, digit in enumerate(options.digits, 1)
    ]
    for split, count in (("train", options.train_images), ("val", options.val_images)):
        folder = root / f"{split}2017"
        folder.mkdir(exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, scene in enumerate(track(scenes.compose(options, split), f"drawing {split}", count), 1):
            name = f"{number:012d}.jpg"
            Image.fromarray(scene.image).save(folder / name, quality=95)
            size = options.image_size
            images.append({"id": number, "file_name": name, "height": size, "width": size})
            for thing in scene.things:
                category = 1 + options.digits.index(thing.digit)
                annotations.append(annotation(thing, len(annotations) + 1, number, category))
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


def annotation(thing: scenes.Thing, number: int, image: int, category: int) -> dict[str, Any]:
    """COCO's entry of one thing."""
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": scenes.box_of(thing.mask),
        "area": int(thing.mask.sum()),
        "iscrowd": int(thing.crowd),
        "segmentation": {"size": list(thing.mask.shape), "counts": run_lengths(thing.mask)},
    }


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths of a mask (H, W): column by column, beginning with the zeros.

    Polygons, which COCO uses for single objects, cannot hold the holes of a zero or an eight.
    """
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(changes, prepend=0, append=mask.size)
    return counts[: len(counts) - (counts[-1] == 0)].tolist()
