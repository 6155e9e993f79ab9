"""Embedded videos with sound: a scanned digit moves over a plain ground and is heard moving, in a Kinetics-style tree.

Its class is the direction of the motion. A tone rises as the digit does and grows louder as it goes right; where it
begins, its pitch and its loudness say nothing of the class. As actions in the world are, classes are of unequal
frequency in the training split: that of the i-th is proportional to 1 / i^s (Zipf's law); the validation split is
balanced.
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
from pipeline.data.sound import write_clip
from pipeline.data.sources.audiovisual import sounding_videos

NAMES = ("east", "west", "north", "south", "north-east", "south-west", "north-west", "south-east")
TURNS = (0, 4, 2, 6, 1, 5, 3, 7)  # eighths of a circle, of each name
FPS, RATE = 30, 16_000
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

    def __post_init__(self) -> None:
        if not 2 <= self.directions <= 8:
            raise ConfigError(f"directions is {self.directions}; expected 2 to 8")
        if not 0 <= self.contrast <= 0.8:
            raise ConfigError(f"contrast is {self.contrast}; expected 0 to 0.8")
        if self.image_size % 2:
            raise ConfigError(f"image_size is {self.image_size}; expected an even number, which H.264 needs")


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
    split = scans.record(scans.split_scans(options.seed, options.val_share))
    (files / "scans.json").write_text(json.dumps(split))
    return data


def write(options: Options, root: Path) -> None:
    """Writes `train.csv`, `val.csv` and `<split>/<class>/<id>_<start>_<end>.mp4` under `root`."""
    parts = scans.split_scans(options.seed, options.val_share)
    names = NAMES[: options.directions]
    for split, count in (("train", options.train_clips), ("val", options.val_clips)):
        for name in names:
            (root / split / name).mkdir(parents=True)
        rng = np.random.default_rng([options.seed, 1 + (split == "val")])
        classes = class_sizes(count, len(names), options.zipf_exponent if split == "train" else 0.0)
        classes = rng.permutation(np.repeat(np.arange(len(names)), classes))
        rows, jobs = [], []
        for number, (frames, sound) in enumerate(zip(*draw(options, parts[split], classes, rng), strict=True)):
            label, key = names[classes[number]], f"{split}{number:06d}"
            rows.append((label, key, 0, 10, split))
            silent = rng.uniform() < options.silent_share
            path = root / split / label / f"{key}_000000_000010.mp4"
            jobs.append((path, frames, FPS, None if silent else sound[None], RATE))
        with ThreadPoolExecutor(2) as pool:
            for _ in track(pool.map(lambda job: write_clip(*job), jobs), f"writing {split}", len(jobs)):
                pass
        with open(root / f"{split}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("label", "youtube_id", "time_start", "time_end", "split"), *rows])


def class_sizes(count: int, num_classes: int, exponent: float) -> np.ndarray:
    """How many of `count` clips each class has, proportional to 1 / i^exponent, at least one each."""
    shares = np.arange(1, num_classes + 1, dtype=np.float64) ** -exponent
    ends = np.rint(np.cumsum(shares) / shares.sum() * count).astype(np.int64)
    sizes = np.diff(ends, prepend=0)
    if sizes.min() < 1:
        raise ConfigError(f"{count} clips are too few for {num_classes} classes; expected one of each at least")
    return sizes


def draw(
    options: Options, part: scans.Scans, classes: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One clip and its sound for each of the (N,) classes: (N, T, S, S, 3) uint8 and (N, samples) float32."""
    number, size, frames = len(classes), options.image_size, options.num_frames
    still = scans.Jitter(scale=options.scale, shift=0.0, rotation=0.0, shear=0.0)
    digits = part.pick(rng.integers(0, 10, number), rng)
    ink = scans.draw_ink(part.ink[digits], size, still, rng)
    angle = math.pi / 4 * np.array(TURNS)[classes]
    length = rng.uniform(*options.path, number)  # of the side
    right, up = length * np.cos(angle), length * np.sin(angle)
    start = rng.uniform(0, size, (2, number))  # equally likely in every frame of every class
    along = np.linspace(0, 1, frames)
    x, y = (begin[:, None] + size * far[:, None] * along for begin, far in zip(start, (right, -up), strict=True))
    moved = _shifted(ink[:, None], y, x)[..., None]
    ground, colour = (c[:, None, None, None, :] for c in scans.two_colours(number, options.contrast, rng))
    ground, colour = options.colour * ground, options.colour * colour + (1 - options.colour)  # white on black
    clips = ground + moved * (colour - ground)
    clips += rng.normal(0, options.noise, clips.shape)
    return (clips.clip(0, 1) * 255 + 0.5).astype(np.uint8), _sounds(right, up, frames, options.noise, rng)


def _sounds(right: np.ndarray, up: np.ndarray, frames: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    """A tone with one overtone for each path: (N, samples)."""
    along = np.linspace(0, 1, round(RATE * frames / FPS))
    base = 2 ** rng.uniform(np.log2(400), np.log2(1600), (len(up), 1))
    pitch = base * 2 ** (OCTAVES * up[:, None] * (along - 0.5))
    turn = 2 * math.pi * (np.cumsum(pitch, axis=1) / RATE + rng.uniform(0, 1, (len(up), 1)))
    loud = 0.15 * 2 ** (rng.uniform(-1, 1, (len(up), 1)) + 2 * OCTAVES * right[:, None] * (along - 0.5))
    tone = loud * (0.75 * np.sin(turn) + 0.25 * np.sin(2 * turn))
    return (tone + rng.normal(0, noise, tone.shape)).clip(-1, 1).astype(np.float32)


def _shifted(pictures: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N, 1, S, S) pictures moved around the edges by (N, T) pixels, between pixels as well: (N, T, S, S)."""
    waves = np.fft.fftfreq(pictures.shape[2])
    turn = np.exp(-2j * math.pi * (waves[:, None] * y[..., None, None] + waves * x[..., None, None]))
    return np.fft.ifft2(np.fft.fft2(pictures) * turn).real.clip(0, 1).astype(np.float32)
