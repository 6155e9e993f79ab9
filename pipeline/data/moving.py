"""Drawn clips: a scan of a digit moves over a plain ground without edges; and how they are laid out as Kinetics is.

What leaves on one side comes back on the other and paths begin anywhere, so that a single frame looks the same whatever
the direction. N clips of T frames, S pixels a side.
"""

import csv
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from pipeline.config import ConfigError
from pipeline.data import scans
from pipeline.data.progress import track
from pipeline.data.video import write_video

FPS = 30


class Look(Protocol):
    """What clips look like: options that the sources of such clips share.

    image_size, num_frames: S, T.
    scale: smallest and largest side of the scan's square, of the image's.
    path: smallest and largest length of the path, of the image's side.
    contrast: least difference in brightness of ink and ground, of 1.
    colour: share of the pair of colours in what else is white ink on a black ground.
    noise: standard deviation of each value, of 1.
    """

    @property
    def image_size(self) -> int: ...
    @property
    def num_frames(self) -> int: ...
    @property
    def scale(self) -> tuple[float, float]: ...
    @property
    def path(self) -> tuple[float, float]: ...
    @property
    def contrast(self) -> float: ...
    @property
    def colour(self) -> float: ...
    @property
    def noise(self) -> float: ...


class Moving(NamedTuple):
    """Clips (N, T, S, S, 3) uint8, and how far each digit goes `right` and `up`, (N,) pixels."""

    clips: np.ndarray
    right: np.ndarray
    up: np.ndarray


def check(look: Look) -> None:
    """Refuses what cannot be drawn or written.

    Raises:
        ConfigError: naming the option.
    """
    if not 0 <= look.contrast <= 0.8:
        raise ConfigError(f"contrast is {look.contrast}; expected 0 to 0.8")
    if look.image_size % 2:
        raise ConfigError(f"image_size is {look.image_size}; expected an even number, which H.264 needs")


def draw(look: Look, part: scans.Scans, angles: np.ndarray, rng: np.random.Generator) -> Moving:
    """One clip for each of the (N,) angles of motion, in radians, 0 to the right and growing anticlockwise."""
    number, size = len(angles), look.image_size
    still = scans.Jitter(scale=look.scale, shift=0.0, rotation=0.0, shear=0.0)
    digits = part.pick(rng.integers(0, 10, number), rng)
    ink = scans.draw_ink(part.ink[digits], size, still, rng)
    length = rng.uniform(*look.path, number) * size
    right, up = length * np.cos(angles), length * np.sin(angles)
    # Over a ground without edges every place is equally likely in every frame of every class.
    start = rng.uniform(0, size, (2, number))
    along = np.linspace(0, 1, look.num_frames)
    x = start[0][:, None] + right[:, None] * along
    y = start[1][:, None] - up[:, None] * along
    moved = _shifted(ink[:, None], y, x)[..., None]
    ground, colour = (c[:, None, None, None, :] for c in scans.two_colours(number, look.contrast, rng))
    ground, colour = look.colour * ground, look.colour * colour + (1 - look.colour)  # white on black
    clips = ground + moved * (colour - ground)
    clips += rng.normal(0, look.noise, clips.shape)
    return Moving((clips.clip(0, 1) * 255 + 0.5).astype(np.uint8), right, up)


def write_tree(
    root: Path,
    split: str,
    names: Sequence[str],
    classes: np.ndarray,
    clips: np.ndarray,
    sounds: Sequence[np.ndarray | None] | None = None,
    rate: int = 0,
) -> None:
    """Writes `<split>.csv` and `<split>/<class>/<id>_<start>_<end>.mp4` under `root`.

    Args:
        names: of the classes. classes: (N,), their places among the names.
        clips: (N, T, S, S, 3) uint8.
        sounds: of each clip, (C, samples) at `rate` samples a second; None for a clip without, and for all.
    """
    for name in names:
        (root / split / name).mkdir(parents=True)
    keys = [f"{split}{number:06d}" for number in range(len(classes))]
    labels = [names[label] for label in classes]
    paths = [root / split / label / f"{key}_000000_000010.mp4" for label, key in zip(labels, keys, strict=True)]

    def write(number: int) -> None:
        sound = None if sounds is None else sounds[number]
        write_video(paths[number], clips[number], FPS, sound, rate, crf="12", preset="ultrafast")

    with ThreadPoolExecutor(2) as pool:
        for _ in track(pool.map(write, range(len(paths))), f"writing {split}", len(paths)):
            pass
    rows = [(label, key, 0, 10, split) for label, key in zip(labels, keys, strict=True)]
    with open(root / f"{split}.csv", "w", newline="") as file:
        csv.writer(file).writerows([("label", "youtube_id", "time_start", "time_end", "split"), *rows])


def _shifted(pictures: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N, 1, S, S) pictures moved around the edges by (N, T) pixels, between pixels as well: (N, T, S, S)."""
    waves = np.fft.fftfreq(pictures.shape[2])
    turn = np.exp(-2j * math.pi * (waves[:, None] * y[..., None, None] + waves * x[..., None, None]))
    return np.fft.ifft2(np.fft.fft2(pictures) * turn).real.clip(0, 1).astype(np.float32)
