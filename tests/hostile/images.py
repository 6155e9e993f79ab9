"""Image files: other formats under an image's name, bombs, what is no file, names that no tool prints."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from tests.hostile.entry import Entry
from tests.hostile.mutations import cuts, noise
from tests.hostile.trees import CANARY, Spoil, picture, prepare, put, strange

FILE = "train/n01/1.JPEG"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, rows: bytes | None = None, depth: int = 8, colour: int = 2) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(rows if rows is not None else bytes(1000))
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), *more, chunk(b"IDAT", pixels), chunk(b"IEND", b"")])


def jpeg_of(width: int, height: int) -> bytes:
    data = bytearray(picture())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def other_formats() -> Iterator[tuple[str, bytes]]:
    """Whatever else Pillow can write."""
    Image.init()
    for kind in sorted(set(Image.SAVE) - {"JPEG", "PNG", "MPO", "WMF", "BUFR", "GRIB", "HDF5", "PALM", "PDF"}):
        for mode in ("RGB", "L", "1", "F"):
            try:
                yield f"{kind} named .JPEG", picture(kind, 32, mode)
                break
            except Exception:  # the next mode may do, and some formats need a library
                continue


def postscript() -> bytes:
    """Ghostscript, if it were started, would write the canary."""
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n"
        + f"(%pipe%touch {CANARY}) (w) file closefile\n({CANARY}) (w) file closefile\nshowpage\n".encode()
    )


def contents() -> Iterator[tuple[str, bytes, bool]]:
    """What the file may hold: name, bytes, and whether it may be harmless."""
    text = b"x" * 2**27
    bomb = zlib.compress(text)
    yield from ((name, data, False) for name, data in other_formats())
    yield "PostScript with a payload", postscript(), False
    yield (
        "PostScript in a DOS header",
        b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, 200) + bytes(18) + postscript(),
        False,
    )
    for name, data in (("JPEG", picture()), ("PNG", picture("PNG"))):
        yield from ((f"{name} {how}", cut, False) for how, cut in cuts(data))
        yield from ((f"{name} with {how}", spoiled, True) for how, spoiled in noise(data))
    for side in (8193, 100_000, 2**31 - 1):
        yield f"a PNG of {side} x {side}", png(side, side), False
    yield "a PNG of one long row", png(2**27, 1), False
    yield "a PNG of no pixels", png(0, 16), False
    yield "a PNG of too few rows", png(1000, 1000), False
    yield "a JPEG of 65500 x 65500", jpeg_of(65500, 65500), False
    yield "a JPEG of no lines", jpeg_of(16, 0), True
    for kind, head in ((b"zTXt", b"k\0\0"), (b"iCCP", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0")):
        yield (
            f"a PNG whose {kind.decode()} unpacks to 128 MiB",
            png(4, 4, chunk(kind, head + bomb), rows=bytes(52)),
            True,
        )
    yield "a PNG that claims a chunk of 2 GiB", picture("PNG")[:33] + b"\x7f\xff\xff\xffIDAT" + bytes(100), False
    yield "a PNG with a palette of nothing", png(4, 4, rows=bytes(20), colour=3), True
    yield "a PNG of an unknown colour type", png(4, 4, colour=5), False
    yield "a PNG of 64 bits", png(4, 4, depth=64), False
    yield "nothing", b"", False
    yield "a page of HTML", b"<html>404</html>", False
    yield "a script", f"#!/bin/sh\ntouch {CANARY}\n".encode(), False
    yield "zeros", bytes(1000), False
    yield "the head of a JPEG alone", b"\xff\xd8\xff", False
    yield "the head of a PNG alone", b"\x89PNG\r\n\x1a\n", False
    yield "a zip archive", b"PK\x03\x04" + bytes(100), False
    yield (
        "an SVG that names a file",
        b'<svg><image href="/etc/passwd"/></svg>',
        False,
    )


def replaced(data: bytes) -> Spoil:
    return lambda root: put(root / FILE, data)


def large(root: Path) -> None:
    with open(root / FILE, "r+b") as file:
        file.truncate(2**40)


def largest() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8192, 8192), (9, 9, 9)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def named(name: bytes) -> Spoil:
    def spoil(root: Path) -> None:
        os.rename(root / FILE, os.fsencode(root / "train/n01") + b"/" + name)

    return spoil


NAMES = {
    "a name of two lines": b"a\nb.JPEG",
    "a name that moves the cursor": b"a\x1b[2Jb.JPEG",
    "a name that is no UTF-8": b"a\xff\xfe.JPEG",
    "a name written from right to left": "a\u202eb.JPEG".encode(),
    "a name with a carriage return": b"a\rb.JPEG",
}
TAME = {
    "a name of a shell's words": b"$(touch canary);`touch canary`.JPEG",
    "a name of options": b"--exec=touch canary.JPEG",
    "a name of 250 bytes": b"a" * 245 + b".JPEG",
    "a name of markup": b"<script>alert(1)<script>.JPEG",
    "a name with quotes": b"'\"'.JPEG",
}

ENTRIES = [
    *(
        Entry(name=name, act=prepare("imagenet", replaced(data)), file=FILE, harmless=harmless)
        for name, data, harmless in contents()
    ),
    *(Entry(name=name, act=prepare("imagenet", spoil), file=FILE) for name, spoil in strange(FILE)),
    *(Entry(name=name, act=prepare("imagenet", named(data)), file="train/n01/a") for name, data in NAMES.items()),
    *(Entry(name=name, act=prepare("imagenet", named(data)), harmless=True) for name, data in TAME.items()),
    Entry(name="a sparse file of 1 TiB", act=prepare("imagenet", large), file=FILE),
    Entry(
        name="the largest picture there may be",
        act=lambda folder: prepare("imagenet", replaced(largest()))(folder),
        harmless=True,
        slow=True,
    ),
]
