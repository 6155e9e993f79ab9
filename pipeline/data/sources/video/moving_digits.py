"""Embedded videos: a scanned digit moves over a plain ground, as H.264 clips in a Kinetics-style tree.

Its class is the direction of the motion, whatever the digit and its colours. The ground has no edges (what leaves on
one side comes back on the other) and paths begin anywhere, so that a single frame looks the same in all classes.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import ConfigError
from pipeline.config.types import Amount, Count, Fraction, Positive, Range, Seed, Share
from pipeline.data import moving, scans
from pipeline.data.sources.video import kinetics

NAMES = ("east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the study says about this set.

    train_clips, val_clips: how many; classes are equally frequent.
    directions: how many classes, 2, 4 or 8.
    image_size, num_frames: of a clip.
    val_share: of the scans, kept for validation.
    scale: smallest and largest side of the scan's square, of the image's.
    path: smallest and largest length of the path, of the image's side; the ground has no edges, what leaves comes back.
    contrast: least difference in brightness of ink and ground, of 1.
    colour: share of the pair of colours in what else is white ink on a black ground.
    noise: standard deviation of each value, of 1.
    seed: of all of it.
    held_share: of the scans, kept out of it, which a set of the same seed that keeps out none validates on.
    """

    train_clips: Count
    val_clips: Count
    directions: int
    image_size: Count
    num_frames: Count
    val_share: Share
    scale: Range[Positive]
    path: Range[Positive]
    contrast: float
    colour: Fraction
    noise: Amount
    seed: Seed
    held_share: Fraction = 0.0

    def __post_init__(self) -> None:
        if self.directions not in (2, 4, 8):
            raise ConfigError(f"directions is {self.directions}; expected 2, 4 or 8")
        moving.check(self)


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Draws the set into `work/raw` and packs it by the reader of Kinetics."""
    root = work / "raw"
    write(options, root)
    generated = kinetics.Options(
        root=str(root), layout="kinetics", fold=1, min_frames=options.num_frames, expect=None, max_reject_share=0.0,
        num_workers=2, shard_mib=1024,
    )  # fmt: skip
    data = kinetics.prepare(generated, work, files)
    split = scans.record(scans.split_scans(options.seed, options.val_share, held_share=options.held_share))
    (files / "scans.json").write_text(json.dumps(split))
    return data


def write(options: Options, root: Path) -> None:
    """Writes `train.csv`, `val.csv` and `<split>/<class>/<id>_<start>_<end>.mp4` under `root`."""
    parts = scans.split_scans(options.seed, options.val_share, held_share=options.held_share)
    names = NAMES[:: 8 // options.directions]
    for split, count in (("train", options.train_clips), ("val", options.val_clips)):
        rng = np.random.default_rng([options.seed, 1 + (split == "val")])
        classes = np.arange(count) % len(names)
        angles = 2 * math.pi * classes / options.directions
        moving.write_tree(root, split, names, classes, moving.draw(options, parts[split], angles, rng).clips)
