"""The embedded data's raw material: scikit-learn's scans of handwritten digits, and drawing them as ink.

1,797 digits written by 43 people, scanned and reduced to 8 x 8 counts of ink (Alpaydin and Kaynak, "Optical
Recognition of Handwritten Digits", UCI repository, 1998). N marks drawn on squares of S pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config import ConfigError
from pipeline.data.bundled import bundled

Array = np.ndarray
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """How much drawn digits vary, each range uniformly; a shift is a share of the square's side."""

    scale: tuple[float, float]
    shift: float
    rotation: float
    shear: float


@dataclass(frozen=True)
class Scans:
    """Scans of one split: ink (N, 8, 8) in [0, 1], classes (N,), and positions (N,) in scikit-learn's set."""

    ink: Array
    classes: Array
    positions: Array

    def pick(self, classes: Array, rng: np.random.Generator) -> Array:
        """For each wanted class one of its scans: positions in this split."""
        order = np.argsort(self.classes, kind="stable")
        counts = np.bincount(self.classes, minlength=10)
        starts = np.cumsum(counts) - counts
        return order[starts[classes] + rng.integers(0, counts[classes])]


def load_digits() -> tuple[Array, Array]:
    """All scans (1797, 8, 8) in 0…16 and their classes (1797,), as scikit-learn returns them."""
    table = np.loadtxt(bundled("sklearn", "datasets/data/digits.csv.gz"), delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def split_scans(
    seed: int, val_share: float, digits: Sequence[int] = range(10), *, held_share: float = 0.0
) -> dict[str, Scans]:
    """Divides the scans into `train` and `val`, the same share of each class, so that no scan is in both.

    Args:
        digits: classes whose scans are wanted.
        held_share: of the scans, in neither: the validation scans of a split of the same seed that holds none back.
    """
    images, classes = load_digits()
    rng = np.random.default_rng([seed, 0])
    chosen: dict[str, list[Array]] = {"train": [], "val": []}
    if not set(digits) <= set(range(10)) or len(set(digits)) < len(digits):
        raise ConfigError(f"digits is {list(digits)}; expected some of 0 to 9, each once")
    for digit in digits:
        positions = rng.permutation(np.flatnonzero(classes == digit))
        held, cut = (round(len(positions) * share) for share in (held_share, val_share))
        if not 0 < cut < len(positions) - held:
            raise ConfigError(
                f"val_share is {val_share}{f' and held_share {held_share}' if held else ''}; expected a share that "
                "leaves scans on both sides, such as 0.25"
            )
        chosen["val"].append(positions[held : held + cut])
        chosen["train"].append(positions[held + cut :])
    scans = {}
    for split, parts in chosen.items():
        positions = np.sort(np.concatenate(parts))
        ink = (images[positions] / 16).astype(np.float32)
        scans[split] = Scans(ink, classes[positions].astype(np.int64), positions)
    return scans


def draw_ink(ink: Array, size: int, jitter: Jitter, rng: np.random.Generator) -> Array:
    """Draws scans at random scales, places and slants on squares.

    Args:
        ink: (N, 8, 8) in [0, 1].
        size: S.

    Returns:
        (N, S, S) float32 in [0, 1].
    """
    number = len(ink)
    scale = rng.uniform(*jitter.scale, number)
    angle = np.deg2rad(rng.uniform(-jitter.rotation, jitter.rotation, number))
    slant = rng.uniform(-jitter.shear, jitter.shear, number)
    shift = rng.uniform(-jitter.shift, jitter.shift, (2, number)) * size
    # From pixels of the square back to those of the scan: centre, unturn, unslant, unscale.
    step = (np.arange(size) - (size - 1) / 2).astype(np.float32)
    y = step[None, :, None] - shift[0][:, None, None]
    x = step[None, None, :] - shift[1][:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    y, x = cos * y - sin * x, sin * y + cos * x
    x = x + slant[:, None, None] * y
    ratio = ink.shape[1] / (size * scale)[:, None, None]
    return _bilinear(ink, y * ratio + 3.5, x * ratio + 3.5)


def _bilinear(ink: Array, y: Array, x: Array) -> Array:
    """Values of (N, 8, 8) scans at (N, S, S) places, zero outside."""
    padded = np.pad(ink, ((0, 0), (1, 2), (1, 2)))
    y, x = (np.clip(places + 1, 0, ink.shape[1] + 1) for places in (y, x))
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    down, right = (y - top).astype(np.float32), (x - left).astype(np.float32)
    which = np.arange(len(ink))[:, None, None]
    upper = padded[which, top, left] * (1 - right) + padded[which, top, left + 1] * right
    lower = padded[which, top + 1, left] * (1 - right) + padded[which, top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def two_colours(number: int, contrast: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Pairs of colours that differ in brightness by at least `contrast`: (number, 3) each, in [0, 1]."""
    ground, ink = np.empty((2, number, 3), np.float32)
    waiting = np.arange(number)
    while len(waiting):
        ground[waiting], ink[waiting] = rng.uniform(0, 1, (2, len(waiting), 3))
        waiting = waiting[np.abs(brightness(ground[waiting]) - brightness(ink[waiting])) < contrast]
    return ground, ink


def brightness(colours: Array) -> Array:
    """(..., 3) colours in [0, 1] → their luma (ITU-R BT.601)."""
    return colours @ np.array([0.299, 0.587, 0.114], np.float32)


def record(scans: dict[str, Scans]) -> dict[str, Sequence[int]]:
    """Which scans went where, for the record of a prepared set."""
    return {split: part.positions.tolist() for split, part in scans.items()}
