"""Embedded segmentation: scenes of digits over photographs as ADE20K's scene parsing release lays them out.

Classes are the digits, then the photographs they lie on. Pixels at the rim of the ink, part digit and part
ground, are "other" (0), which the reader turns to ignored.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.data import scans, scenes
from pipeline.data.official import generated
from pipeline.data.progress import track
from pipeline.data.scenes import Options
from pipeline.data.sources.segmentation import ade20k


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Composes the set in `work/raw` and packs it by the reader of ADE20K."""
    root = work / "raw"
    write(options, root / "ADEChallengeData2016")
    return ade20k.prepare(generated(root), work, files)


def write(options: Options, root: Path) -> None:
    """Writes `images/*/*.jpg`, `annotations/*/*.png` and `objectInfo150.txt` under `root`."""
    counts = {"training": options.train_images, "validation": options.val_images}
    for split, (folder, count) in zip(("train", "val"), counts.items(), strict=True):
        for kind in ("images", "annotations"):
            (root / kind / folder).mkdir(parents=True, exist_ok=True)
        for number, scene in enumerate(track(scenes.compose(options, split), f"drawing {split}", count), 1):
            name = f"ADE_{split}_{number:08d}"
            Image.fromarray(scene.image).save(root / "images" / folder / f"{name}.jpg", quality=95)
            Image.fromarray(label_image(scene, options.digits)).save(root / "annotations" / folder / f"{name}.png")
    names = [scans.NAMES[digit] for digit in options.digits] + list(options.photos)
    rows = [f"{place}\t{name}" for place, name in enumerate(names, 1)]
    (root / "objectInfo150.txt").write_text("\n".join(["Idx\tName", *rows]) + "\n")


def label_image(scene: scenes.Scene, digits: tuple[int, ...]) -> np.ndarray:
    """(H, W) uint8: 0 is other, then the digits, then the photographs."""
    labels = scene.grounds + 1 + len(digits)
    labels[scene.edges] = 0
    for thing in scene.things:
        labels[thing.mask] = 1 + digits.index(thing.digit)
    return labels.astype(np.uint8)
