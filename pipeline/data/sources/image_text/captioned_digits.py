"""Embedded images with captions: a scanned digit in a colour, somewhere on a photograph, and words that say so.

Captions are made from what was composed, in several phrasings that tell more or less of it; some images have none.
Written as WebDataset shards, with the digit as the class, and read back as those of others are.
"""

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pipeline.config import ConfigError
from pipeline.config.types import Amount, Count, Fraction, Natural, Positive, Range, Seed, Share
from pipeline.data import scans
from pipeline.data.progress import track
from pipeline.data.scenes import load_photos
from pipeline.data.sources.image_text import captions
from pipeline.data.tokens import NAME, learn_vocabulary

_BLOCK = 2000  # images drawn at once, and in one shard
GROUNDS = {"brick": "bricks", "grass": "grass", "gravel": "gravel", "coffee": "a coffee cup", "chelsea": "a cat",
           "rocket": "a rocket", "hubble_deep_field": "stars", "astronaut": "an astronaut"}  # fmt: skip
COLOURS = {"red": (0.85, 0.1, 0.1), "green": (0.1, 0.65, 0.15), "blue": (0.15, 0.2, 0.9), "yellow": (0.95, 0.9, 0.15),
           "orange": (1.0, 0.55, 0.1), "purple": (0.6, 0.15, 0.7), "white": (1.0, 1.0, 1.0),
           "black": (0.0, 0.0, 0.0)}  # fmt: skip
PLACES = (("top left", "top", "top right"), ("left", "middle", "right"),
          ("bottom left", "bottom", "bottom right"))  # fmt: skip
TOLD = ("digit", "colour", "place", "ground")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the study says about this set.

    train_images, val_images: how many; digits are equally frequent.
    num_texts: captions without images.
    image_size: pixels a side.
    photos: grounds, some of those that have a name in captions.
    colours: of the ink, some of those that have a name in captions.
    ground: share of the photograph in what is else mid-grey.
    window: side of the photograph's part that is shrunk to an image, in pixels.
    scale: smallest and largest side of the scan's square, of the image's.
    shift: of a place beside the middle from it, of the image's side.
    rotation, shear: largest turn in degrees, largest slant.
    phrases: of captions, one drawn for each; `{digit}`, `{colour}`, `{place}` and `{ground}` stand for words.
    silent_share: of the images, without a caption.
    vocabulary_size: tokens that are learned from the training captions.
    val_share: of the scans and of each photograph, kept for validation.
    seed: of all of it.
    held_share: of the scans, kept out of it, which a set of the same seed that keeps out none validates on.
    """

    train_images: Count
    val_images: Count
    num_texts: Natural
    image_size: Count
    photos: tuple[str, ...]
    colours: tuple[str, ...]
    ground: Fraction
    window: Count
    scale: Range[Positive]
    shift: Fraction
    rotation: Amount
    shear: Amount
    phrases: tuple[str, ...]
    silent_share: Fraction
    vocabulary_size: Count
    val_share: Share
    seed: Seed
    held_share: Fraction = 0.0

    def __post_init__(self) -> None:
        for key, known in (("photos", GROUNDS), ("colours", COLOURS)):
            unknown = [name for name in getattr(self, key) if name not in known]
            if unknown:
                raise ConfigError(f"{key} names {unknown[0]!r}; available: {', '.join(known)}")
        for phrase in self.phrases or ("",):
            if not set(names := _names(phrase)) <= set(TOLD) or not names:
                raise ConfigError(f"phrases has {phrase!r}; expected words and some of {{{'}, {'.join(TOLD)}}}")
        if self.window < self.image_size:
            raise ConfigError(f"window is {self.window}; expected at least image_size, {self.image_size}")


class Thing(NamedTuple):
    """What one image shows: a digit in a colour, at a row and column of `PLACES`, on a photograph."""

    digit: int
    colour: str
    place: tuple[int, int]
    photo: str


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Writes the set into `work/raw` and packs it by the reader of shards."""
    root = work / "raw"
    write(options, root)
    written = captions.Options(
        root=str(root), layout="webdataset", vocabulary=str(root / NAME), texts=str(root / "texts.txt"), val_share=0.0,
        expect=None, max_reject_share=0.0, num_workers=1, shard_mib=1024,
    )  # fmt: skip
    data = captions.prepare(written, work, files)
    split = scans.record(scans.split_scans(options.seed, options.val_share, held_share=options.held_share))
    (files / "scans.json").write_text(json.dumps(split))
    return data


def write(options: Options, root: Path) -> None:
    """Writes `<split>/<number>.tar`, `texts.txt` and the vocabulary under `root`."""
    parts = scans.split_scans(options.seed, options.val_share, held_share=options.held_share)
    spoken: list[str] = []
    for split, count in (("train", options.train_images), ("val", options.val_images)):
        (root / split).mkdir(parents=True)
        photos = load_photos(options, split)  # type: ignore[arg-type]  # has all that is asked of one
        rng = np.random.default_rng([options.seed, 5 + (split == "val")])
        for start in track(range(0, count, _BLOCK), f"drawing {split}"):
            digits = np.arange(start, min(start + _BLOCK, count)) % 10
            things = compose(options, digits, rng)
            said = [None if rng.random() < options.silent_share else say(options, thing, rng) for thing in things]
            images = draw(options, parts[split], photos, things, rng)
            _write_shard(root / split / f"{start // _BLOCK:05d}.tar", start, images, things, said)
            spoken += [caption for caption in said if caption is not None and split == "train"]
    rng = np.random.default_rng([options.seed, 7])
    texts = [say(options, thing, rng) for thing in compose(options, rng.integers(0, 10, options.num_texts), rng)]
    (root / "texts.txt").write_text("".join(f"{text}\n" for text in texts))
    (root / NAME).write_text("".join(f"{token}\n" for token in learn_vocabulary(spoken, options.vocabulary_size)))


def compose(options: Options, digits: np.ndarray, rng: np.random.Generator) -> list[Thing]:
    """What is to be drawn, one for each of the (N,) digits wanted."""
    number = len(digits)
    drawn = zip(digits, rng.integers(len(options.colours), size=number), rng.integers(3, size=(number, 2)),
                rng.integers(len(options.photos), size=number), strict=True)  # fmt: skip
    return [Thing(int(digit), options.colours[colour], (int(row), int(column)), options.photos[photo])
            for digit, colour, (row, column), photo in drawn]  # fmt: skip


def say(options: Options, thing: Thing, rng: np.random.Generator) -> str:
    """A caption of what was composed."""
    words = {"digit": scans.NAMES[thing.digit], "colour": thing.colour, "ground": GROUNDS[thing.photo],
             "place": PLACES[thing.place[0]][thing.place[1]]}  # fmt: skip
    return options.phrases[rng.integers(len(options.phrases))].format(**words)


def _names(phrase: str) -> list[str]:
    """What stands in braces in a phrase; nothing where braces do not match."""
    try:
        return [name for _, name, _, _ in Formatter().parse(phrase) if name is not None]
    except ValueError:
        return []


def draw(
    options: Options, part: scans.Scans, photos: list[np.ndarray], things: list[Thing], rng: np.random.Generator
) -> np.ndarray:
    """Their images, (N, S, S, 3) uint8."""
    size = options.image_size
    jitter = scans.Jitter(scale=options.scale, shift=0.02, rotation=options.rotation, shear=options.shear)
    chosen = part.pick(np.array([thing.digit for thing in things]), rng)
    ink = np.clip(1.5 * scans.draw_ink(part.ink[chosen], size, jitter, rng), 0, 1)[..., None]
    images = np.empty((len(things), size, size, 3), np.float32)
    for image, mark, thing in zip(images, ink, things, strict=True):
        ground = _cut(photos[options.photos.index(thing.photo)], options, rng)
        image[:] = 0.5 + options.ground * (ground - 0.5)
        image += _moved(mark, [round(options.shift * size) * (step - 1) for step in thing.place]) * (
            COLOURS[thing.colour] - image
        )
    return (images.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _cut(photo: np.ndarray, options: Options, rng: np.random.Generator) -> np.ndarray:
    """A window of a photograph, shrunk: (S, S, 3) in [0, 1]."""
    window, size = min(options.window, *photo.shape[:2]), options.image_size
    top, left = (int(rng.integers(0, side - window + 1)) for side in photo.shape[:2])
    part = Image.fromarray(photo[top : top + window, left : left + window])
    return np.asarray(part.resize((size, size), Image.Resampling.BOX), np.float32) / 255


def _moved(mark: np.ndarray, steps: list[int]) -> np.ndarray:
    """An (S, S, 1) picture moved down and to the right; what leaves is gone."""
    pad = [(max(step, 0), max(-step, 0)) for step in steps]
    whole = np.pad(mark, (*pad, (0, 0)))
    return whole[tuple(slice(max(-step, 0), max(-step, 0) + len(mark)) for step in steps)]


def _write_shard(path: Path, start: int, images: np.ndarray, things: list[Thing], said: list[str | None]) -> None:
    with tarfile.open(path, "w") as tar:
        for number, (pixels, thing, caption) in enumerate(zip(images, things, said, strict=True), start):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
            parts = {"png": buffer.getvalue(), "cls": f"{thing.digit}_{scans.NAMES[thing.digit]}".encode()}
            if caption is not None:
                parts["txt"] = caption.encode()
            for suffix, data in parts.items():
                entry = tarfile.TarInfo(f"{path.parent.name}{number:06d}.{suffix}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
