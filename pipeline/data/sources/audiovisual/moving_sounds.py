"""Embedded videos with sound: a scanned digit moves over a plain ground and is heard moving, in a Kinetics-style tree.

Its class is the direction of the motion. A tone rises as the digit does and grows louder as it goes right; where it
begins, its pitch and its loudness say nothing of the class. As actions in the world are, classes are of unequal
frequency in the training split: that of the i-th is proportional to 1 / i^s (Zipf's law); the validation split is
balanced.
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
from pipeline.data.sources.audiovisual import sounding_videos

NAMES = ("east", "west", "north", "south", "north-east", "south-west", "north-west", "south-east")
TURNS = (0, 4, 2, 6, 1, 5, 3, 7)  # eighths of a circle, of each name
RATE = 16_000
OCTAVES = 1.5  # by which the pitch, and the loudness in factors of two, change over a path of one image side


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the study says about this set.

    train_clips, val_clips: how many.
    zipf_exponent: s of the training split; 0 for classes of equal frequency.
    directions: how many classes, 2 to 8, the most frequent first.
    image_size, num_frames: of a clip.
    val_share: of the scans, kept for validation.
    scale: smallest and largest side of the scan's square, of the image's.
    path: smallest and largest length of the path, of the image's side; the ground has no edges, what leaves comes back.
    contrast: least difference in brightness of ink and ground, of 1.
    colour: share of the pair of colours in what else is white ink on a black ground.
    noise: standard deviation of each value, of 1; of the sound's, of full scale.
    silent_share: of the clips, without a stream of sound.
    flow_size, mel_bands: see `sounding_videos`.
    seed: of all of it.
    held_share: of the scans, kept out of it, which a set of the same seed that keeps out none validates on.
    """

    train_clips: Count
    val_clips: Count
    zipf_exponent: Amount
    directions: int
    image_size: Count
    num_frames: Count
    val_share: Share
    scale: Range[Positive]
    path: Range[Positive]
    contrast: float
    colour: Fraction
    noise: Amount
    silent_share: Fraction
    flow_size: Count
    mel_bands: Count
    seed: Seed
    held_share: Fraction = 0.0

    def __post_init__(self) -> None:
        if not 2 <= self.directions <= 8:
            raise ConfigError(f"directions is {self.directions}; expected 2 to 8")
        moving.check(self)


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Draws the set into `work/raw` and packs it by the reader of sounding videos."""
    root = work / "raw"
    write(options, root)
    generated = sounding_videos.Options(
        root=str(root), layout="kinetics", fold=1, min_frames=options.num_frames, expect=None, max_reject_share=0.0,
        num_workers=2, shard_mib=1024, flow="farneback", flow_size=options.flow_size, flow_bound=8.0, sound_rate=RATE,
        mel_bands=options.mel_bands, sound_window=0.032, sound_hop=0.008,
    )  # fmt: skip
    data = sounding_videos.prepare(generated, work, files)
    split = scans.record(scans.split_scans(options.seed, options.val_share, held_share=options.held_share))
    (files / "scans.json").write_text(json.dumps(split))
    return data


def write(options: Options, root: Path) -> None:
    """Writes `train.csv`, `val.csv` and `<split>/<class>/<id>_<start>_<end>.mp4` under `root`."""
    parts = scans.split_scans(options.seed, options.val_share, held_share=options.held_share)
    names = NAMES[: options.directions]
    for split, count in (("train", options.train_clips), ("val", options.val_clips)):
        rng = np.random.default_rng([options.seed, 1 + (split == "val")])
        sizes = class_sizes(count, len(names), options.zipf_exponent if split == "train" else 0.0)
        classes = rng.permutation(np.repeat(np.arange(len(names)), sizes))
        drawn = moving.draw(options, parts[split], math.pi / 4 * np.array(TURNS)[classes], rng)
        right, up = drawn.right / options.image_size, drawn.up / options.image_size
        tones = draw_sounds(right, up, options.num_frames, options.noise, rng)
        silent = rng.uniform(size=count) < options.silent_share
        sounds = [None if none else tone[None] for tone, none in zip(tones, silent, strict=True)]
        moving.write_tree(root, split, names, classes, drawn.clips, sounds, RATE)


def class_sizes(count: int, num_classes: int, exponent: float) -> np.ndarray:
    """How many of `count` clips each class has, proportional to 1 / i^exponent, at least one each."""
    shares = np.arange(1, num_classes + 1, dtype=np.float64) ** -exponent
    ends = np.rint(np.cumsum(shares) / shares.sum() * count).astype(np.int64)
    sizes = np.diff(ends, prepend=0)
    if sizes.min() < 1:
        raise ConfigError(f"{count} clips are too few for {num_classes} classes; expected one of each at least")
    return sizes


def draw_sounds(right: np.ndarray, up: np.ndarray, frames: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    """A tone with one overtone for each path: (N, samples).

    Args:
        right, up: (N,), how far it leads, of the image's side.
        frames: T, of the clip.
        noise: standard deviation, of full scale.
    """
    along = np.linspace(0, 1, round(RATE * frames / moving.FPS))
    base = 2 ** rng.uniform(np.log2(400), np.log2(1600), (len(up), 1))
    pitch = base * 2 ** (OCTAVES * up[:, None] * (along - 0.5))
    turn = 2 * math.pi * (np.cumsum(pitch, axis=1) / RATE + rng.uniform(0, 1, (len(up), 1)))
    loud = 0.15 * 2 ** (rng.uniform(-1, 1, (len(up), 1)) + 2 * OCTAVES * right[:, None] * (along - 0.5))
    tone = loud * (0.75 * np.sin(turn) + 0.25 * np.sin(2 * turn))
    return (tone + rng.normal(0, noise, tone.shape)).clip(-1, 1).astype(np.float32)
