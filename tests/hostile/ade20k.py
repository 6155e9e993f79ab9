"""ADE20K's label images and its table of classes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.hostile.entry import Entry
from tests.hostile.images import png
from tests.hostile.mutations import cuts, noise
from tests.hostile.trees import Spoil, label_map, picture, prepare, put, strange

MASK, IMAGE, TABLE = "annotations/training/1.png", "images/training/1.jpg", "objectInfo150.txt"


def saved(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def masks() -> Iterator[tuple[str, bytes, bool]]:
    for kind in ("JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "TGA", "ICO"):
        yield f"a mask as {kind}", label_map(kind), False
    for mode in ("RGB", "RGBA", "LA", "I;16", "1"):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(label_map())).convert("L" if mode == "I;16" else mode).convert(mode).save(buffer, "PNG")
        yield f"a mask of mode {mode}", buffer.getvalue(), False
    for depth in (2, 4):
        yield f"a mask of {depth} bits", png(16, 16, rows=bytes(16 * (1 + 2 * depth)), depth=depth, colour=0), False
    yield "a mask of labels that have no class", saved(np.full((16, 16), 4, np.uint8)), False
    yield "a mask of 255", saved(np.full((16, 16), 255, np.uint8)), False
    yield "a mask of another size", saved(np.zeros((15, 16), np.uint8)), False
    yield "a mask of 100,000 pixels a side", png(100_000, 100_000, colour=0), False
    yield "a mask of nothing", b"", False
    # All pixels may stand before the last tenth.
    yield from ((f"a mask {how}", data, how.startswith("cut at 9")) for how, data in cuts(label_map()))
    yield from ((f"a mask with {how}", data, True) for how, data in noise(label_map()))


def tables() -> Iterator[tuple[str, bytes]]:
    rows = ["1\t0.1\twall", "2\t0.1\tsky", "3\t0.1\ttree"]

    def table(*lines: str, head: str = "Idx\tRatio\tName") -> bytes:
        return "\n".join([head, *lines]).encode()

    yield "nothing", b""
    yield "the head alone", table()
    yield "no index", table(*rows, head="Number\tRatio\tName")
    yield "no name", table(*rows, head="Idx\tRatio\tTrain")
    yield "a gap", table(rows[0], rows[2])
    yield "an index twice", table(*rows, rows[2])
    yield "indices from 0", table("0\t0.1\tother", *rows)
    yield "a word for an index", table("one\t0.1\twall", *rows[1:])
    yield "a fraction for an index", table("1.0\t0.1\twall", *rows[1:])
    yield "a class without a name", table("1\t0.1\t", *rows[1:])
    yield "commas for tabs", table(*(row.replace("\t", ",") for row in rows), head="Idx,Ratio,Name")
    yield "255 classes", table(*(f"{number}\t0\tc{number}" for number in range(1, 256)))
    yield "no text", bytes(range(128, 256))
    yield "UTF-16", "Idx\tName\n1\twall\n".encode("utf-16")
    yield "noise", np.random.default_rng(3).bytes(500)


def empty(folder: str) -> Spoil:
    def spoil(root: Path) -> None:
        for path in (root / "annotations" / folder).iterdir():
            put(path, saved(np.zeros((16, 16), np.uint8)))

    return spoil


def with_content(path: str, data: bytes) -> Spoil:
    return lambda root: put(root / path, data)


ENTRIES = [
    *(
        Entry(name=f"ADE20K: {name}", act=prepare("ade20k", with_content(MASK, data)), file=IMAGE, harmless=harmless)
        for name, data, harmless in masks()
    ),
    *(
        Entry(name=f"ADE20K: a table of {name}", act=prepare("ade20k", with_content(TABLE, data)), file=TABLE)
        for name, data in tables()
    ),
    *(
        Entry(name=f"ADE20K: {folder} is ignored", act=prepare("ade20k", empty(folder)), file=folder)
        for folder in ("training", "validation")
    ),
    *(
        Entry(name=f"ADE20K: a mask is {name}", act=prepare("ade20k", spoil), file=IMAGE)
        for name, spoil in strange(MASK)
    ),
    *(
        Entry(name=f"ADE20K: the table is {name}", act=prepare("ade20k", spoil), file=TABLE)
        for name, spoil in strange(TABLE)
    ),
    *(
        Entry(name=f"ADE20K: an image as {kind}", act=prepare("ade20k", with_content(IMAGE, picture(kind))), file=IMAGE)
        for kind in ("GIF", "BMP", "TIFF", "EPS")
    ),
]
