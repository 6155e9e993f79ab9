"""Pictures of dense predictions, each beside the truth, large enough to be looked at."""

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 288  # pixels of the longer side of a drawn image
PAIRS_IN_ROW = 2
MARGIN = 10
INK, PAPER = (30, 30, 30), (255, 255, 255)

Object = tuple[int, float | None, np.ndarray, Sequence[float]]


def draw_objects(image: np.ndarray, objects: Sequence[Object], classes: Sequence[str]) -> Image.Image:
    """An image with its objects in the colours of their classes.

    Args:
        image: (H, W, 3) uint8.
        objects: (class, score or None, mask (H, W), box (left, top, width, height)) each.
        classes: names, written at the boxes.
    """
    colours = palette(len(classes))
    pixels = image.astype(np.float32)
    for label, _, mask, _ in objects:
        inside = np.asarray(mask, bool)
        pixels[inside] = 0.45 * pixels[inside] + 0.55 * np.array(colours[label], np.float32)
    canvas, scale = _enlarge(pixels.astype(np.uint8), Image.Resampling.BICUBIC)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    for label, score, _, (left, top, width, height) in objects:
        box = (left * scale, top * scale, (left + width) * scale, (top + height) * scale)
        draw.rectangle(box, outline=colours[label], width=2)
        text = classes[label] if score is None else f"{classes[label]} {score:.2f}"
        extent = draw.textbbox((0, 0), text, font=font)
        # Above the box, unless it would leave the picture.
        x = min(max(0.0, box[0]), canvas.width - extent[2] - 4)
        y = box[1] - extent[3] - 3 if box[1] > extent[3] + 3 else box[3] + 1
        draw.rectangle((x, y, x + extent[2] + 4, y + extent[3] + 2), fill=colours[label])
        draw.text((x + 2, y), text, fill=_readable(colours[label]), font=font)
    return canvas


def draw_labels(image: np.ndarray, labels: np.ndarray, num_classes: int, ignore: int) -> Image.Image:
    """An image under the colours of its classes; ignored pixels are left as they are, darkened.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W), classes from 0.
        num_classes: how many colours.
        ignore: the label of ignored pixels.
    """
    colours = np.array([*palette(num_classes), (0, 0, 0)], np.float32)
    paint = colours[np.where(labels == ignore, num_classes, labels)]
    grey = image.astype(np.float32).mean(axis=2, keepdims=True)
    return _enlarge((0.35 * grey + 0.65 * paint).astype(np.uint8), Image.Resampling.NEAREST)[0]


def gallery(
    pairs: Sequence[tuple[Image.Image, Image.Image]],
    titles: tuple[str, str],
    legend: Sequence[tuple[str, tuple[int, int, int]]] = (),
) -> Image.Image:
    """Pairs of pictures in rows under their titles, with the colours of a legend below.

    Args:
        pairs: truth and prediction.
        titles: of a pair's two pictures.
        legend: (name, colour) each.
    """
    font = ImageFont.load_default(14)
    width = max(picture.width for pair in pairs for picture in pair)
    height = max(picture.height for pair in pairs for picture in pair)
    columns = min(PAIRS_IN_ROW, len(pairs))
    rows = -(-len(pairs) // columns)
    pair_width = 2 * width + MARGIN // 2
    total = columns * pair_width + (columns - 1) * 2 * MARGIN + 2 * MARGIN
    header = 24
    lines = _lines(legend, total - 2 * MARGIN, font)
    canvas = Image.new("RGB", (total, header + rows * (height + MARGIN) + 22 * len(lines) + MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, pair in enumerate(pairs):
        row, column = divmod(number, columns)
        for side, picture in enumerate(pair):
            x = MARGIN + column * (pair_width + 2 * MARGIN) + side * (width + MARGIN // 2)
            if row == 0:
                draw.text((x, 5), titles[side], fill=INK, font=font)
            canvas.paste(picture, (x, header + row * (height + MARGIN)))
    for line, entries in enumerate(lines):
        y = header + rows * (height + MARGIN) + 22 * line
        for x, name, colour in entries:
            draw.rectangle((MARGIN + x, y + 2, MARGIN + x + 14, y + 16), fill=colour)
            draw.text((MARGIN + x + 20, y), name, fill=INK, font=font)
    return canvas


def palette(num_classes: int) -> list[tuple[int, int, int]]:
    """Colours that differ from their neighbours: hues a golden angle apart, at three lightnesses."""
    colours = []
    for index in range(num_classes):
        hue, lightness = index * 0.618034 % 1.0, (0.5, 0.65, 0.38)[index % 3]
        red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours


def _enlarge(pixels: np.ndarray, how: Image.Resampling) -> tuple[Image.Image, float]:
    """A picture whose longer side is `SIDE`, and by how much it grew; one that is larger is shrunk."""
    image = Image.fromarray(pixels)
    scale = SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, how if scale > 1 else Image.Resampling.BILINEAR), scale


def _readable(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = colour
    return INK if 0.3 * red + 0.59 * green + 0.11 * blue > 130 else PAPER


def _lines(legend: Sequence[Any], width: int, font: Any) -> list[list[tuple[int, str, tuple[int, int, int]]]]:
    lines: list[list[tuple[int, str, tuple[int, int, int]]]] = []
    x = width
    for name, colour in legend:
        needed = 20 + round(font.getlength(name)) + 18
        if x + needed > width or not lines:
            lines.append([])
            x = 0
        lines[-1].append((x, name, colour))
        x += needed
    return lines
