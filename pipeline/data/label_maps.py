"""Label images of segmentation sets, packed beside the images whose pixels they tell the classes of.

H × W pixels of an image.
"""

import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.inspection import MOST_BYTES, Findings, Picture, look_at, read_picture
from pipeline.data.official import Options
from pipeline.data.outside import read_file
from pipeline.data.packed import PackWriter
from pipeline.data.pictures import open_whole

IGNORE = 255  # of pixels that are not evaluated
EMPTY = "no pixel has a class"


def open_labels(data: bytes, modes: Collection[str]) -> Image.Image:
    """A label image of one of these modes.

    Raises:
        ValueError: it is no lossless image, or its pixels are not labels as they stand.
    """
    if data[:3] == b"\xff\xd8\xff":
        raise ValueError("label image is a JPEG, whose compression changes labels; expected a PNG")
    image = open_whole(data, formats=("PNG",))
    if image.mode not in modes:
        wanted = "one label a pixel" if "RGB" not in modes else "one colour a pixel"
        raise ValueError(f"label image has mode {image.mode}; expected {wanted} ({' or '.join(modes)})")
    if image.mode == "L" and data[24] < 8:
        raise ValueError(f"label image has {data[24]} bits a pixel; expected 8, since fewer are stretched when read")
    return image


def pack_pairs(
    options: Options,
    root: Path,
    split: str,
    pairs: Sequence[tuple[str, str]],
    read: Callable[[bytes], np.ndarray],
    files: Path,
    findings: Findings,
    journal: Path,
) -> None:
    """Packs a split: its images, and in `<split>-labels` their labels as PNG, classes from 0 and `IGNORE`.

    Args:
        pairs: names below the root of an image and of its labels.
        read: (H, W) uint8 labels from the bytes of a file of labels; ValueError rejects the pair.
    """

    def look(pair: tuple[str, str]) -> tuple[Picture, bytes]:
        picture = read_picture(root, root / pair[0])
        labels = read(read_file(root, root / pair[1], MOST_BYTES))
        if labels.shape != (picture.height, picture.width):
            raise ValueError(
                f"{picture.width} x {picture.height} pixels, but {labels.shape[1]} x {labels.shape[0]} labels"
            )
        if (labels == IGNORE).all():
            picture = replace(picture, notes=(*picture.notes, EMPTY))
        return picture, _as_png(labels)

    shard_bytes = options.shard_mib * 2**20
    with (
        PackWriter(files, split, shard_bytes) as images,
        PackWriter(files, f"{split}-labels", shard_bytes) as maps,
    ):
        for (image, labels), (picture, content) in look_at(
            pairs,
            name=lambda pair: pair[0],
            look=look,
            notes=lambda seen: seen[0].notes,
            findings=findings,
            num_workers=options.num_workers,
            what=f"packing {split}",
            packs=(images, maps),
            journal=journal,
        ):
            size = {"height": picture.height, "width": picture.width}
            images.add(Path(image).name, picture.data, **size)
            maps.add(Path(labels).name, content, **size)


def _as_png(labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()
