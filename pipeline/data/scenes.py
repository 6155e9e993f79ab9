"""Scenes for detection and segmentation: scanned digits over photographs, as ink or on cards, with their true masks.

The photographs are those that come with scikit-image. Training and validation share neither a scan nor a
pixel of a photograph: each photograph is cut in two across its longer side. H by W pixels, both `image_size`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from pipeline.config import ConfigError
from pipeline.config.types import Amount, Count, Fraction, Natural, Range, Seed, Share
from pipeline.data.bundled import bundled
from pipeline.data.pictures import to_rgb
from pipeline.data.scans import Array, Jitter, Scans, brightness, draw_ink, split_scans, two_colours

_FILES = (
    "astronaut.png brick.png camera.png chelsea.png coffee.png grass.png gravel.png hubble_deep_field.jpg ihc.png "
    "motorcycle_left.png retina.jpg rocket.jpg"
)
PHOTOS = {name.partition(".")[0]: f"data/{name}" for name in _FILES.split()}
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
    contrast: least difference in brightness of ink and the ground below it, of 1; on cards, of the pair of colours.
    colour: share of photograph and coloured ink in what else is white ink on a black ground, as in `digits`.
    crowd_share: of scenes with a heap of small digits, annotated as one crowd.
    val_share: of the scans and of each photograph, kept for validation.
    seed: of all of it.
    card_colour: of digits on plain cards, which then are the objects: share of the pair of colours in what else is
        white ink on a black card. None for ink on the photographs themselves.
    """

    train_images: Count
    val_images: Count
    image_size: Count
    digits: tuple[Natural, ...]
    photos: tuple[str, ...]
    num_grounds: Count
    num_digits: Range[Count]
    digit_size: Range[Count]
    rotation: Amount
    shear: Amount
    contrast: Fraction
    colour: Fraction
    crowd_share: Fraction
    val_share: Share
    seed: Seed
    card_colour: Fraction | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.photos if name not in PHOTOS]
        if unknown:
            raise ConfigError(f"photos names {unknown[0]!r}; available: {', '.join(PHOTOS)}")
        if self.num_grounds > len(self.photos):
            raise ConfigError(f"num_grounds is {self.num_grounds}; expected at most that of photos, {len(self.photos)}")
        # A crowd is one and a half times as wide as the smallest digit.
        if self.digit_size[0] < 8 or self.digit_size[1] > self.image_size / 1.5:
            raise ConfigError(
                f"digit_size is {list(self.digit_size)}; expected sides from 8 to two thirds of image_size, "
                f"{int(self.image_size / 1.5)} pixels"
            )


@dataclass(frozen=True)
class Thing:
    """A digit, its card, or a crowd of one digit: its class and the pixels of it that are seen, (H, W) bool."""

    digit: int
    mask: Array
    crowd: bool


@dataclass
class Scene:
    """A picture and what is known of it.

    canvas: (H, W, 3) float32 in [0, 1].
    grounds: (H, W) positions in `photos`.
    edges: (H, W) bool, where there is any ink, or a card.
    things: what lies on the ground, the later ones above the earlier.
    """

    canvas: Array
    grounds: Array
    edges: Array
    things: list[Thing] = field(default_factory=list)

    @property
    def image(self) -> Array:
        """The picture, (H, W, 3) uint8."""
        return (self.canvas * 255 + 0.5).astype(np.uint8)

    def taken(self) -> Array:
        """(H, W) bool, inside the box of a thing."""
        taken = np.zeros(self.edges.shape, bool)
        for thing in self.things:
            taken[_box(thing.mask)] = True
        return taken

    def ink(self, ink: Array, top: int, left: int, colour: Array) -> Array:
        """Inks a scan and takes what it covers from the things below; returns its mask, (H, W) bool."""
        tall, wide = ink.shape
        window = (slice(top, top + tall), slice(left, left + wide))
        cover = np.clip(1.5 * ink, 0, 1)[..., None]
        self.canvas[window] += cover * (colour - self.canvas[window])
        self.edges[window] |= ink > _TRACE
        mask = np.zeros(self.edges.shape, bool)
        mask[window] = ink > _SOLID
        return self._cover(mask)

    def lay(self, card: Array, top: int, left: int) -> Array:
        """Lays a card, (h, w, 3) in [0, 1], over what is there; returns its mask, (H, W) bool."""
        window = (slice(top, top + card.shape[0]), slice(left, left + card.shape[1]))
        self.canvas[window], self.edges[window] = card, True
        mask = np.zeros(self.edges.shape, bool)
        mask[window] = True
        return self._cover(mask)

    def _cover(self, mask: Array) -> Array:
        for thing in self.things:
            thing.mask[mask] = False
        return mask


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
                f"expected at least image_size, {options.image_size}: leave it out, or lower image_size"
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
        scene = _lay_ground(options, photos, rng)
        if rng.random() < options.crowd_share:
            _add_crowd(options, scans, scene, rng)
        for _ in range(rng.integers(options.num_digits[0], options.num_digits[1] + 1)):
            _add_digit(options, scans, scene, rng)
        scene.things = [thing for thing in scene.things if thing.mask.any()]
        yield scene


def _lay_ground(options: Options, photos: list[Array], rng: np.random.Generator) -> Scene:
    """Crops of photographs, side by side along random lines."""
    size = options.image_size
    canvas, grounds = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.int64)
    y, x = np.ogrid[:size, :size]
    y, x = y - (size - 1) / 2, x - (size - 1) / 2
    for place, photo in enumerate(rng.choice(len(photos), options.num_grounds, replace=False)):
        top, left = (rng.integers(0, side - size + 1) for side in photos[photo].shape[:2])
        crop = photos[photo][top : top + size, left : left + size] * np.float32(1 / 255)
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-size / 6, size / 6)
        here = np.cos(angle) * y + np.sin(angle) * x > (offset if place else -np.inf)
        canvas = np.where(here[..., None], np.float32(options.colour) * crop, canvas)
        grounds[here] = photo
    return Scene(canvas, grounds, np.zeros((size, size), bool))


def _add_digit(options: Options, scans: Scans, scene: Scene, rng: np.random.Generator) -> None:
    """Places one digit where it covers little of the others; leaves it out if no such place turns up."""
    size = int(rng.integers(options.digit_size[0], options.digit_size[1] + 1))
    digit = int(rng.choice(options.digits))
    taken = scene.taken()
    for _ in range(_TRIES):
        top, left = rng.integers(0, options.image_size - size + 1, 2)
        if taken[top : top + size, left : left + size].mean() < 0.1:
            if options.card_colour is None:
                colour = _colour(options, scene.canvas[top : top + size, left : left + size], rng)
                mask = scene.ink(_scan(options, scans, digit, size, rng), top, left, colour)
            else:
                card = _card(options.card_colour, options.contrast, _scan(options, scans, digit, size, rng), rng)
                mask = scene.lay(card, top, left)
            scene.things.append(Thing(digit, mask, crowd=False))
            return


def _add_crowd(options: Options, scans: Scans, scene: Scene, rng: np.random.Generator) -> None:
    """Inks a heap of one digit, each half as large as the smallest ones that stand alone."""
    size = max(8, options.digit_size[0] // 2)
    spread = 2 * size
    digit = int(rng.choice(options.digits))
    top, left = rng.integers(0, options.image_size - spread - size + 1, 2)
    colour = _colour(options, scene.canvas[top : top + spread + size, left : left + spread + size], rng)
    whole = np.zeros(scene.edges.shape, bool)
    for down, right in rng.integers(0, spread + 1, (8, 2)):
        whole |= scene.ink(_scan(options, scans, digit, size, rng), top + down, left + right, colour)
    scene.things.append(Thing(digit, whole, crowd=True))


def _scan(options: Options, scans: Scans, digit: int, size: int, rng: np.random.Generator) -> Array:
    """The ink of a scan of the digit, (size, size)."""
    jitter = Jitter(scale=_SCALE, shift=0.0, rotation=options.rotation, shear=options.shear)
    return draw_ink(scans.ink[scans.pick(np.array([digit]), rng)], size, jitter, rng)[0]


def _card(share: float, contrast: float, ink: Array, rng: np.random.Generator) -> Array:
    """A card with the ink of a scan, (S, S), in a pair of colours as `digits` has them: (S, S, 3) in [0, 1]."""
    ground, colour = (np.float32(share) * colours for colours in two_colours(1, contrast, rng))
    return ground + ink[..., None] * (colour + np.float32(1 - share) - ground)


def _colour(options: Options, ground: Array, rng: np.random.Generator) -> Array:
    """An ink that stands out from the mean of the ground; on a middling ground the one that does so most."""
    share = np.float32(options.colour)
    colours = share * rng.uniform(0, 1, (64, 3)).astype(np.float32) + (1 - share)
    gaps = np.abs(brightness(colours) - brightness(ground.mean((0, 1))))
    enough = np.flatnonzero(gaps >= options.contrast)
    return colours[enough[0] if len(enough) else gaps.argmax()]


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
