"""Your own segmentation set: images, and beside them masks in which a number or a colour says each pixel's class."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import ConfigError
from pipeline.config.types import Natural
from pipeline.data.inspection import FORMATS, Findings
from pipeline.data.label_maps import EMPTY, IGNORE, open_labels, pack_pairs
from pipeline.data.official import Options as Official
from pipeline.data.official import check_counts, check_root, journal_of

KEY = "root"
SPLITS = ("train", "val")
LAYOUT = "Expected: images/train/*.jpg (or .png), images/val/, and masks/train/*.png and masks/val/ of the same names"


@dataclass(frozen=True, kw_only=True)
class Options(Official):
    """What a study says about the set.

    classes: by name what stands for it in the masks: [3], a number in masks of one channel, or [128, 64, 128], colours.
        Their order is that of the classes; pixels of any other value are not evaluated.
    """

    classes: Mapping[str, tuple[Natural, ...]]


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Checks and packs the set: `train` and `val` hold images, `train-labels` and `val-labels` PNG labels.

    Raises:
        ConfigError: the classes, the root, its layout, its counts or too many of its files are not as they should be.
    """
    values = np.array(check_classes(options.classes))
    root = check_root(
        options.root, KEY, LAYOUT, [f"{kind}/{split}" for kind in ("images", "masks") for split in SPLITS]
    )
    pairs = {split: _pairs(root, split) for split in SPLITS}
    check_counts(KEY, root, options.expect, {split: len(listed) for split, listed in pairs.items()})
    findings, splits = Findings(), {}
    for split in SPLITS:
        read = partial(read_mask, values=values)
        pack_pairs(options, root, split, pairs[split], read, files, findings, journal_of(work, split))
        mine = f"images/{split}/"
        count = len(pairs[split]) - sum(bad["file"].startswith(mine) for bad in findings.rejects)
        if count and count == sum(odd["file"].startswith(mine) and odd["note"] == EMPTY for odd in findings.notes):
            raise ConfigError(f"{KEY} is {str(root)!r}, where no pixel of the {count:,} masks in masks/{split} has one "
                              f"of the values of classes, {dict(options.classes)}")  # fmt: skip
        splits[split] = {"count": count}
    names = list(options.classes)
    (files / "classes.json").write_text(json.dumps(names))
    return {"splits": splits, "classes": names, **findings.close(files, str(root), options.max_reject_share)}


def check_classes(classes: Mapping[str, tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The values of the classes, in order.

    Raises:
        ConfigError: they are not all numbers or all colours, two are alike, or there are none or too many.
    """
    values = list(classes.values())
    if not 0 < len(values) < IGNORE:
        raise ConfigError(f"classes has {len(values)} entries; expected 1 to {IGNORE - 1}: {{road: [7], car: [26]}}")
    if {len(value) for value in values} not in ({1}, {3}) or max(map(max, values)) > 255:
        raise ConfigError(f"classes is {dict(classes)}; expected for each a number [7], or for each a colour "
                          "[128, 64, 128], of 0 to 255")  # fmt: skip
    for i, value in enumerate(values):
        if value in values[:i]:
            alike = [name for name, other in classes.items() if other == value]
            raise ConfigError(
                f"classes gives {list(value)} to {' and '.join(alike)}; expected a value of its own for each"
            )
    return values


def read_mask(data: bytes, values: np.ndarray) -> np.ndarray:
    """Decodes a mask: (H, W) uint8, classes from 0, `IGNORE` where its value is no class's.

    Args:
        data: of the file.
        values: (C, 1) numbers or (C, 3) colours of the classes.

    Raises:
        ValueError: it is no lossless image of one number, or of one colour, a pixel.
    """
    if values.shape[1] == 1:
        table = np.full(256, IGNORE, np.uint8)
        table[values[:, 0]] = np.arange(len(values))
        return table[np.array(open_labels(data, modes=("L", "P")))]
    colours = np.array(open_labels(data, modes=("RGB", "P")).convert("RGB"))
    labels = np.full(colours.shape[:2], IGNORE, np.uint8)
    for label, colour in enumerate(values):
        labels[(colours == colour).all(axis=2)] = label
    return labels


def _pairs(root: Path, split: str) -> list[tuple[str, str]]:
    """Names below the root of images and of their masks."""
    folder = root / "images" / split
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMATS)
    masks = {path.stem for path in (root / "masks" / split).glob("*.png")}
    stems = [path.stem for path in images]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1}) if len(set(stems)) < len(stems) else []
    single = sorted(set(stems) ^ masks)
    if single or twice or not images:
        raise ConfigError(
            f"{KEY} is {str(root)!r}, where {split} has {len(set(stems) - masks):,} images without a mask, "
            f"{len(masks - set(stems)):,} masks without an image and {len(twice):,} names of two images"
            f"{f', such as {(single or twice)[0]}' if single or twice else ''}. {LAYOUT}"
        )
    return [(f"images/{split}/{path.name}", f"masks/{split}/{path.stem}.png") for path in images]
