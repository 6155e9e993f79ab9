"""COCO 2017 and every detection set laid out like it.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, arXiv:1405.0312. 118,287 training and
5,000 validation images, 80 classes whose ids have gaps between 1 and 90. Annotations are kept as they are,
crowds included; only what belongs to rejected images is left out.
"""

import json
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError
from pipeline.data import annotations as coco_json
from pipeline.data.inspection import Findings, Picture, look_at, read_picture
from pipeline.data.official import Options, check_counts, check_root, journal_of
from pipeline.data.outside import read_list
from pipeline.data.packed import PackWriter

KEY = "root"
LAYOUT = (
    "Expected: train2017/*.jpg, val2017/*.jpg, annotations/instances_train2017.json and "
    "annotations/instances_val2017.json. COCO 2017 is to be had from cocodataset.org (2017 train images, "
    "val images and train/val annotations)"
)
_SPLITS = {"train": "train2017", "val": "val2017"}


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Checks and packs the set: packs by file name, and `annotations/train.json` and `annotations/val.json`.

    Raises:
        ConfigError: the root, its layout, its counts or too many of its files are not as they should be.
    """
    needed = [*_SPLITS.values(), *(f"annotations/instances_{name}.json" for name in _SPLITS.values())]
    root = check_root(options.root, KEY, LAYOUT, needed)
    annotations = {split: _read(root, name) for split, name in _SPLITS.items()}
    classes = [category["name"] for category in annotations["train"]["categories"]]
    if classes != [category["name"] for category in annotations["val"]["categories"]]:
        raise ConfigError(f"{KEY} is {str(root)!r}, whose two annotation files list different categories. {LAYOUT}")
    found = {split: len(content["images"]) for split, content in annotations.items()} | {"classes": len(classes)}
    check_counts(KEY, root, options.expect, found)
    for split, name in _SPLITS.items():
        _check_present(root, name, annotations[split]["images"])
    findings, splits = Findings(), {}
    (files / "annotations").mkdir(parents=True, exist_ok=True)
    for split, name in _SPLITS.items():
        content = annotations[split]
        kept = _pack(options, root, name, split, content["images"], files, findings, journal_of(work, split))
        content["images"] = [image for image in content["images"] if image["id"] in kept]
        content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in kept]
        (files / "annotations" / f"{split}.json").write_text(json.dumps(content))
        crowds = sum(entry["iscrowd"] for entry in content["annotations"])
        if len(content["annotations"]) == crowds:
            raise ConfigError(
                f"{KEY} is {str(root)!r}, where {name} has {len(kept):,} images that can be used and no object that is "
                f"not a crowd in them; expected objects to learn from and to find. {LAYOUT}"
            )
        splits[split] = {
            "count": len(kept),
            "instances": len(content["annotations"]) - crowds,
            "crowds": crowds,
        }
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
    images: list[dict[str, Any]],
    files: Path,
    findings: Findings,
    journal: Path,
) -> set[int]:
    """Packs the images of one split, their COCO ids as labels; returns the ids of those that can be used."""

    def look(image: dict[str, Any]) -> Picture:
        picture = read_picture(root, root / folder / image["file_name"])
        if (picture.height, picture.width) != (image["height"], image["width"]):
            raise ValueError(
                f"{picture.width} x {picture.height} pixels; expected {image['width']} x {image['height']}"
            )
        return picture

    with PackWriter(files, split, options.shard_mib * 2**20) as pack:
        for image, picture in look_at(
            images,
            name=lambda image: f"{folder}/{image['file_name']}",
            look=look,
            notes=lambda picture: picture.notes,
            findings=findings,
            num_workers=options.num_workers,
            what=f"packing {split}",
            packs=(pack,),
            journal=journal,
        ):
            size = {"height": picture.height, "width": picture.width}
            pack.add(image["file_name"], picture.data, label=image["id"], **size)
    return set(pack.labels)


def _read(root: Path, name: str) -> dict[str, Any]:
    path = root / "annotations" / f"instances_{name}.json"
    return coco_json.parse(read_list(root, path, LAYOUT), path)


def _check_present(root: Path, folder: str, images: list[dict[str, Any]]) -> None:
    there = {path.name for path in (root / folder).iterdir()}
    missing = [image["file_name"] for image in images if image["file_name"] not in there]
    if missing:
        raise ConfigError(
            f"{KEY} is {str(root)!r}, where {folder} lacks {len(missing):,} of the {len(images):,} images "
            f"that the annotations name, such as {', '.join(missing[:3])}. Half-copied? Copy it again. "
            f"{LAYOUT}"
        )
