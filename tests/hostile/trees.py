"""Small whole trees in the layouts of official data sets, to be spoiled, and their preparation."""

from __future__ import annotations

import io
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.data.sources.detection import coco
from pipeline.data.sources.images import imagenet
from pipeline.data.sources.segmentation import ade20k
from pipeline.data.sources.video import kinetics
from pipeline.data.video import write_video

Spoil = Callable[[Path], Any]
CANARY = "canary"


@cache
def picture(kind: str = "JPEG", size: int = 16, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(size).integers(0, 256, (size, size, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


@cache
def label_map(kind: str = "PNG", top: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, top, (16, 16), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@cache
def clip() -> bytes:
    path = Path(f"/proc/self/fd/{os.memfd_create('clip')}")
    write_video(path, np.random.default_rng(2).integers(0, 256, (8, 16, 16, 3), np.uint8), 30)
    return path.read_bytes()


def put(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def annotations(split: str = "train") -> dict[str, Any]:
    """A whole COCO file: two images, a polygon, a crowd, compressed run lengths."""
    box = {"bbox": [2, 3, 10, 8], "area": 80}
    things = [
        {"id": 1, "image_id": 7, "category_id": 3, "iscrowd": 0, "segmentation": [[2, 3, 12, 3, 12, 11, 2, 11]], **box},
        {"id": 2, "image_id": 8, "category_id": 5, "iscrowd": 1,
         "segmentation": {"size": [16, 16], "counts": [40, 8, 208]}, **box},
        {"id": 3, "image_id": 8, "category_id": 5, "iscrowd": 0,
         "segmentation": {"size": [16, 16], "counts": "X18`6"}, **box},
    ]  # fmt: skip
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 16, "width": 16} for number in (7, 8)]
    categories = [{"id": 3, "name": "cup", "supercategory": "thing"}, {"id": 5, "name": "dog"}]
    return {"info": {"year": 2017}, "images": images, "annotations": things, "categories": categories}


def write_imagenet(root: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for name in ("n01", "n02"):
            for number in range(count):
                put(root / split / name / f"{number}.JPEG", picture())


def write_coco(root: Path) -> None:
    for split in ("train2017", "val2017"):
        for number in (7, 8):
            put(root / split / f"{number}.jpg", picture())
        put(root / f"annotations/instances_{split}.json", json.dumps(annotations()))


def write_ade20k(root: Path) -> None:
    for folder in ("training", "validation"):
        for number in (1, 2):
            put(root / f"images/{folder}/{number}.jpg", picture())
            put(root / f"annotations/{folder}/{number}.png", label_map())
    put(root / "objectInfo150.txt", "Idx\tRatio\tName\n1\t0.1\twall\n2\t0.1\tsky\n3\t0.1\ttree\n")


def write_kinetics(root: Path) -> None:
    for split in ("train", "val"):
        put(root / f"{split}.csv", "label,youtube_id,time_start,time_end,split\nrun,a,0,10,x\nrun,b,0,10,x\n")
        for name in "ab":
            put(root / f"{split}/run/{name}_000000_000010.mp4", clip())


def write_ssv2(root: Path) -> None:
    for name in ("train", "validation"):
        put(root / f"labels/{name}.json", json.dumps([{"id": "1", "template": "Push [it]", "label": "x"}]))
    put(root / "videos/1.webm", clip())


WRITERS: dict[str, tuple[Callable[[Path], None], Any]] = {
    "imagenet": (write_imagenet, imagenet),
    "coco": (write_coco, coco),
    "ade20k": (write_ade20k, ade20k),
    "kinetics": (write_kinetics, kinetics),
    "ssv2": (write_ssv2, kinetics),
}


def prepare(kind: str, spoil: Spoil) -> Callable[[Path], Sequence[tuple[str, str]] | None]:
    """Write a tree, spoil it, and prepare it; the rejects, if there are any."""

    def act(folder: Path) -> Sequence[tuple[str, str]] | None:
        root, (write, source) = folder / "root", WRITERS[kind]
        write(root)
        spoil(root)
        usual = {"root": str(root), "expect": None, "max_reject_share": 1.0, "shard_mib": 1, "num_workers": 1}
        options: Any = imagenet.Options(**usual)  # which has all that the others ask for
        if source is kinetics:
            options = kinetics.Options(**usual, layout=kind, fold=1, min_frames=2)
        source.prepare(options, folder / "work", folder / "files")
        found = json.loads((folder / "files/findings.json").read_text())
        return [(entry["file"], entry["reason"]) for entry in found["rejects"]] or None

    return act


def strange(path: str) -> Iterator[tuple[str, Spoil]]:
    """What may stand in a file's place that is no file of the data set."""

    def instead(make: Callable[[Path, Path], Any]) -> Spoil:
        def spoil(root: Path) -> None:
            target = root / path
            outside = root.parent / "outside"
            outside.write_bytes(target.read_bytes())
            target.unlink()
            make(target, outside)

        return spoil

    def bind(target: Path, _: Path) -> None:
        here = os.open(target.parent, os.O_RDONLY)  # a socket's path may have 108 bytes only
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{here}/{target.name}")
        os.close(here)

    def link_to_fifo(target: Path, _: Path) -> None:
        os.mkfifo(target.with_name("fifo"))
        target.symlink_to("fifo")

    yield "a FIFO", instead(lambda target, _: os.mkfifo(target))
    yield "a socket", instead(bind)
    yield "a folder", instead(lambda target, _: target.mkdir())
    yield "a link out", instead(lambda target, outside: target.symlink_to(outside))
    yield (
        "a relative link out",
        instead(lambda target, outside: target.symlink_to(os.path.relpath(outside, target.parent))),
    )
    yield "a link to a FIFO", instead(link_to_fifo)
    yield "a link to itself", instead(lambda target, _: target.symlink_to(target.name))
    yield "a link to nothing", instead(lambda target, _: target.symlink_to("nothing"))
    for device in ("/dev/zero", "/dev/urandom", "/dev/stdin", "/proc/self/environ", "/etc/passwd"):
        yield f"a link to {device}", instead(lambda target, _, device=device: target.symlink_to(device))
