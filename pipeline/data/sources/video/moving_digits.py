"""Embedded videos: a scanned digit moves over a plain ground, as H.264 clips in a Kinetics-style tree.

Its class is the direction of the motion, whatever the digit and its colours. The ground has no edges (what leaves on
one side comes back on the other) and paths begin anywhere, so that a single frame looks the same in all classes.
"""

import csv
import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import ConfigError
from pipeline.config.types import Amount, Count, Fraction, Positive, Range, Seed, Share
from pipeline.data import scans
from pipeline.data.progress import track
from pipeline.data.sources.video import kinetics
from pipeline.data.video import write_video

NAMES = ("east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east")
FPS = 30


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

    def __post_init__(self) -> None:
        if self.directions not in (2, 4, 8):
            raise ConfigError(f"directions is {self.directions}; expected 2, 4 or 8")
        if not 0 <= self.contrast <= 0.8:
            raise ConfigError(f"contrast is {self.contrast}; expected 0 to 0.8")
        if self.image_size % 2:
            raise ConfigError(f"image_size is {self.image_size}; expected an even number, which H.264 needs")


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Draws the set into `work/raw` and packs it by the reader of Kinetics."""
    root = work / "raw"
    write(options, root)
    generated = kinetics.Options(
        root=str(root), layout="kinetics", fold=1, min_frames=options.num_frames, expect=None, max_reject_share=0.0,
        num_workers=2, shard_mib=1024,
    )  # fmt: skip
    data = kinetics.prepare(generated, work, files)
    split = scans.record(scans.split_scans(options.seed, options.val_share))
    (files / "scans.json").write_text(json.dumps(split))
    return data


def write(options: Options, root: Path) -> None:
    """Writes `train.csv`, `val.csv` and `<split>/<class>/<id>_<start>_<end>.mp4` under `root`."""
    parts = scans.split_scans(options.seed, options.val_share)
    names = NAMES[:: 8 // options.directions]
    for split, count in (("train", options.train_clips), ("val", options.val_clips)):
        for name in names:
            (root / split / name).mkdir(parents=True)
        rng = np.random.default_rng([options.seed, 1 + (split == "val")])
        classes = np.arange(count) % len(names)
        rows, jobs = [], []
        for number, frames in enumerate(draw(options, parts[split], classes, rng)):
            label, key = names[classes[number]], f"{split}{number:06d}"
            rows.append((label, key, 0, 10, split))
            jobs.append((root / split / label / f"{key}_000000_000010.mp4", frames))
        with ThreadPoolExecutor(2) as pool:
            encoded = pool.map(lambda job: write_video(*job, FPS, crf="12", preset="ultrafast"), jobs)
            for _ in track(encoded, f"writing {split}", len(jobs)):
                pass
        with open(root / f"{split}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("label", "youtube_id", "time_start", "time_end", "split"), *rows])


def draw(options: Options, part: scans.Scans, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One clip for each of the (N,) classes wanted: (N, T, S, S, 3) uint8."""
    number, size, frames = len(classes), options.image_size, options.num_frames
    still = scans.Jitter(scale=options.scale, shift=0.0, rotation=0.0, shear=0.0)
    digits = part.pick(rng.integers(0, 10, number), rng)
    ink = scans.draw_ink(part.ink[digits], size, still, rng)
    angle = 2 * math.pi * classes / options.directions
    length = rng.uniform(*options.path, number) * size
    # Over a ground without edges every place is equally likely in every frame of every class.
    start = rng.uniform(0, size, (2, number))
    along = np.linspace(0, 1, frames)
    x = start[0][:, None] + (length * np.cos(angle))[:, None] * along
    y = start[1][:, None] - (length * np.sin(angle))[:, None] * along
    moved = _shifted(ink[:, None], y, x)[..., None]
    ground, colour = (c[:, None, None, None, :] for c in scans.two_colours(number, options.contrast, rng))
    ground, colour = options.colour * ground, options.colour * colour + (1 - options.colour)  # white on black
    clips = ground + moved * (colour - ground)
    clips += rng.normal(0, options.noise, clips.shape)
    return (clips.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _shifted(pictures: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N, 1, S, S) pictures moved around the edges by (N, T) pixels, between pixels as well: (N, T, S, S)."""
    size = pictures.shape[2]
    waves = np.fft.fftfreq(size)
    turn = np.exp(-2j * math.pi * (waves[:, None] * y[..., None, None] + waves * x[..., None, None]))
    return np.fft.ifft2(np.fft.fft2(pictures) * turn).real.clip(0, 1).astype(np.float32)
