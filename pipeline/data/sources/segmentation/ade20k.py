"""ADE20K for scene parsing (SceneParsing challenge 2016) and every segmentation set laid out like it.

Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017. 20,210 training and 2,000 validation images,
150 classes. In its label images 0 is "other objects" and is not evaluated, and i is class i - 1: what is
packed has 255 for the former and classes from 0 for the latter.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import ConfigError
from pipeline.data.inspection import Findings
from pipeline.data.label_maps import EMPTY, IGNORE, open_labels, pack_pairs
from pipeline.data.official import Options, check_counts, check_root, journal_of
from pipeline.data.outside import read_text

KEY = "root"
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
        pairs = [(f"images/{folder}/{name}.jpg", f"annotations/{folder}/{name}.png") for name in names[split]]
        read = partial(read_labels, num_classes=len(classes))
        pack_pairs(options, root, split, pairs, read, files, findings, journal_of(work, split))
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


def read_labels(data: bytes, num_classes: int) -> np.ndarray:
    """Decodes a label image: (H, W) uint8, classes from 0, `IGNORE` where the file says 0.

    Raises:
        ValueError: it is no lossless image of one label a pixel, or has labels above `num_classes`.
    """
    labels = np.array(open_labels(data, modes=("L", "P")))
    if labels.max(initial=0) > num_classes:
        raise ValueError(f"label image holds label {labels.max()}; expected 0 to {num_classes}")
    return labels - np.uint8(1)  # 0 becomes 255: unsigned numbers wrap around


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
