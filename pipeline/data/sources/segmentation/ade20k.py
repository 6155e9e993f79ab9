"""ADE20K for scene parsing (SceneParsing challenge 2016) and every segmentation set laid out like it.

Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017. 20,210 training and 2,000 validation images,
150 classes. In its label images 0 is "other objects" and is not evaluated, and i is class i - 1: what is
packed has 255 for the former and classes from 0 for the latter.
"""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.config import ConfigError
from pipeline.data.inspection import MOST_BYTES, Findings, Picture, look_at, read_picture
from pipeline.data.official import Options, check_counts, check_root, journal_of
from pipeline.data.outside import read_file, read_text
from pipeline.data.packed import PackWriter
from pipeline.data.pictures import open_whole

KEY = "root"
IGNORE = 255
EMPTY = "no pixel has a class"
LAYOUT = (
    "Expected: ADEChallengeData2016/ with images/training/*.jpg, images/validation/*.jpg, "
    "annotations/training/*.png, annotations/validation/*.png and objectInfo150.txt. "
    "It is the SceneParsing release (ADEChallengeData2016.zip), to be had from "
    "sceneparsing.csail.mit.edu; the full ADE20K release has another layout"
)
_SPLITS = {"train": "training", "val": "validation"}
_NAMES = "objectInfo150.txt"


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Checks and packs the set: `train` and `val` hold images, `train-labels` and `val-labels` PNG labels.

    Raises:
        ConfigError: the root, its layout, its counts or too many of its files are not as they should be.
    """
    top = options.root
    if top is not None and (Path(top).expanduser() / "ADEChallengeData2016").is_dir():
        top = str(Path(top).expanduser() / "ADEChallengeData2016")
    needed = [f"{kind}/{name}" for kind in ("images", "annotations") for name in _SPLITS.values()]
    root = check_root(top, KEY, LAYOUT, [*needed, _NAMES])
    classes = class_names(read_text(root, root / _NAMES, LAYOUT), root / _NAMES)
    names = {split: _stems(root, folder) for split, folder in _SPLITS.items()}
    found = {split: len(listed) for split, listed in names.items()} | {"classes": len(classes)}
    check_counts(KEY, root, options.expect, found)
    findings, splits = Findings(), {}
    for split, folder in _SPLITS.items():
        _pack(options, root, folder, split, names[split], len(classes), files, findings, journal_of(work, split))
        mine = f"images/{folder}/"
        count = len(names[split]) - sum(bad["file"].startswith(mine) for bad in findings.rejects)
        if count and count == sum(odd["file"].startswith(mine) and odd["note"] == EMPTY for odd in findings.notes):
            raise ConfigError(
                f"{KEY} is {str(root)!r}, where none of the {count:,} label images in annotations/{folder} has a pixel "
                f"with a class: all are 0, which is not evaluated. {LAYOUT}"
            )
        splits[split] = {"count": count}
    (files / "classes.json").write_text(json.dumps(classes))
    return {
        "splits": splits,
        "classes": classes,
        **findings.close(files, str(root), options.max_reject_share),
    }


def _pack(
    options: Options,
    root: Path,
    folder: str,
    split: str,
    names: list[str],
    num_classes: int,
    files: Path,
    findings: Findings,
    journal: Path,
) -> None:
    def look(name: str) -> tuple[Picture, bytes]:
        picture = read_picture(root, root / "images" / folder / f"{name}.jpg")
        path = root / "annotations" / folder / f"{name}.png"
        labels = read_labels(read_file(root, path, MOST_BYTES), num_classes)
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
        for name, (picture, labels) in look_at(
            names,
            name=lambda name: f"images/{folder}/{name}.jpg",
            look=look,
            notes=lambda seen: seen[0].notes,
            findings=findings,
            num_workers=options.num_workers,
            what=f"packing {split}",
            packs=(images, maps),
            journal=journal,
        ):
            size = {"height": picture.height, "width": picture.width}
            images.add(f"{name}.jpg", picture.data, **size)
            maps.add(f"{name}.png", labels, **size)


def read_labels(data: bytes, num_classes: int) -> np.ndarray:
    """Decodes a label image: (H, W) uint8, classes from 0, `IGNORE` where the file says 0.

    Raises:
        ValueError: it is no lossless image of one label a pixel, or has labels above `num_classes`.
    """
    if data[:3] == b"\xff\xd8\xff":
        raise ValueError("label image is a JPEG, whose compression changes labels; expected a PNG")
    image = open_whole(data, formats=("PNG",))
    if image.mode not in ("L", "P"):
        raise ValueError(f"label image has mode {image.mode}; expected one label a pixel (L or P)")
    if image.mode == "L" and data[24] < 8:
        raise ValueError(f"label image has {data[24]} bits a pixel; expected 8, since fewer are stretched when read")
    labels = np.array(image)
    if labels.max(initial=0) > num_classes:
        raise ValueError(f"label image holds label {labels.max()}; expected 0 to {num_classes}")
    return labels - np.uint8(1)  # 0 becomes 255: unsigned numbers wrap around


def _as_png(labels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def _stems(root: Path, folder: str) -> list[str]:
    """Names that have both an image and labels."""
    images = {path.stem for path in (root / "images" / folder).glob("*.jpg")}
    labels = {path.stem for path in (root / "annotations" / folder).glob("*.png")}
    single = sorted(images ^ labels)
    if single or not images:
        raise ConfigError(
            f"{KEY} is {str(root)!r}, where {folder} has {len(images - labels):,} images without labels and "
            f"{len(labels - images):,} labels without an image{f', such as {single[0]}' if single else ''} "
            f"(and {len(images & labels):,} pairs). It may be half-copied: copy it again. {LAYOUT}"
        )
    return sorted(images)


def class_names(text: str, path: Path) -> list[str]:
    """First synonym of each class in the order of its index, from a table with the columns `Idx` and, last, `Name`.

    Raises:
        ConfigError: it lacks a column, or an index is not one of 1, 2, ... without gaps.
    """
    head, *lines = [line.split("\t") for line in text.splitlines() if line.strip()] or [[""]]
    columns = [column.strip() for column in head]
    if columns[-1] != "Name" or columns[0] != "Idx":
        raise ConfigError(f"{path} does not begin with a line of columns from Idx to Name. {LAYOUT}")
    names: dict[str, str] = {}
    for number, line in enumerate(lines, 2):
        index, name = line[0].strip(), line[-1].replace(";", ",").split(",")[0].strip()
        if len(line) < 2 or not name or index in names:
            raise ConfigError(f"{path}, line {number} is {line!r}; expected an index of its own and a name")
        names[index] = name
    wanted = [str(index) for index in range(1, len(names) + 1)]
    if set(names) != set(wanted) or not 0 < len(names) < IGNORE:
        raise ConfigError(f"{path} has the indices {sorted(names)[:8]}; expected 1, 2, ... without gaps, 254 at most")
    return [names[index] for index in wanted]
