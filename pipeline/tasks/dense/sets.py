"""Packed detection and segmentation sets: samples are asked for by (epoch, index), which decide all that is random.

Detection is read as `prepare` packs COCO: images, and `annotations/<split>.json` in COCO's own words. Segmentation as
it packs ADE20K: images, and a pack `<split>-labels` of PNGs with classes from 0 and 255 for what is ignored.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from torch.utils.data import Dataset

from pipeline.data import annotations
from pipeline.data.packed import Packed, read_json
from pipeline.data.pictures import decode_packed, decode_pixels, open_whole
from pipeline.tasks.dense.transforms import (
    LargeScaleJitter,
    SceneCrop,
    distort,
    fit_inside,
    generator,
    shorter_side,
)

IGNORE = 255


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An image with its objects, n of them.

    image: (h, w, 3) uint8. image_id: COCO's. size: height and width of the file, before any resizing.
    boxes: (n, 4) float32, left, top, right, bottom in pixels. labels: (n,) int64. masks: (n, h, w) uint8, 0 or 1.
    """

    image: np.ndarray
    image_id: int
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


class DetectionSet(Dataset[Scene]):
    """Scenes of one split.

    Args:
        folder: of the packs, such as `data/coco/files`.
        split: `train` or `val`.
        jitter: training: images without objects are left out, crowds are dropped (as in Detectron2), boxes are taken
            anew from the masks that the crop leaves. None for evaluation: every image, whole, and no objects.
        image_size: to which the longer side is resized in evaluation.
        seed: of the run.
    """

    def __init__(self, folder: Path, split: str, jitter: LargeScaleJitter | None, image_size: int, seed: int) -> None:
        self.packed = Packed(folder, split)
        self.content: dict[str, Any] = read_annotations(folder, split)
        self.jitter, self.image_size, self.seed = jitter, image_size, seed
        self.category_ids = [category["id"] for category in self.content["categories"]]
        self.classes = [category["name"] for category in self.content["categories"]]
        self._place = {category: place for place, category in enumerate(self.category_ids)}
        self._objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in self.content["images"]}
        for entry in self.content["annotations"]:
            if not entry.get("iscrowd"):
                self._objects[entry["image_id"]].append(entry)
        self.images = [i for i in self.content["images"] if jitter is None or self._objects[i["id"]]]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, sample: tuple[int, int]) -> Scene:
        epoch, index = sample
        entry = self.images[index]
        image = Image.fromarray(decode_packed(self.packed, self.packed.find(entry["file_name"]), decode_pixels))
        size = image.height, image.width
        if self.jitter is None:
            view, objects = fit_inside(*size, self.image_size), []
        else:
            view = self.jitter.view(*size, generator(self.seed, epoch, index))
            objects = self._objects[entry["id"]]
        masks = view.labels(self._masks(objects, size))
        boxes = boxes_of(masks)
        seen = boxes.any(axis=1)
        labels = np.array([self._place[entry["category_id"]] for entry in objects], np.int64)
        return Scene(
            image=view.image(image),
            image_id=entry["id"],
            size=size,
            boxes=boxes[seen],
            labels=labels[seen],
            masks=masks[seen],
        )

    def truth(self, index: int) -> Scene:
        """An image as it is in the file, with its objects but without crowds."""
        entry = self.images[index]
        image = np.asarray(decode_packed(self.packed, self.packed.find(entry["file_name"])))
        objects = self._objects[entry["id"]]
        masks = self._masks(objects, image.shape[:2])
        labels = np.array([self._place[entry["category_id"]] for entry in objects], np.int64)
        size = (image.shape[0], image.shape[1])
        return Scene(image=image, image_id=entry["id"], size=size, boxes=boxes_of(masks), labels=labels, masks=masks)

    @staticmethod
    def _masks(objects: list[dict[str, Any]], size: tuple[int, ...]) -> np.ndarray:
        """(n, H, W) uint8."""
        masks = [coco_mask.decode(run_lengths(entry["segmentation"], size)) for entry in objects]
        return np.stack(masks) if masks else np.zeros((0, *size), np.uint8)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """An image with a class for each pixel.

    image: (h, w, 3) uint8. labels: (h, w) uint8, 255 where ignored. size: height and width of the file.
    """

    image: np.ndarray
    labels: np.ndarray
    size: tuple[int, int]


class SegmentationSet(Dataset[Labelled]):
    """Labelled images of one split.

    Args:
        folder: of the packs, such as `data/ade20k/files`.
        split: `train` or `val`.
        crop: of training images; its sizes hold for evaluation too.
        seed: of the run.
        evaluate: give the whole image resized, and its labels as they are in the file.
    """

    def __init__(self, folder: Path, split: str, crop: SceneCrop, seed: int, evaluate: bool = False) -> None:
        self.packed, self.label_packed = Packed(folder, split), Packed(folder, f"{split}-labels")
        if [Path(key).stem for key in self.packed.keys] != [Path(key).stem for key in self.label_packed.keys]:
            raise ValueError(f"images and labels of {split} in {folder} are of different names; prepare the data again")
        self.classes: list[str] = read_json(Path(folder) / "classes.json", list)
        self.crop, self.seed, self.evaluate = crop, seed, evaluate

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, sample: tuple[int, int]) -> Labelled:
        epoch, index = sample
        image = Image.fromarray(decode_packed(self.packed, index, decode_pixels))
        labels = self.labels(index)
        size = image.height, image.width
        if self.evaluate:
            view = shorter_side(*size, self.crop.short_size, self.crop.aspect_limit)
            return Labelled(image=view.image(image), labels=labels, size=size)
        random = generator(self.seed, epoch, index)
        view = self.crop.view(labels, random, IGNORE)
        pixels = view.image(image)
        return Labelled(
            image=distort(pixels, random) if self.crop.colours else pixels,
            labels=view.labels(labels),
            size=size,
        )

    def labels(self, index: int) -> np.ndarray:
        """The labels as they are in the file, (H, W) uint8."""
        return np.asarray(decode_packed(self.label_packed, index, open_whole))

    def original(self, index: int) -> np.ndarray:
        """An image as it is in the file, (H, W, 3) uint8."""
        return np.asarray(decode_packed(self.packed, index))


def read_annotations(folder: Path, split: str) -> dict[str, Any]:
    """COCO's annotations of a split.

    Raises:
        ConfigError: they are not as `prepare` left them.
    """
    path = Path(folder) / "annotations" / f"{split}.json"
    return annotations.parse(path.read_bytes(), path)


def run_lengths(segmentation: Any, size: tuple[int, ...]) -> dict[str, Any]:
    """COCO's three forms of a mask, polygons and run lengths plain or compressed, as compressed run lengths."""
    height, width = size[:2]
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """The smallest box around each mask, (n, h, w) uint8 -> (n, 4) float32; right and bottom lie past the last pixel.

    Four zeros where a mask is empty.
    """
    boxes = np.array([cv2.boundingRect(mask) for mask in masks], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes
