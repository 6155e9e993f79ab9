"""ADE20K's layout is read and its label 0, other, becomes the ignored 255."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from pipeline.config import ConfigError
from pipeline.data.packed import Packed
from pipeline.data.sources.segmentation.ade20k import IGNORE, prepare, read_labels


def labels_of(packed, position):
    return np.asarray(Image.open(io.BytesIO(packed.read(position)))).astype(int)


def test_packs_images_and_shifted_labels(ade20k, options, tmp_path):
    data = prepare(options(ade20k, expect={"train": 3, "val": 2, "classes": 3}), tmp_path, tmp_path / "files")
    assert data["splits"] == {"train": {"count": 3}, "val": {"count": 2}}
    assert data["classes"] == ["wall", "building", "sky"]
    for split, folder in (("train", "training"), ("val", "validation")):
        images, labels = Packed(tmp_path / "files", split), Packed(tmp_path / "files", f"{split}-labels")
        assert [key[:-4] for key in images.keys] == [key[:-4] for key in labels.keys]
        for position, key in enumerate(images.keys):
            assert images.read(position) == (ade20k / "images" / folder / key).read_bytes()
            given = np.asarray(Image.open(ade20k / "annotations" / folder / labels.keys[position])).astype(int)
            expected = np.where(given == 0, IGNORE, given - 1)
            assert (labels_of(labels, position) == expected).all()
    assert IGNORE == 255


def test_the_root_may_be_the_folder_above(ade20k, options, tmp_path):
    assert prepare(options(ade20k.parent), tmp_path, tmp_path / "files")["splits"]["train"]["count"] == 3


def test_pairs_that_do_not_fit_are_rejected(ade20k, options, tmp_path):
    validation = ade20k / "annotations/validation"
    Image.fromarray(np.full((20, 24), 4, np.uint8)).save(validation / "ADE_val_00000001.png")
    Image.fromarray(np.zeros((24, 20), np.uint8)).save(ade20k / "annotations/training/ADE_train_00000002.png")
    data = prepare(options(ade20k, max_reject_share=0.5), tmp_path, tmp_path / "files")
    assert data["splits"] == {"train": {"count": 2}, "val": {"count": 1}}
    assert data["rejects"]["first"] == [
        {"file": "images/training/ADE_train_00000002.jpg", "reason": "24 x 20 pixels, but 20 x 24 labels"},
        {
            "file": "images/validation/ADE_val_00000001.jpg",
            "reason": "label image holds label 4; expected 0 to 3",
        },
    ]
    for name in ("train", "train-labels"):
        assert [key[:-4] for key in Packed(tmp_path / "files", name).keys] == [
            "ADE_train_00000001",
            "ADE_train_00000003",
        ]
    with pytest.raises(ConfigError, match=r"2 of 5 files"):
        prepare(options(ade20k), tmp_path, tmp_path / "no")


def test_colour_is_no_label_image():
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    with pytest.raises(ValueError, match=r"label image has mode RGB; expected one label a pixel"):
        read_labels(buffer.getvalue(), 150)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda root: shutil.rmtree(root / "annotations"),
            "lacks annotations/training, annotations/validation; .*Expected",
        ),
        (
            lambda root: (root / "objectInfo150.txt").unlink(),
            "root is .* lacks objectInfo150.txt",
        ),
        (
            lambda root: (root / "annotations/training/ADE_train_00000002.png").unlink(),
            r"training has 1 images without labels and 0 labels without an image, such as ADE_train_00000002",
        ),
        (
            lambda root: (root / "objectInfo150.txt").write_text("wall\n"),
            "does not begin with a line of columns",
        ),
    ],
    ids=["no annotations", "no names", "half-copied", "other names"],
)
def test_a_wrong_root_is_explained(ade20k, options, tmp_path, spoil, message):
    spoil(ade20k)
    with pytest.raises(ConfigError, match=message):
        prepare(options(ade20k), tmp_path, tmp_path / "files")
