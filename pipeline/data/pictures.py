"""Decoding of image files as they are found in real data sets, by their content and not by their name.

Pillow knows some forty formats, among them ones that start other programs; only what a data set may hold is tried.
"""

import io
import struct
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from pipeline.config import ConfigError
from pipeline.data.packed import Packed

FORMATS = ("JPEG", "PNG")
MOST_PIXELS = 2**26  # of an image, above which its header is taken for a mistake: 8192 x 8192
_LARGE = 2**22  # pixels from which threads decode one at a time: the largest image takes 256 MiB and more
_ALONE = threading.Lock()
_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_END = b"\x00\x00\x00\x00IEND\xaeB\x60\x82"
_PLAIN = ("RGB", "YCbCr", "Gray")  # colours of a JPEG that need no conversion of Pillow's


def decode(data: bytes) -> Image.Image:
    """Reads an image of any mode as 8-bit RGB: greyscale, 16-bit, palette, with transparency, or CMYK.

    Transparency is dropped and the orientation tag ignored, as is usual in the field.

    Raises:
        ValueError: the bytes are not a whole image; the message is the decoder's.
    """
    return to_rgb(open_whole(data))


def decode_pixels(data: bytes, factor: int = 1) -> np.ndarray:
    """What `decode` reads, in half of the time and less.

    A sound JPEG goes straight to libjpeg-turbo, which Pillow uses too, and a plain PNG to OpenCV, which opens a small
    one sooner: the pixels are the same.

    Args:
        factor: 1, 2, 4 or 8, by which the sides are divided while it is decoded.

    Returns:
        (⌈H / factor⌉, ⌈W / factor⌉, 3) uint8.

    Raises:
        ValueError: as `decode`.
    """
    if factor == 1 and _is_plain_png(data):
        found: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if found is not None:  # as where a chunk's sum is wrong
            return found
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours in _PLAIN and height * width <= MOST_PIXELS:
            least = {"min_height": height // factor, "min_width": width // factor, "min_factor": factor}
            return simplejpeg.decode_jpeg(data, **least)
    except ValueError:  # no JPEG, or one with a fault: Pillow says what it is, and reads on over the small ones
        pass
    image = decode(data)
    return np.array(image if factor == 1 else image.reduce(factor))


def _is_plain_png(data: bytes) -> bool:
    """Whether it begins and ends as a PNG of 8-bit RGB without interlacing."""
    if not (data.startswith(_PNG) and data.endswith(_END) and len(data) > len(_PNG) + 21):
        return False
    width, height, *form = struct.unpack_from(">IIBBBBB", data, len(_PNG))
    return form == [8, 2, 0, 0, 0] and width * height <= MOST_PIXELS


def decode_packed(packed: Packed, position: int, decoder: Callable[[bytes], Any] = decode) -> Any:
    """An image of a pack.

    Args:
        decoder: `decode`, or another that raises ValueError.

    Raises:
        ConfigError: it cannot be decoded; the message names it and its folder.
    """
    try:
        return decoder(packed.read(position))
    except ValueError as error:
        name = f"{packed.keys[position]} of {packed.split} in {packed.folder}"
        raise ConfigError(f"{name} cannot be decoded ({error}); prepare the data again") from None


def open_whole(data: bytes, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Opens an image and decodes all of its pixels, in the mode it has.

    Args:
        formats: that are tried.

    Raises:
        ValueError: the bytes are not a whole image of these formats, or one of more than `MOST_PIXELS`; the message
            is the decoder's where it has one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of broken metadata, which the pixels do not depend on
            image = Image.open(io.BytesIO(data), formats=formats)
            if (pixels := image.width * image.height) > MOST_PIXELS:
                raise ValueError(f"{image.width:,} x {image.height:,} pixels; expected at most {MOST_PIXELS:,} in all")
            with _ALONE if pixels > _LARGE else nullcontext():
                image.load()
    except Exception as error:  # broken files make the decoders raise nearly anything, SyntaxError included
        told = str(error).replace("<_io.BytesIO object at ", "<").partition(" <")[0]
        raise ValueError("it is empty" if not data else told or type(error).__name__) from error
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts an image to 8-bit RGB."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow would clip 16-bit values at 255, which turns such images white.
        values = np.asarray(image, np.float64)
        scale = 255 / 65535 if values.max(initial=0) > 255 else 1.0
        image = Image.fromarray(np.clip(values * scale + 0.5, 0, 255).astype(np.uint8))
    elif image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
