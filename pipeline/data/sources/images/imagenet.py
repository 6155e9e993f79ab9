"""ImageNet-1K (ILSVRC 2012) and every classification set laid out like it: one folder per class.

Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, arXiv:1409.0575. 1,281,167
training and 50,000 validation images of 1,000 classes, a class being its folder's position in sorted order.
"""

import io
import os
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError
from pipeline.data.inspection import FORMATS
from pipeline.data.labelled import KEY, Options, pack_labelled
from pipeline.data.official import check_root
from pipeline.data.outside import read_list, read_text

LAYOUT = (
    "Expected: train/n01440764/*.JPEG and so on, and the same class folders in val/ "
    "(or val/*.JPEG beside the unpacked ILSVRC2012_devkit_t12/). "
    "ImageNet-1K is to be had, after registration, from image-net.org (ILSVRC 2012, task 1 and 2)"
)
_DEVKIT = Path("ILSVRC2012_devkit_t12/data")


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Checks and packs the set.

    Raises:
        ConfigError: the root, its layout, its counts or too many of its files are not as they should be.
    """
    root = check_root(options.root, KEY, LAYOUT, ("train", "val"))
    classes = _folders(root / "train")
    if not classes:
        raise ConfigError(f"{KEY} is {str(root)!r}, whose train/ holds no class folders. {LAYOUT}")
    samples = {"train": _by_folder(root, "train", classes), "val": _validation(root, classes)}
    named = {
        split: [(str(path.relative_to(root)), str(path.relative_to(root / split)), label) for path, label in listed]
        for split, listed in samples.items()
    }
    return pack_labelled(options, root, classes, named, work, files)


def _validation(root: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Validation images, from class folders or, as ImageNet comes, from one folder and the devkit."""
    folders = _folders(root / "val")
    if not folders and (root / _DEVKIT).is_dir():
        return _by_devkit(root, classes)
    if folders != classes:
        strange, absent = sorted(set(folders) - set(classes)), sorted(set(classes) - set(folders))
        raise ConfigError(
            f"{KEY} is {str(root)!r}, where train/ and val/ hold different classes: only in val/ "
            f"{', '.join(strange[:5]) or 'none'}, only in train/ {', '.join(absent[:5]) or 'none'}"
            f"{f' and {len(absent) - 5} more' if len(absent) > 5 else ''}. {LAYOUT}"
        )
    return _by_folder(root, "val", classes)


def _by_folder(root: Path, split: str, classes: list[str]) -> list[tuple[Path, int]]:
    samples = []
    for label, name in enumerate(classes):
        images = _images(root / split / name)
        if not images:
            raise ConfigError(f"{KEY} is {str(root)!r}, where {split}/{name} holds no images; copy it again. {LAYOUT}")
        samples += [(path, label) for path in images]
    return samples


def _by_devkit(root: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Labels of a flat `val/`: line i of the kit's ground truth is the class of the i-th image."""
    number_to_class = _synsets(root, root / _DEVKIT / "meta.mat")
    path = root / _DEVKIT / "ILSVRC2012_validation_ground_truth.txt"
    truth = read_text(root, path, LAYOUT).split()
    images = _images(root / "val")
    if len(images) != len(truth):
        raise ConfigError(
            f"{KEY} is {str(root)!r}, where val/ holds {len(images):,} images and the development kit has "
            f"labels for {len(truth):,}; copy val/ again"
        )
    labels = {name: label for label, name in enumerate(classes)}
    for place, number in enumerate(truth, 1):
        if number not in number_to_class:
            raise ConfigError(f"{path}, line {place} is {number[:20]!r}; expected the number of a class of meta.mat")
    wanted = [number_to_class[number] for number in truth]
    unknown = sorted(set(wanted) - set(classes))
    if unknown:
        raise ConfigError(
            f"{KEY} is {str(root)!r}, whose train/ lacks classes of val/: {', '.join(unknown[:5])}. {LAYOUT}"
        )
    return [(path, labels[name]) for path, name in zip(images, wanted, strict=True)]


def _synsets(root: Path, path: Path) -> dict[str, str]:
    """Name of class by number, from the kit's table."""
    from scipy.io import loadmat

    data = read_list(root, path, LAYOUT)
    try:
        synsets = loadmat(io.BytesIO(data), squeeze_me=True)["synsets"]
        return {str(int(entry["ILSVRC2012_ID"])): str(entry["WNID"]) for entry in synsets}
    except Exception as error:  # bytes that are no table make the reader raise nearly anything
        told = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{path} cannot be read as the kit's table of classes ({told}); copy it again") from None


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if Path(entry.name).suffix.lower() in FORMATS)
    return [folder / name for name in names]
