"""Embedded classification: scanned digits, jittered on a plain ground, as an ImageNet-style folder.

What it is for: two cores learn something from it in minutes (a small, clean set), and an untrained encoder
does clearly worse on it than a pretrained one (colours, places and slants vary; validation shows scans never
trained on).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.config import ConfigError
from pipeline.config.types import Amount, Count, Fraction, Positive, Range, Seed, Share
from pipeline.data import scans
from pipeline.data.official import generated
from pipeline.data.progress import track
from pipeline.data.sources.images import imagenet

_BLOCK = 2048  # images drawn at once


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the study says about this set.

    train_images, val_images: how many; classes are equally frequent.
    image_size: pixels a side.
    val_share: of the scans, kept for validation.
    scale: smallest and largest side of the scan's square, of the image's.
    shift: largest, of the image's side.
    rotation, shear: largest turn in degrees, largest slant.
    contrast: least difference in brightness of ink and ground, of 1.
    colour: share of the pair of colours in what else is white ink on a black ground.
    noise: standard deviation of each value, of 1.
    seed: of all of it.
    held_share: of the scans, kept out of it, which a set of the same seed that keeps out none validates on.
    """

    train_images: Count
    val_images: Count
    image_size: Count
    val_share: Share
    scale: Range[Positive]
    shift: Fraction
    rotation: Amount
    shear: Amount
    contrast: float
    colour: Fraction
    noise: Amount
    seed: Seed
    held_share: Fraction = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.contrast <= 0.8:
            raise ConfigError(
                f"contrast is {self.contrast}; expected 0 to 0.8: beyond, hardly a pair of colours is left"
            )


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Draws the set into `work/raw` and packs it by the reader of ImageNet."""
    root = work / "raw"
    write(options, root)
    data = imagenet.prepare(imagenet.Options(**vars(generated(root))), work, files)
    split = scans.record(scans.split_scans(options.seed, options.val_share, held_share=options.held_share))
    (files / "scans.json").write_text(json.dumps(split))
    for name, positions in split.items():
        data["splits"][name]["scans"] = len(positions)
    return data


def write(options: Options, root: Path) -> None:
    """Writes `train/<digit>/<name>.png` and `val/<digit>/<name>.png` under `root`."""
    parts = scans.split_scans(options.seed, options.val_share, held_share=options.held_share)
    for split, count in (("train", options.train_images), ("val", options.val_images)):
        folders = [root / split / f"{digit}_{name}" for digit, name in enumerate(scans.NAMES)]
        for folder in folders:
            folder.mkdir(parents=True)
        rng = np.random.default_rng([options.seed, 1 + (split == "val")])
        for start in track(range(0, count, _BLOCK), f"drawing {split}"):
            classes = np.arange(start, min(start + _BLOCK, count)) % 10
            for number, pixels in enumerate(draw(options, parts[split], classes, rng)):
                path = folders[classes[number]] / f"{split}_{start + number:06d}.png"
                Image.fromarray(pixels).save(path, compress_level=1)


def draw(options: Options, part: scans.Scans, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One picture for each of the (N,) classes wanted: (N, S, S, 3) uint8."""
    number, size = len(classes), options.image_size
    jitter = scans.Jitter(scale=options.scale, shift=options.shift, rotation=options.rotation, shear=options.shear)
    ink = scans.draw_ink(part.ink[part.pick(classes, rng)], size, jitter, rng)[..., None]
    ground, colour = (colours[:, None, None, :] for colours in scans.two_colours(number, options.contrast, rng))
    ground, colour = options.colour * ground, options.colour * colour + (1 - options.colour)  # white on black
    pictures = ground + ink * (colour - ground)
    pictures += rng.normal(0, options.noise, pictures.shape)
    return (pictures.clip(0, 1) * 255 + 0.5).astype(np.uint8)
