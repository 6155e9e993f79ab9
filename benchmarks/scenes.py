"""Processor time per training image of the dense tasks on one core, beside MMDetection and MMSegmentation.

    python -m benchmarks.scenes [--images 24] [--rounds 5]

Bundled photographs as JPEG of quality 90: of 640 x 480 pixels with seven polygons each, cut to 1024 after large-scale
jitter; of 683 x 512 with a label for each pixel, cut to 512 after random scales. They take turns in one process.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv.transforms as mmcv
import mmdet.datasets.transforms as mmdet
import mmseg.datasets.transforms as mmseg
import numpy as np
import yaml
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools import mask as coco_mask

from benchmarks.loader import PHOTOGRAPHS
from benchmarks.turns import Read, compared, one_thread
from pipeline.data.bundled import bundled
from pipeline.data.packed import PackWriter
from pipeline.tasks.dense.sets import DetectionSet, SegmentationSet
from pipeline.tasks.dense.transforms import LargeScaleJitter, SceneCrop

DETECTION, SEGMENTATION = (640, 480), (683, 512)
OBJECTS = 7  # about what an image of COCO has


def photograph(number: int, size: tuple[int, int]) -> Image.Image:
    with Image.open(bundled(*PHOTOGRAPHS[number % len(PHOTOGRAPHS)])) as image:
        return image.convert("RGB").resize(size)


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return buffer.getvalue()


def outline(rng: np.random.Generator) -> list[float]:
    """A polygon of 24 corners around a point."""
    width, height = DETECTION
    angles = np.sort(rng.uniform(0, 2 * np.pi, 24))
    radii = rng.uniform(15, 140) * rng.uniform(0.6, 1, 24)
    across = (rng.uniform(60, width - 60) + radii * np.cos(angles)).clip(0, width)
    down = (rng.uniform(60, height - 60) + radii * np.sin(angles)).clip(0, height)
    return np.stack([across, down], axis=1).ravel().tolist()


def detection(folder: Path, num: int) -> dict[str, Read]:
    """Ours and theirs, on files in the folder."""
    settings = yaml.safe_load(Path("config/tasks/detect.yaml").read_text())["paper"]
    size, jitter = settings["image_size"], tuple(settings["jitter"])
    rng = np.random.default_rng(0)
    width, height = DETECTION
    images, objects = [], []
    (folder / "annotations").mkdir()
    with PackWriter(folder, "train", 2**26) as pack:
        for number in range(num):
            data = encoded(photograph(number, DETECTION), "JPEG")
            (folder / f"{number}.jpg").write_bytes(data)
            pack.add(f"{number}.jpg", data, label=number, height=height, width=width)
            images.append({"id": number, "file_name": f"{number}.jpg", "height": height, "width": width})
            for _ in range(OBJECTS):
                polygon = outline(rng)
                run_lengths = coco_mask.merge(coco_mask.frPyObjects([polygon], height, width))
                objects.append({"id": len(objects) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                                "bbox": coco_mask.toBbox(run_lengths).tolist(),
                                "area": float(coco_mask.area(run_lengths)), "segmentation": [polygon]})  # fmt: skip
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "one"}]}
    (folder / "annotations/train.json").write_text(json.dumps(content))
    crop = LargeScaleJitter(crop_size=size, scale=jitter, flip=settings["flip"])
    samples = DetectionSet(folder, "train", crop, size, seed=0)
    steps = [
        mmcv.LoadImageFromFile(),
        mmdet.LoadAnnotations(with_bbox=True, with_mask=True),
        mmdet.RandomFlip(prob=0.5),
        mmcv.RandomResize(scale=(size, size), ratio_range=jitter, resize_type=mmdet.Resize, keep_ratio=True),
        mmdet.RandomCrop(crop_size=(size, size), recompute_bbox=True, allow_negative_crop=True),
        mmdet.FilterAnnotations(min_gt_bbox_wh=(1e-2, 1e-2)),
        mmdet.PackDetInputs(),
    ]

    def theirs(numbers: list[int]) -> None:
        init_default_scope("mmdet")
        for number in (number % num for number in numbers):
            instances = [
                {"bbox": [left, top, left + across, top + down], "bbox_label": 0, "ignore_flag": 0,
                 "mask": entry["segmentation"]}
                for entry in objects[number * OBJECTS : (number + 1) * OBJECTS]
                for left, top, across, down in [entry["bbox"]]
            ]  # fmt: skip
            told = {"img_path": str(folder / f"{number}.jpg"), "img_id": number, "height": height, "width": width}
            sample = through(steps, {**told, "instances": instances})
            if sample is not None:  # none where the crop left no object
                sample["data_samples"].gt_instances.masks.to_ndarray()  # as the loss takes them

    return {"theirs": theirs, "ours": lambda numbers: [samples[divmod(number, num)] for number in numbers]}


def segmentation(folder: Path, num: int) -> dict[str, Read]:
    """Ours and theirs, on files in the folder."""
    settings = yaml.safe_load(Path("config/tasks/segment.yaml").read_text())["paper"]["crop"]
    width, height = SEGMENTATION
    with PackWriter(folder, "train", 2**26) as pack, PackWriter(folder, "train-labels", 2**26) as labels:
        for number in range(num):
            image = photograph(number, SEGMENTATION)
            files = {"jpg": encoded(image, "JPEG"),
                     "png": encoded(Image.fromarray(np.asarray(image.convert("L")) // 32), "PNG")}  # fmt: skip
            for (ending, data), to in zip(files.items(), (pack, labels), strict=True):
                (folder / f"{number}.{ending}").write_bytes(data)
                to.add(f"{number}.{ending}", data, label=0, height=height, width=width)
    (folder / "classes.json").write_text(json.dumps([str(number) for number in range(150)]))
    crop = SceneCrop(**{**settings, "ratio": tuple(settings["ratio"])})
    samples = SegmentationSet(folder, "train", crop, seed=0)
    side = settings["crop_size"]
    steps = [
        mmcv.LoadImageFromFile(),
        mmseg.LoadAnnotations(reduce_zero_label=False),
        mmcv.RandomResize(scale=(4 * side, side), ratio_range=crop.ratio, resize_type=mmseg.Resize, keep_ratio=True),
        mmseg.RandomCrop(crop_size=(side, side), cat_max_ratio=crop.category_max_ratio),
        mmseg.RandomFlip(prob=0.5),
        mmseg.PhotoMetricDistortion(),
        mmseg.PackSegInputs(),
    ]

    def theirs(numbers: list[int]) -> None:
        init_default_scope("mmseg")
        for number in (number % num for number in numbers):
            paths = {"img_path": str(folder / f"{number}.jpg"), "seg_map_path": str(folder / f"{number}.png")}
            through(steps, {**paths, "seg_fields": [], "label_map": None, "reduce_zero_label": False})

    return {"theirs": theirs, "ours": lambda numbers: [samples[divmod(number, num)] for number in numbers]}


def through(steps: Sequence[Any], sample: Any) -> Any:
    for step in steps:
        sample = None if sample is None else step(sample)
    return sample


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scenes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print("processor ms a training image, one thread")
    print(f"{'task':>14} {'mmdet, mmseg':>14} {'ours':>7} {'times':>6}")
    with one_thread():
        for task in (detection, segmentation):
            with tempfile.TemporaryDirectory() as place:
                numbers = range(arguments.images * arguments.rounds)
                for _, slow, fast, times in compared(task(Path(place), arguments.images), numbers, arguments.images):
                    print(f"{task.__name__:>14} {slow:14.1f} {fast:7.1f} {times:6.2f}", flush=True)


if __name__ == "__main__":
    main()
