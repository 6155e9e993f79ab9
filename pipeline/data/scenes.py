"""Scenes for detection and segmentation: scanned digits inked over photographs, with their true masks.

The photographs are those that come with scikit-image. Training and validation share neither a scan nor a
pixel of a photograph: each photograph is cut in two across its longer side. H by W pixels, both `image_size`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.config import ConfigError
from pipeline.data.bundled import bundled
from pipeline.data.pictures import to_rgb
from pipeline.data.scans import Array, Jitter, Scans, brightness, draw_ink, split_scans

PHOTOS = {
    name: f"data/{name}.{kind}"
    for kind, names in {
        "png": (
            "astronaut",
            "brick",
            "camera",
            "chelsea",
            "coffee",
            "grass",
            "gravel",
            "ihc",
            "motorcycle_left",
        ),
        "jpg": ("hubble_deep_field", "retina", "rocket"),
    }.items()
    for name in names
}
_SOLID = 0.4  # coverage from which a pixel belongs to a digit
_TRACE = 0.1  # coverage from which it belongs to nothing else any more
_TRIES = 20
_SCALE = (0.8, 0.9)  # of a scan in its square: room for slanted and blurred ends


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the study says about a set of scenes.

    train_images, val_images: how many scenes.
    image_size: pixels a side.
    digits: which of 0…9 are classes.
    photos: grounds, some of `PHOTOS`.
    num_grounds: photographs in one scene.
    num_digits: fewest and most of a scene.
    digit_size: smallest and largest side of a scan's square, in pixels.
    rotation, shear: largest turn in degrees, largest slant.
    contrast: least difference in brightness of ink and the ground below it, of 1.
    crowd_share: of scenes with a heap of small digits, annotated as one crowd.
    val_share: of the scans and of each photograph, kept for validation.
    seed: of all of it.
    """

    train_images: int
    val_images: int
    image_size: int
    digits: tuple[int, ...]
    photos: tuple[str, ...]
    num_grounds: int
    num_digits: tuple[int, int]
    digit_size: tuple[int, int]
    rotation: float
    shear: float
    contrast: float
    crowd_share: float
    val_share: float
    seed: int

    def __post_init__(self) -> None:
        unknown = [name for name in self.photos if name not in PHOTOS]
        if unknown:
            raise ConfigError(f"photos names {unknown[0]!r}; available: {', '.join(PHOTOS)}")
        if self.num_grounds > len(self.photos):
            raise ConfigError(f"num_grounds is {self.num_grounds}; expected at most that of photos, {len(self.photos)}")
        if self.digit_size[0] < 8 or self.digit_size[1] > self.image_size / 1.5:
            raise ConfigError(
                f"digit_size is {list(self.digit_size)}; expected sides from 8 to two thirds of image_size, "
                f"{int(self.image_size / 1.5)} pixels"
            )


@dataclass(frozen=True)
class Thing:
    """A digit, or a crowd of one digit: its class and the pixels of it that are seen, (H, W) bool."""

    digit: int
    mask: Array
    crowd: bool


@dataclass(frozen=True)
class Scene:
    """A picture and what is known of it.

    image (H, W, 3) uint8; things in it; grounds (H, W), positions in `photos`; edges (H, W) bool, partly ink.
    """

    image: Array
    things: list[Thing]
    grounds: Array
    edges: Array


def load_photos(options: Options, split: str) -> list[Array]:
    """The part of each photograph that belongs to the split, (h, w, 3) uint8."""
    parts = []
    for name in options.photos:
        with Image.open(bundled("skimage", PHOTOS[name])) as image:
            pixels = np.asarray(to_rgb(image))
        axis = int(pixels.shape[1] >= pixels.shape[0])
        cut = round(pixels.shape[axis] * (1 - options.val_share))
        part = np.split(pixels, [cut], axis)[split == "val"]
        if min(part.shape[:2]) < options.image_size:
            raise ConfigError(
                f"the {split} part of photograph {name!r} has {part.shape[1]} x {part.shape[0]} pixels; "
                f"expected at least image_size, {options.image_size}: leave it out or change either"
            )
        parts.append(part)
    return parts


def compose(options: Options, split: str) -> Iterator[Scene]:
    """Makes the scenes of a split; the same options give the same scenes."""
    scans = split_scans(options.seed, options.val_share, options.digits)[split]
    photos = load_photos(options, split)
    number = options.val_images if split == "val" else options.train_images
    rng = np.random.default_rng([options.seed, 3 + (split == "val")])
    for _ in range(number):
        canvas, grounds = _lay_ground(options, photos, rng)
        things: list[Thing] = []
        edges = np.zeros(grounds.shape, bool)
        if rng.random() < options.crowd_share:
            _add_crowd(options, scans, canvas, things, edges, rng)
        for _ in range(rng.integers(options.num_digits[0], options.num_digits[1] + 1)):
            _add_digit(options, scans, canvas, things, edges, rng)
        yield Scene(
            (canvas * 255 + 0.5).astype(np.uint8),
            [thing for thing in things if thing.mask.any()],
            grounds,
            edges,
        )


def _lay_ground(options: Options, photos: list[Array], rng: np.random.Generator) -> tuple[Array, Array]:
    """Crops of photographs, side by side along random lines."""
    size = options.image_size
    grounds = np.zeros((size, size), np.int64)
    y, x = np.ogrid[:size, :size]
    y, x = y - (size - 1) / 2, x - (size - 1) / 2
    canvas = np.zeros((size, size, 3), np.float32)
    for place, photo in enumerate(rng.choice(len(photos), options.num_grounds, replace=False)):
        top, left = (rng.integers(0, side - size + 1) for side in photos[photo].shape[:2])
        crop = photos[photo][top : top + size, left : left + size] * np.float32(1 / 255)
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-size / 6, size / 6)
        here = np.cos(angle) * y + np.sin(angle) * x > (offset if place else -np.inf)
        canvas = np.where(here[..., None], crop, canvas)
        grounds[here] = photo
    return canvas, grounds


def _add_digit(
    options: Options, scans: Scans, canvas: Array, things: list[Thing], edges: Array, rng: np.random.Generator
) -> None:
    """Inks one digit where it covers little of the others; leaves it out if no such place turns up."""
    size = int(rng.integers(options.digit_size[0], options.digit_size[1] + 1))
    digit, ink = _scan(options, scans, size, rng)
    taken = np.zeros(edges.shape, bool)
    for thing in things:
        taken[_box(thing.mask)] = True
    for _ in range(_TRIES):
        top, left = rng.integers(0, options.image_size - size + 1, 2)
        if taken[top : top + size, left : left + size].mean() < 0.1:
            mask = _ink(options, canvas, ink, top, left, things, edges, _colour(options, canvas, top, left, size, rng))
            things.append(Thing(digit, mask, crowd=False))
            return


def _add_crowd(
    options: Options, scans: Scans, canvas: Array, things: list[Thing], edges: Array, rng: np.random.Generator
) -> None:
    """Inks a heap of one digit, each half as large as the smallest ones that stand alone."""
    size = max(8, int(options.digit_size[0]) // 2)
    spread = 2 * size
    top, left = rng.integers(0, options.image_size - spread - size + 1, 2)
    colour = _colour(options, canvas, top, left, spread + size, rng)
    whole = np.zeros(edges.shape, bool)
    digit = int(rng.choice(np.unique(scans.classes)))
    for _ in range(8):
        down, right = rng.integers(0, spread + 1, 2)
        _, ink = _scan(options, scans, size, rng, digit)
        whole |= _ink(options, canvas, ink, top + down, left + right, things, edges, colour)
    things.append(Thing(digit, whole, crowd=True))


def _scan(
    options: Options, scans: Scans, size: int, rng: np.random.Generator, digit: int | None = None
) -> tuple[int, Array]:
    digit = int(rng.choice(np.unique(scans.classes))) if digit is None else digit
    jitter = Jitter(scale=_SCALE, shift=0.0, rotation=options.rotation, shear=options.shear)
    return digit, draw_ink(scans.ink[scans.pick(np.array([digit]), rng)], size, jitter, rng)[0]


def _colour(options: Options, canvas: Array, top: int, left: int, size: int, rng: np.random.Generator) -> Array:
    """An ink that stands out from the mean of the ground; on a middling ground the one that does so most."""
    ground = brightness(canvas[top : top + size, left : left + size].mean((0, 1)))
    colours = rng.uniform(0, 1, (64, 3)).astype(np.float32)
    gaps = np.abs(brightness(colours) - ground)
    enough = np.flatnonzero(gaps >= options.contrast)
    return colours[enough[0] if len(enough) else gaps.argmax()]


def _ink(
    options: Options,
    canvas: Array,
    ink: Array,
    top: int,
    left: int,
    things: list[Thing],
    edges: Array,
    colour: Array,
) -> Array:
    """Inks a scan on the canvas and takes what it covers from the things below; returns its mask."""
    tall, wide = ink.shape
    window = (slice(top, top + tall), slice(left, left + wide))
    cover = np.clip(1.5 * ink, 0, 1)[..., None]
    canvas[window] += cover * (colour - canvas[window])
    mask = np.zeros(edges.shape, bool)
    mask[window] = ink > _SOLID
    edges[window] |= ink > _TRACE
    for thing in things:
        thing.mask[mask] = False
    return mask


def _box(mask: Array) -> tuple[slice, slice]:
    """The smallest window that holds a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return slice(0), slice(0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def box_of(mask: Array) -> list[int]:
    """COCO's box of a mask: [x, y, width, height] in pixels."""
    rows, columns = _box(mask)
    return [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
