"""ADE20K for scene parsing (SceneParsing challenge 2016) and every segmentation set laid out like it.

Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017. 20,210 training and 2,000 validation images,
150 classes. In its label images 0 is "other objects" and is not evaluated, and i is class i - 1: what is
packed has 255 for the former and classes from 0 for the latter.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.config import ConfigError
from pipeline.data.inspection import Findings, Picture, look_at, read_picture
from pipeline.data.official import Options, check_counts, check_root, journal_of
from pipeline.data.packed import PackWriter
from pipeline.data.pictures import open_whole

KEY = "root"
IGNORE = 255
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
    classes = _class_names(root / _NAMES)
    names = {split: _stems(root, folder) for split, folder in _SPLITS.items()}
    found = {split: len(listed) for split, listed in names.items()} | {"classes": len(classes)}
    check_counts(KEY, root, options.expect, found)
    findings, splits = Findings(), {}
    for split, folder in _SPLITS.items():
        _pack(options, root, folder, split, names[split], len(classes), files, findings, journal_of(work, split))
        splits[split] = {"count": len(names[split]) - sum(f"/{folder}/" in bad["file"] for bad in findings.rejects)}
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
        picture = read_picture(root / "images" / folder / f"{name}.jpg")
        labels = read_labels((root / "annotations" / folder / f"{name}.png").read_bytes(), num_classes)
        if labels.shape != (picture.height, picture.width):
            raise ValueError(
                f"{picture.width} x {picture.height} pixels, but {labels.shape[1]} x {labels.shape[0]} labels"
            )
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
        ValueError: it is no greyscale or palette image, or has labels above `num_classes`.
    """
    image = open_whole(data)
    if image.mode not in ("L", "P"):
        raise ValueError(f"label image has mode {image.mode}; expected one label a pixel (L or P)")
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


def _class_names(path: Path) -> list[str]:
    """First synonym of each class, from a table whose last column is `Name`."""
    lines = [line.split("\t") for line in path.read_text().splitlines() if line.strip()]
    if not lines or lines[0][-1].strip() != "Name":
        raise ConfigError(f"{path} does not begin with a line of columns that ends in Name. {LAYOUT}")
    return [line[-1].replace(";", ",").split(",")[0].strip() for line in lines[1:]]
