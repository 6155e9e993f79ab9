"""Your own images, wherever they lie below a folder, with their labels in `train.csv` and `val.csv`."""

import csv
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError
from pipeline.data.labelled import KEY, Options, pack_labelled
from pipeline.data.official import check_root
from pipeline.data.outside import read_text

COLUMNS = ("path", "label")
SPLITS = ("train", "val")
LAYOUT = (
    "Expected: train.csv and val.csv with the columns path, a file of an image below the root, and label, the name of "
    "its class; further columns are ignored"
)
Row = tuple[str, str]  # path and label


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Checks and packs the set; its classes are the labels of `train.csv` in sorted order.

    Raises:
        ConfigError: the root, a list, its counts or too many of its files are not as they should be.
    """
    root = check_root(options.root, KEY, LAYOUT, [f"{split}.csv" for split in SPLITS])
    listed = {split: _rows(root, root / f"{split}.csv") for split in SPLITS}
    classes = sorted({label for _, label in listed["train"]})
    if strange := sorted({label for _, label in listed["val"]} - set(classes)):
        raise ConfigError(f"{root / 'val.csv'} has labels that train.csv lacks: {', '.join(strange[:5])}. {LAYOUT}")
    place = {name: label for label, name in enumerate(classes)}
    samples = {split: [(path, path, place[label]) for path, label in rows] for split, rows in listed.items()}
    return pack_labelled(options, root, classes, samples, work, files)


def _rows(root: Path, path: Path) -> list[Row]:
    """Paths and labels of a list, each path once."""
    text = read_text(root, path, LAYOUT).removeprefix("\ufeff")  # as Excel begins a file
    lines = csv.DictReader(text.splitlines(), strict=True)
    found: dict[str, str] = {}
    try:
        if lacking := [column for column in COLUMNS if column not in (lines.fieldnames or ())]:
            raise ConfigError(
                f"{path} lacks the column {' and '.join(lacking)}; its first line names "
                f"{', '.join(lines.fieldnames or ()) or 'none'}. {LAYOUT}"
            )
        for row in lines:
            name, label = ((row[column] or "").strip() for column in COLUMNS)
            if not name or not label:
                raise ConfigError(f"{path}, line {lines.line_num} has no {'label' if name else 'path'}. {LAYOUT}")
            if name in found:
                raise ConfigError(f"{path}, line {lines.line_num} lists {name} again; expected each image once")
            found[name] = label
    except csv.Error as error:
        raise ConfigError(f"{path}, line {lines.line_num} is no line of CSV ({error}). {LAYOUT}") from None
    if not found:
        raise ConfigError(f"{path} lists no image. {LAYOUT}")
    return list(found.items())
