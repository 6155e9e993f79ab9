"""A user's own images and masks: numbers or colours become classes, and mistakes are told in a line."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.config import ConfigError
from pipeline.data.label_maps import IGNORE
from pipeline.data.packed import Packed
from pipeline.data.sources.segmentation.masks import Options, prepare, read_mask

NUMBERS = {"road": (7,), "car": (26,)}
COLOURS = {"road": (128, 64, 128), "car": (0, 0, 142)}


@pytest.fixture
def streets(tmp_path):
    """Two training images, one of them a PNG, and one to validate, with masks that also hold a value of no class."""
    root, rng = tmp_path / "streets", np.random.default_rng(0)
    for split, names in (("train", ("a.jpg", "b.png")), ("val", ("c.jpeg",))):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for name in names:
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(root / "images" / split / name)
            mask = rng.choice(np.array([0, 7, 26], np.uint8), (20, 24))
            Image.fromarray(mask).save(root / "masks" / split / f"{name[0]}.png")
    return root


def options_of(root, **changes):
    usual = {"root": str(root), "classes": NUMBERS, "expect": None, "max_reject_share": 0.0, "shard_mib": 1}
    return Options(**usual | changes)


def labels_of(files, split, position):
    return np.asarray(Image.open(io.BytesIO(Packed(files, f"{split}-labels").read(position)))).astype(int)


def test_numbers_become_classes_in_the_order_of_the_study(streets, tmp_path):
    data = prepare(options_of(streets, expect={"train": 2, "val": 1}), tmp_path, tmp_path / "files")
    assert data["splits"] == {"train": {"count": 2}, "val": {"count": 1}}
    assert data["classes"] == ["road", "car"]
    assert Packed(tmp_path / "files", "train").keys == ["a.jpg", "b.png"]
    for position, name in enumerate("ab"):
        given = np.asarray(Image.open(streets / f"masks/train/{name}.png"))
        expected = np.select([given == 7, given == 26], [0, 1], IGNORE)
        assert (labels_of(tmp_path / "files", "train", position) == expected).all()


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("with_palette", [False, True])
def test_colours_become_classes(with_palette):
    pixels = np.array([[[128, 64, 128], [0, 0, 142]], [[0, 0, 141], [128, 64, 128]]], np.uint8)
    image = Image.fromarray(pixels)
    image = image.quantize(8, dither=Image.Dither.NONE) if with_palette else image
    assert image.mode == ("P" if with_palette else "RGB")
    labels = read_mask(encoded(image), np.array(list(COLOURS.values())))
    assert labels.tolist() == [[0, 1], [IGNORE, 0]]


def test_a_mask_of_another_form_is_rejected(streets, tmp_path):
    Image.new("RGB", (24, 20)).save(streets / "masks/train/a.png")
    data = prepare(options_of(streets, max_reject_share=0.5), tmp_path, tmp_path / "files")
    assert data["rejects"]["first"] == [
        {"file": "images/train/a.jpg", "reason": "label image has mode RGB; expected one label a pixel (L or P)"}
    ]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "classes has 0 entries; expected 1 to 254"),
        ({"road": (7,), "car": (0, 0, 142)}, r"expected for each a number \[7\], or for each a colour"),
        ({"road": (256,)}, "of 0 to 255"),
        ({"road": (7,), "car": (7,)}, r"classes gives \[7\] to road and car"),
        ({"road": (8,)}, "no pixel of the 2 masks in masks/train has one of the values of classes"),
    ],
)
def test_wrong_classes_are_explained(streets, tmp_path, classes, message):
    with pytest.raises(ConfigError, match=message):
        prepare(options_of(streets, classes=classes), tmp_path, tmp_path / "files")


def test_images_without_a_mask_are_told(streets, tmp_path):
    (streets / "masks/val/c.png").rename(streets / "masks/val/d.png")
    wanted = "val has 1 images without a mask, 1 masks without an image and 0 names of two images, such as c. Expected"
    with pytest.raises(ConfigError, match=wanted):
        prepare(options_of(streets), tmp_path, tmp_path / "files")


def test_two_images_of_one_name_are_told(streets, tmp_path):
    Image.new("RGB", (24, 20)).save(streets / "images/train/a.png")
    with pytest.raises(ConfigError, match="1 names of two images, such as a"):
        prepare(options_of(streets), tmp_path, tmp_path / "files")
