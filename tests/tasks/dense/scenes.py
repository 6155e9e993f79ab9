"""Tiny packed sets in the layouts `prepare` leaves: coloured rectangles on noise."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.packed import PackWriter

CLASSES = ("red", "green")
COLOURS = ((220, 30, 30), (30, 200, 30))
HEIGHT, WIDTH = 32, 40


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def rectangles(number: int) -> list[tuple[int, int, int, int, int]]:
    """(class, left, top, width, height) of the objects of image `number`."""
    return [(number % 2, 2 + number, 3, 12, 10), ((number + 1) % 2, 22, 12 + number % 3, 14, 16)]


def picture(number: int) -> np.ndarray:
    pixels = np.random.default_rng(number).integers(90, 150, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for label, left, top, width, height in rectangles(number):
        pixels[top : top + height, left : left + width] = COLOURS[label]
    return pixels


def write_detection(folder: Path, num_images: int = 4) -> Path:
    """A COCO set whose category ids have gaps, with a polygon, run lengths and a crowd in every image."""
    folder.mkdir(parents=True)
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        images, annotations = [], []
        with PackWriter(folder, split, 2**20) as pack:
            for number in range(num_images):
                name = f"{number:012d}.png"
                pack.add(name, png(picture(number)), label=number + 7, height=HEIGHT, width=WIDTH)
                images.append({"id": number + 7, "file_name": name, "height": HEIGHT, "width": WIDTH})
                for place, (label, left, top, width, height) in enumerate(rectangles(number)):
                    right, bottom = left + width, top + height
                    mask = np.zeros((HEIGHT, WIDTH), bool)
                    mask[top:bottom, left:right] = True
                    outline = [[left, top, right, top, right, bottom, left, bottom]]
                    annotations.append(
                        {
                            "id": len(annotations) + 1,
                            "image_id": number + 7,
                            "category_id": (3, 9)[label],
                            "bbox": [left, top, width, height],
                            "area": width * height,
                            "iscrowd": 0,
                            "segmentation": run_lengths(mask) if place else outline,
                        }
                    )
                crowd = np.zeros((HEIGHT, WIDTH), bool)
                crowd[26:, :18] = True
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number + 7,
                        "category_id": 3,
                        "bbox": [0, 26, 18, 6],
                        "area": 108,
                        "iscrowd": 1,
                        "segmentation": run_lengths(crowd),
                    }
                )
        categories = [{"id": number, "name": name} for number, name in zip((3, 9), CLASSES, strict=True)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return folder


def write_segmentation(folder: Path, num_images: int = 4) -> Path:
    """An ADE20K set: two colours and the ground, with a frame of ignored pixels."""
    folder.mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps([*CLASSES, "ground"]))
    for split in ("train", "val"):
        with PackWriter(folder, split, 2**20) as images, PackWriter(folder, f"{split}-labels", 2**20) as maps:
            for number in range(num_images):
                images.add(f"{number}.jpg", png(picture(number)), height=HEIGHT, width=WIDTH)
                maps.add(f"{number}.png", png(labels(number)), height=HEIGHT, width=WIDTH)
    return folder


def labels(number: int) -> np.ndarray:
    painted = np.full((HEIGHT, WIDTH), 2, np.uint8)
    for label, left, top, width, height in rectangles(number):
        painted[top : top + height, left : left + width] = label
    painted[:2] = painted[-2:] = 255
    return painted


def run_lengths(mask: np.ndarray) -> dict[str, object]:
    """COCO's uncompressed run lengths, column by column, beginning with zeros; written out slowly."""
    counts, current = [0], 0
    for value in mask.T.ravel():
        if int(value) != current:
            counts.append(0)
            current = int(value)
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}
