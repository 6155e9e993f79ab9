"""What is done to an image and to its masks or labels, in one resampling of a box of the source.

Detection: large-scale jitter of Ghiasi et al., "Simple Copy-Paste", CVPR 2021, arXiv:2012.07177, as ViTDet uses it.
Segmentation: random scale, crop, mirror and colours of MMSegmentation's ADE20K configurations.
H × W pixels of the source, h × w of the result.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from pipeline.data.draws import AUGMENT, bits

_LEVELS = np.arange(256, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class View:
    """Which part of the source is seen, and how large.

    top, left: of the part, in pixels of the resized source.
    height, width: of the part.
    full_height, full_width: of the whole resized source.
    flip: mirrored left to right after cutting.
    """

    top: int
    left: int
    height: int
    width: int
    full_height: int
    full_width: int
    flip: bool

    def image(self, image: Image.Image) -> np.ndarray:
        """(h, w, 3) uint8, bilinear; antialiased where it shrinks."""
        across, down = image.width / self.full_width, image.height / self.full_height
        box = (
            self.left * across,
            self.top * down,
            min((self.left + self.width) * across, image.width),
            min((self.top + self.height) * down, image.height),
        )
        seen = np.asarray(image.resize((self.width, self.height), Image.Resampling.BILINEAR, box=box))
        return cv2.flip(seen, 1) if self.flip else seen.copy()

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """(..., H, W) of any kind -> (..., h, w), nearest neighbour."""
        rows = self._nearest(self.top, self.height, self.full_height, labels.shape[-2])
        columns = self._nearest(self.left, self.width, self.full_width, labels.shape[-1])
        # Rows last: they are copied whole, and are more than those of the source where it grows.
        return labels.take(columns[::-1] if self.flip else columns, axis=-1).take(rows, axis=-2)

    @staticmethod
    def _nearest(first: int, count: int, full: int, source: int) -> np.ndarray:
        places = (np.arange(first, first + count) + 0.5) * source / full
        return np.minimum(places.astype(np.int64), source - 1)


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Randomness of one sample in one epoch; no global generator is touched."""
    return np.random.default_rng(int(bits(seed, epoch, index, AUGMENT)) & (2**63 - 1))


def fit_inside(height: int, width: int, size: int) -> View:
    """The whole image, its longer side resized to `size`: detection's evaluation."""
    scale = min(size / height, size / width)
    full = max(1, round(height * scale)), max(1, round(width * scale))
    return View(top=0, left=0, height=full[0], width=full[1], full_height=full[0], full_width=full[1], flip=False)


def shorter_side(height: int, width: int, size: int, aspect_limit: float) -> View:
    """The whole image, its shorter side resized to `size` unless the longer exceeded `aspect_limit` times that."""
    scale = min(size / min(height, width), size * aspect_limit / max(height, width))
    full = max(1, round(height * scale)), max(1, round(width * scale))
    return View(top=0, left=0, height=full[0], width=full[1], full_height=full[0], full_width=full[1], flip=False)


@dataclass(frozen=True, kw_only=True)
class LargeScaleJitter:
    """Resize to a random multiple of the crop, then cut a crop at random.

    crop_size: side of the crop; smaller results are filled up later.
    scale: smallest and largest multiple, drawn uniformly.
    flip: mirror with probability one half.
    """

    crop_size: int
    scale: tuple[float, float]
    flip: bool

    def view(self, height: int, width: int, random: np.random.Generator) -> View:
        flip = self.flip and random.random() < 0.5
        whole = fit_inside(height, width, max(1, round(self.crop_size * random.uniform(*self.scale))))
        return _cut(whole, self.crop_size, random, flip)


@dataclass(frozen=True, kw_only=True)
class SceneCrop:
    """Random scale, crop, mirror and colours for segmentation.

    crop_size: side of the crop.
    short_size: shorter side of the resized image at ratio 1.
    ratio: smallest and largest factor of that, drawn uniformly.
    category_max_ratio: a crop is drawn again, up to ten times, while one class fills more of it.
    flip: mirror with probability one half.
    colours: distort brightness, contrast, saturation and hue.
    aspect_limit: see `shorter_side`.
    """

    crop_size: int
    short_size: int
    ratio: tuple[float, float]
    category_max_ratio: float
    flip: bool
    colours: bool
    aspect_limit: float

    def view(self, labels: np.ndarray, random: np.random.Generator, ignore: int) -> View:
        size = max(1, round(self.short_size * random.uniform(*self.ratio)))
        whole = shorter_side(*labels.shape, size, self.aspect_limit)
        flip = self.flip and random.random() < 0.5
        for _ in range(11):
            view = _cut(whole, self.crop_size, random, flip)
            counts = np.bincount(view.labels(labels).ravel(), minlength=ignore + 1)
            counts[ignore] = 0
            if np.count_nonzero(counts) > 1 and counts.max() < self.category_max_ratio * counts.sum():
                break
        return view


def distort(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Brightness, contrast, saturation and hue, each with probability one half (Liu et al., SSD, arXiv:1512.02325).

    (h, w, 3) uint8 -> the same; contrast comes before or after saturation and hue, at random. From the same draws it
    is MMSegmentation's result to the bit.
    """

    def scaled(levels: np.ndarray, factor: float = 1.0, shift: float = 0.0) -> np.ndarray:
        return cv2.LUT(levels, (_LEVELS * factor + shift).clip(0, 255).astype(np.uint8))

    def contrasted(pixels: np.ndarray) -> np.ndarray:
        return scaled(pixels, factor=random.uniform(0.5, 1.5)) if random.integers(2) else pixels

    pixels = scaled(image, shift=random.uniform(-32, 32)) if random.integers(2) else image
    contrast_first = random.integers(2)
    if contrast_first:
        pixels = contrasted(pixels)
    if random.integers(2):
        colours = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        colours[..., 1] = scaled(colours[..., 1], factor=random.uniform(0.5, 1.5))
        pixels = cv2.cvtColor(colours, cv2.COLOR_HSV2RGB)
    if random.integers(2):
        colours = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        turned = (np.arange(256) + random.integers(-18, 18)) % 180  # OpenCV's circle has 180 steps
        colours[..., 0] = cv2.LUT(colours[..., 0], turned.astype(np.uint8))
        pixels = cv2.cvtColor(colours, cv2.COLOR_HSV2RGB)
    return pixels if contrast_first else contrasted(pixels)


def _cut(whole: View, size: int, random: np.random.Generator, flip: bool) -> View:
    height, width = min(size, whole.full_height), min(size, whole.full_width)
    return View(
        top=int(random.integers(whole.full_height - height + 1)),
        left=int(random.integers(whole.full_width - width + 1)),
        height=height,
        width=width,
        full_height=whole.full_height,
        full_width=whole.full_width,
        flip=flip,
    )
