"""The operations of timm's augmentation policies on arrays, in place of Pillow's images: half of the time or less.

Colours come out as the bits that Pillow gives. What moves pixels differs by its interpolation, see `warp`. An operation
takes (H, W, 3) uint8, RGB, and what timm draws for it, and gives the same; `OPERATIONS` has them by timm's names.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
from PIL import Image

Pixels = np.ndarray
Operation = Callable[..., Pixels]

LEVELS = np.arange(256)
GREY = np.array([19595, 38470, 7471], np.float32)  # Pillow's weights of red, green and blue, in 2^-16
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # Pillow's filter of that name


def on_arrays(policy: Any) -> Callable[[Pixels], Pixels]:
    """A policy of timm's that draws as before and works on arrays; its operations are exchanged in place."""
    from timm.data.auto_augment import AugMixAugment  # takes seconds

    mixes = isinstance(policy, AugMixAugment)  # Pillow's images, which its operations must give
    for operation in operations_of(policy):
        change = OPERATIONS.get(operation.aug_fn.__name__) or partial(_by_pillow, operation.aug_fn)
        operation.aug_fn = partial(_on_image, change) if mixes else change
    return partial(_by_pillow, policy) if mixes else policy


def operations_of(policy: Any) -> Iterator[Any]:
    """timm's single operations, of a policy that draws from them and of one that lists pairs."""
    yield from getattr(policy, "ops", ())
    for pair in getattr(policy, "policy", ()):
        yield from pair


def _by_pillow(change: Callable[..., Image.Image], pixels: Pixels, *drawn: Any, **how: Any) -> Pixels:
    return np.asarray(change(Image.fromarray(pixels), *drawn, **how))


def _on_image(change: Operation, image: Image.Image, *drawn: Any, **how: Any) -> Image.Image:
    return Image.fromarray(change(np.asarray(image), *drawn, **how))


def auto_contrast(pixels: Pixels, **_: object) -> Pixels:
    """Each channel stretched from its darkest and lightest level to 0 and 255."""

    def table(counts: np.ndarray) -> np.ndarray:
        low, high = np.flatnonzero(counts)[[0, -1]].tolist()
        if low == high:
            return LEVELS
        scale = 255.0 / (high - low)
        return (LEVELS * scale - low * scale).astype(np.int64)

    return _by_table(pixels, *map(table, _histograms(pixels)))


def equalize(pixels: Pixels, **_: object) -> Pixels:
    """Each channel's levels spread so that all are about as frequent."""

    def table(counts: np.ndarray) -> np.ndarray:
        found = counts[counts > 0]
        step = int(found[:-1].sum()) // 255
        return (step // 2 + counts.cumsum() - counts) // step if step else LEVELS

    return _by_table(pixels, *map(table, _histograms(pixels)))


def invert(pixels: Pixels, **_: object) -> Pixels:
    return 255 - pixels


def posterize(pixels: Pixels, bits_to_keep: int, **_: object) -> Pixels:
    """The highest bits of each channel, 0 to 8; with 0 of them all is black.

    timm's policies of growing strength ask for 0 bits, which Pillow took until version 12 and refuses since.
    """
    return pixels & np.uint8(256 - 2 ** (8 - bits_to_keep))


def solarize(pixels: Pixels, thresh: int, **_: object) -> Pixels:
    """Levels from a threshold on inverted."""
    return _by_table(pixels, np.where(thresh > LEVELS, LEVELS, 255 - LEVELS))


def solarize_add(pixels: Pixels, add: int, thresh: int = 128, **_: object) -> Pixels:
    """Levels below a threshold raised."""
    return _by_table(pixels, np.where(thresh > LEVELS, LEVELS + add, LEVELS))


def brightness(pixels: Pixels, factor: float, **_: object) -> Pixels:
    return _by_table(pixels, _blend(np.float32(0), LEVELS, factor))


def contrast(pixels: Pixels, factor: float, **_: object) -> Pixels:
    """Away from the mean of the grey image, which is a whole level."""
    mean = np.float32(int(_grey(pixels).mean(dtype=np.float64) + 0.5))
    return _by_table(pixels, _blend(mean, LEVELS, factor))


def color(pixels: Pixels, factor: float, **_: object) -> Pixels:
    """Away from the grey image."""
    return _blend(_grey(pixels), pixels, factor)


def desaturate(pixels: Pixels, factor: float, **_: object) -> Pixels:
    return color(pixels, min(1.0, max(0.0, 1.0 - factor)))


def sharpness(pixels: Pixels, factor: float, **_: object) -> Pixels:
    """Away from the smoothed image, whose border is left as it is."""
    smooth = pixels.copy()
    smooth[1:-1, 1:-1] = cv2.filter2D(pixels, -1, SMOOTH)[1:-1, 1:-1]
    return _blend(smooth.astype(np.float32), pixels, factor)


def rotate(pixels: Pixels, degrees: float, fillcolor: tuple[int, ...], **_: object) -> Pixels:
    """Counter-clockwise around the centre."""
    height, width = pixels.shape[:2]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    right, down = width / 2, height / 2
    return warp(pixels, ((cos, -sin, right - cos * right + sin * down), (sin, cos, down - sin * right - cos * down)),
                fillcolor)  # fmt: skip


def shear_x(pixels: Pixels, factor: float, fillcolor: tuple[int, ...], **_: object) -> Pixels:
    return warp(pixels, ((1, factor, 0), (0, 1, 0)), fillcolor)


def shear_y(pixels: Pixels, factor: float, fillcolor: tuple[int, ...], **_: object) -> Pixels:
    return warp(pixels, ((1, 0, 0), (factor, 1, 0)), fillcolor)


def translate_x_abs(pixels: Pixels, distance: float, fillcolor: tuple[int, ...], **_: object) -> Pixels:
    return warp(pixels, ((1, 0, distance), (0, 1, 0)), fillcolor)


def translate_y_abs(pixels: Pixels, distance: float, fillcolor: tuple[int, ...], **_: object) -> Pixels:
    return warp(pixels, ((1, 0, 0), (0, 1, distance)), fillcolor)


def translate_x_rel(pixels: Pixels, share: float, **how: Any) -> Pixels:
    return translate_x_abs(pixels, share * pixels.shape[1], **how)


def translate_y_rel(pixels: Pixels, share: float, **how: Any) -> Pixels:
    return translate_y_abs(pixels, share * pixels.shape[0], **how)


OPERATIONS: dict[str, Operation] = {
    operation.__name__: operation
    for operation in (
        auto_contrast, equalize, invert, posterize, solarize, solarize_add, brightness, contrast, color, desaturate,
        sharpness, rotate, shear_x, shear_y, translate_x_abs, translate_y_abs, translate_x_rel, translate_y_rel,
    )
}  # fmt: skip


def warp(pixels: Pixels, matrix: tuple[tuple[float, ...], ...], fill: tuple[int, ...]) -> Pixels:
    """What an affine map takes from elsewhere in the image, by OpenCV's bicubic interpolation.

    Pillow's kernel is sharper (its a is -1, here -0.75), its places exact (here 1/32 pixel), and it cuts levels off
    where these are rounded. What lies outside is the same.

    Args:
        matrix: ((a, b, c), (d, e, f)): the pixel around (x, y) is taken from around (a x + b y + c, d x + e y + f), as
            Pillow has it: the image's corner is (0, 0), and a pixel's centre half a pixel from its corner.
        fill: of pixels that lie outside, RGB.
    """
    height, width = pixels.shape[:2]
    lead = np.array(matrix, np.float64)
    lead[:, 2] += lead[:, :2].sum(axis=1) / 2 - 0.5  # OpenCV's (0, 0) is the centre of the first pixel
    warped = cv2.warpAffine(
        pixels, lead, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    # OpenCV would blend the fill into the border; in Pillow a pixel is inside or outside.
    outside = cv2.warpAffine(
        np.zeros((height, width), np.uint8), lead, (width, height), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        borderValue=1,
    )  # fmt: skip
    return cv2.copyTo(_filled(height, width, tuple(fill)), outside, warped)


@lru_cache
def _filled(height: int, width: int, fill: tuple[int, ...]) -> Pixels:
    return np.full((height, width, 3), fill, np.uint8)


def _by_table(pixels: Pixels, *tables: np.ndarray) -> Pixels:
    """Levels looked up, in a table for each channel or one for all; what the tables have beyond 0 to 255 is cut off."""
    table = np.stack(tables, axis=1).clip(0, 255).astype(np.uint8)
    return cv2.LUT(pixels, table[:, None])


def _histograms(pixels: Pixels) -> np.ndarray:
    """(3, 256) int64."""
    counts = [cv2.calcHist([pixels], [channel], None, [256], [0, 256]).ravel() for channel in range(3)]
    return np.stack(counts).astype(np.int64)


def _grey(pixels: Pixels) -> np.ndarray:
    """(H, W, 1) whole levels, float32, whose 24 bits are enough for exact sums."""
    return np.floor((pixels.astype(np.float32) @ GREY + 2**15) / 2**16)[..., None]


def _blend(other: np.ndarray, levels: np.ndarray, factor: float) -> np.ndarray:
    """Pillow's `Image.blend`: away from `other` by a factor, levels cut off and not rounded; float32, as there."""
    mixed = other + np.float32(factor) * (levels.astype(np.float32) - other)
    return mixed.clip(0, 255).astype(np.uint8)
