"""Streams of image tasks from the official files of MNIST, CIFAR-100 and Tiny ImageNet.

A part of each class's training images is held out to choose by (`val`); the official test images are `test`.
"""

import gzip
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from pipeline.config import ConfigError
from pipeline.config.types import Count, Fraction, Natural, Seed, Share
from pipeline.data.inspection import Findings, look_at, read_picture
from pipeline.data.official import check_counts, check_root, journal_of
from pipeline.data.outside import read_list, read_text
from pipeline.data.packed import PackWriter
from pipeline.data.streams import divide, write_stream

KEY = "root"
MOST = 2**30  # bytes of unpacked pixels
MNIST = (
    "Expected: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, "
    "each as it is or with .gz"
)
CIFAR = (
    "Expected: train.bin, test.bin and fine_label_names.txt, the folder cifar-100-binary of cifar-100-binary.tar.gz, "
    "which is to be had from cs.toronto.edu/~kriz/cifar.html"
)
TINY = (
    "Expected: wnids.txt, train/<class>/images/*.JPEG, val/images/*.JPEG and val/val_annotations.txt, the folder "
    "tiny-imagenet-200 of tiny-imagenet-200.zip, which is to be had from cs231n.stanford.edu"
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study says about a stream whose images the user keeps.

    root: its folder.
    layout: whose files they are.
    classes_per_task, tasks, permutations: what the tasks are, one of them; see `pipeline.data.streams.divide`.
    val_share: of each class's training images, held out.
    seed: of what is held out, and of permutations.
    expect: numbers of `train` (`val` among them) and `test` images and of `classes`; null: none.
    max_reject_share: largest share of its images that may be unusable.
    shard_mib: size of a pack's shards.
    num_workers: threads that read and decode; null: one for each CPU of the process.
    """

    root: str | None
    layout: Literal["mnist", "cifar100", "tiny_imagenet"]
    classes_per_task: Count | None
    tasks: tuple[tuple[str, ...], ...] | None
    permutations: Count | None
    val_share: Share
    seed: Seed
    expect: Mapping[str, Natural] | None
    max_reject_share: Fraction
    shard_mib: Count
    num_workers: Count | None = None


class Listed(NamedTuple):
    """A set before it is packed: for each sample its name, class and what gives its bytes, height and width."""

    classes: list[str]
    train: list[tuple[str, int, Any]]
    test: list[tuple[str, int, Any]]


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Checks and packs the set, and writes what its tasks are.

    Raises:
        ConfigError: the root, its layout, its counts or the tasks are not as they should be.
    """
    read, layout, needed = LAYOUTS[options.layout]
    root = check_root(options.root, KEY, layout, needed)
    listed = read(root)
    check_counts(KEY, root, options.expect, {"train": len(listed.train), "test": len(listed.test),
                                             "classes": len(listed.classes)})  # fmt: skip
    ways = (options.classes_per_task, options.tasks, options.permutations)
    stream = divide(listed.classes, *ways, options.seed)
    held = hold_out([label for _, label, _ in listed.train], listed.classes, options.val_share, options.seed)
    samples = {
        "train": [sample for sample, out in zip(listed.train, held, strict=True) if not out],
        "val": [sample for sample, out in zip(listed.train, held, strict=True) if out],
        "test": listed.test,
    }
    findings, splits = Findings(), {}
    for split, wanted in samples.items():
        with PackWriter(files, split, options.shard_mib * 2**20) as pack:
            for (name, label, _), (data, height, width, _) in look_at(
                wanted,
                name=lambda sample: sample[0],
                look=lambda sample: _look(root, sample[2]),
                notes=lambda seen: seen[3],
                findings=findings,
                num_workers=options.num_workers,
                what=f"packing {split}",
                packs=(pack,),
                journal=journal_of(work, split),
            ):
                pack.add(name, data, label=label, height=height, width=width)
        splits[split] = {"count": len(pack)}
        if absent := sorted(set(range(len(listed.classes))) - set(pack.labels)):
            raise ConfigError(f"{KEY} is {str(root)!r}, which has no {split} images of {listed.classes[absent[0]]!r}")
    (files / "classes.json").write_text(json.dumps(listed.classes))
    write_stream(files, stream)
    told = findings.close(files, str(root), options.max_reject_share)
    return {"splits": splits, "classes": listed.classes, "tasks": len(stream), **told}


def hold_out(labels: Sequence[int], classes: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Which of the (N,) samples are held out, the same share of each class: (N,) bool.

    Raises:
        ConfigError: a class is left with nothing on one side.
    """
    held, known, rng = np.zeros(len(labels), bool), np.asarray(labels), np.random.default_rng([seed, 0])
    for label, name in enumerate(classes):
        own = rng.permutation(np.flatnonzero(known == label))
        count = round(share * len(own))
        if not 0 < count < len(own):
            raise ConfigError(f"val_share is {share}, and {name!r} has {len(own)} images; expected some on both sides")
        held[own[:count]] = True
    return held


def _look(root: Path, what: Path | np.ndarray) -> tuple[bytes, int, int, tuple[str, ...]]:
    """Bytes, height, width and notes of an image: of a file, or of pixels (H, W) or (H, W, 3), as PNG."""
    if isinstance(what, Path):
        picture = read_picture(root, what)
        return picture.data, picture.height, picture.width, picture.notes
    buffer = io.BytesIO()
    Image.fromarray(what).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue(), *what.shape[:2], ()


def _mnist(root: Path) -> Listed:
    found = []
    for prefix in ("train", "t10k"):
        images, labels = (_idx(root, f"{prefix}-{what}", dims) for what, dims in
                          (("images-idx3-ubyte", 3), ("labels-idx1-ubyte", 1)))  # fmt: skip
        if len(images) != len(labels) or not len(images) or labels.max() > 9:
            raise ConfigError(
                f"{KEY} is {str(root)!r}, whose {prefix} files have {len(images)} images and {len(labels)} labels up "
                f"to {labels.max(initial=0)}; expected as many, of 0 to 9. {MNIST}"
            )
        found.append([(f"{prefix}-{i:05d}", int(label), image)
                      for i, (image, label) in enumerate(zip(images, labels, strict=True))])  # fmt: skip
    return Listed([str(digit) for digit in range(10)], *found)


def _idx(root: Path, name: str, dims: int) -> np.ndarray:
    """The array of bytes in a file of MNIST: magic number and sides, big-endian, then the values."""
    path = root / name
    data = read_list(root, path if path.exists() else root / f"{name}.gz", MNIST)
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(MOST + 1)
        except (OSError, EOFError) as error:
            raise ConfigError(f"{path}.gz cannot be unpacked ({error}); copy it again. {MNIST}") from None
    sides = np.frombuffer(data[4 : 4 + 4 * dims].ljust(4 * dims, b"\0"), ">u4").tolist()
    size = math.prod(sides)
    if data[:4] != bytes([0, 0, 8, dims]) or len(data) != 4 + 4 * dims + size or size > MOST:
        raise ConfigError(f"{path} has {len(data):,} bytes for sides of {sides}; it is damaged; copy it again. {MNIST}")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(sides)


def _cifar100(root: Path) -> Listed:
    classes, found = read_text(root, root / "fine_label_names.txt", CIFAR).split(), []
    for split in ("train", "test"):
        data = read_list(root, root / f"{split}.bin", CIFAR)
        if len(data) % 3074 or not data:
            raise ConfigError(f"{root / split}.bin has {len(data):,} bytes; expected 3,074 for each image. {CIFAR}")
        rows = np.frombuffer(data, np.uint8).reshape(-1, 3074)
        if (worst := int(rows[:, 1].max())) >= len(classes):
            raise ConfigError(f"{root / split}.bin has the class {worst}; expected one of {len(classes)}. {CIFAR}")
        pixels = rows[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        found.append([(f"{split}-{i:05d}", int(row[1]), np.ascontiguousarray(image))
                      for i, (row, image) in enumerate(zip(rows, pixels, strict=True))])  # fmt: skip
    return Listed(classes, *found)


def _tiny_imagenet(root: Path) -> Listed:
    classes = sorted(read_text(root, root / "wnids.txt", TINY).split())
    places = {name: place for place, name in enumerate(classes)}

    def listed(paths: Iterator[tuple[Path, str]]) -> list[tuple[str, int, Any]]:
        found = []
        for path, name in paths:
            if name not in places:
                raise ConfigError(f"{KEY} is {str(root)!r}, where {path.name} is of {name!r}, not in wnids.txt. {TINY}")
            found.append((str(path.relative_to(root)), places[name], path))
        return found

    train = ((path, name) for name in classes for path in sorted((root / "train" / name / "images").glob("*.JPEG")))
    rows = [line.split("\t") for line in read_text(root, root / "val/val_annotations.txt", TINY).splitlines() if line]
    if short := next((row for row in rows if len(row) < 2), None):
        raise ConfigError(f"{root}/val/val_annotations.txt has the line {short}; expected file and class, by tabs")
    return Listed(classes, listed(train), listed((root / "val/images" / row[0], row[1]) for row in rows))


LAYOUTS: dict[str, tuple[Callable[[Path], Listed], str, tuple[str, ...]]] = {
    "mnist": (_mnist, MNIST, ()),
    "cifar100": (_cifar100, CIFAR, ("train.bin", "test.bin", "fine_label_names.txt")),
    "tiny_imagenet": (_tiny_imagenet, TINY, ("train", "val/images", "val/val_annotations.txt", "wnids.txt")),
}
