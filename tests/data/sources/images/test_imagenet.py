"""ImageNet's layout is read, its odd files are kept and its broken ones rejected by name."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pipeline.config import ConfigError
from pipeline.data.packed import Packed
from pipeline.data.pictures import decode
from pipeline.data.sources.images.imagenet import prepare

COUNTS = {"train": 12, "val": 6, "classes": 3}


def test_packs_the_files_as_they_are(imagenet, options, tmp_path):
    data = prepare(options(imagenet, expect=COUNTS), tmp_path, tmp_path / "files")
    assert data["splits"] == {"train": {"count": 12}, "val": {"count": 6}}
    assert data["classes"] == ["n01440764", "n01443537", "n02105855"]
    assert json.loads((tmp_path / "files/classes.json").read_text()) == data["classes"]
    train, val = (Packed(tmp_path / "files", split) for split in ("train", "val"))
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and val.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for position, key in enumerate(train.keys):
        assert train.read(position) == (imagenet / "train" / key).read_bytes()
    assert (train.sizes == (20, 24)).all()


def test_odd_files_are_noted_and_readable(imagenet, options, tmp_path):
    data = prepare(options(imagenet), tmp_path, tmp_path / "files")
    assert data["rejects"] == {"count": 0, "first": []}
    assert data["notes"]["count"] == 2
    assert data["notes"]["first"] == [
        {"file": "train/n01440764/n01440764_1.JPEG", "note": "mode CMYK, converted to RGB when read"},
        {"file": "train/n02105855/n02105855_2.JPEG", "note": "PNG named .JPEG"},
    ]
    train = Packed(tmp_path / "files", "train")
    cmyk = decode(train.read(train.find("n01440764/n01440764_1.JPEG")))
    with Image.open(imagenet / "train/n01440764/n01440764_1.JPEG") as image:
        assert np.array_equal(np.asarray(cmyk), np.asarray(image.convert("RGB")))


def test_training_images_are_packed_smaller_where_that_is_said(imagenet, options, tmp_path):
    whole = prepare(options(imagenet), tmp_path / "work", tmp_path / "whole")
    data = prepare(options(imagenet, short_side=10, quality=80), tmp_path, tmp_path / "files")
    assert data == whole | {"bounded": {"short_side": 10, "quality": 80}}
    train, val = (Packed(tmp_path / "files", split) for split in ("train", "val"))
    assert (train.sizes == (10, 12)).all() and (val.sizes == (20, 24)).all()
    for position, key in enumerate(train.keys):
        small = np.asarray(decode(train.read(position))).astype(int)
        with Image.open(imagenet / "train" / key) as image:
            assert small.shape == (10, 12, 3)
            assert (
                np.abs(small - np.asarray(image.convert("RGB").resize((12, 10), Image.Resampling.BICUBIC))).mean() < 30
            )
    again = prepare(options(imagenet, short_side=20), tmp_path / "again", tmp_path / "same")
    assert again["bounded"]["short_side"] == 20  # of images that have it: they are packed as they are
    assert (tmp_path / "same/train-00000.bin").read_bytes() == (tmp_path / "whole/train-00000.bin").read_bytes()


def test_broken_files_are_left_out_by_name(imagenet, options, tmp_path):
    broken = imagenet / "train/n01443537/n01443537_2.JPEG"
    broken.write_bytes(broken.read_bytes()[:-200])
    (imagenet / "val/n02105855/ILSVRC2012_val_00000005.JPEG").write_text("<html>")
    with pytest.raises(ConfigError, match=r"2 of 18 files .* max_reject_share 0.1 .*n01443537_2.JPEG \(.*truncated"):
        prepare(options(imagenet, max_reject_share=0.1), tmp_path, tmp_path / "no")
    data = prepare(options(imagenet, max_reject_share=0.2), tmp_path, tmp_path / "files")
    assert data["splits"] == {"train": {"count": 11}, "val": {"count": 5}}
    assert [found["file"] for found in data["rejects"]["first"]] == [
        "train/n01443537/n01443537_2.JPEG",
        "val/n02105855/ILSVRC2012_val_00000005.JPEG",
    ]
    assert json.loads((tmp_path / "files/findings.json").read_text())["rejects"] == data["rejects"]["first"]
    assert "n01443537/n01443537_2.JPEG" not in Packed(tmp_path / "files", "train").keys


def test_a_flat_validation_folder_takes_its_labels_from_the_development_kit(imagenet, options, tmp_path):
    wanted = [2, 2, 0, 1, 0, 1]  # by our count; the kit's own goes from 1 and in another order
    for path in sorted(imagenet.glob("val/*/*.JPEG")):
        path.rename(imagenet / "val" / path.name)
    for folder in list((imagenet / "val").iterdir()):
        if folder.is_dir():
            folder.rmdir()
    kit = imagenet / "ILSVRC2012_devkit_t12/data"
    kit.mkdir(parents=True)
    kinds = [("ILSVRC2012_ID", np.int64), ("WNID", object)]
    rows = np.array([(1, "n02105855"), (2, "n01440764"), (3, "n01443537"), (1001, "n99999999")], dtype=kinds)
    savemat(kit / "meta.mat", {"synsets": rows[:, None]})
    truth = "\n".join(str({2: 1, 0: 2, 1: 3}[label]) for label in wanted)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text(truth + "\n")
    prepare(options(imagenet, expect=COUNTS), tmp_path, tmp_path / "files")
    val = Packed(tmp_path / "files", "val")
    assert val.labels.tolist() == wanted and val.keys[0] == "ILSVRC2012_val_00000001.JPEG"
    (imagenet / "val/ILSVRC2012_val_00000003.JPEG").unlink()
    with pytest.raises(ConfigError, match=r"5 images and the development kit has labels for 6; copy val/ again"):
        prepare(options(imagenet), tmp_path, tmp_path / "no")


def spoil_by(action):
    def apply(root):
        action(root)
        return root

    return apply


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda root: None, r"root is not set.*Expected: train/n01440764.*image-net.org"),
        (
            lambda root: root / "gone",
            r"root is '.*gone', which is not a folder.*Expected: train/",
        ),
        (lambda root: root / "train/n01440764", r"lacks train, val; it holds n01440764_0.JPEG.*Expected"),
        (spoil_by(lambda root: shutil.rmtree(root / "val")), "lacks val; it holds train"),
        (
            spoil_by(lambda root: (shutil.rmtree(root / "train"), (root / "ILSVRC2012_img_train.tar").touch())),
            r"lacks train; .*Unpack the archives \(ILSVRC2012_img_train.tar\) there",
        ),
        (
            spoil_by(lambda root: shutil.rmtree(root / "val/n01443537")),
            "only in val/ none, only in train/ n01443537",
        ),
        (
            spoil_by(lambda root: [path.unlink() for path in root.glob("train/n01443537/*")]),
            "train/n01443537 holds no images; copy it again",
        ),
        (
            spoil_by(lambda root: (root / "train/n01443537/n01443537_0.JPEG").unlink()),
            r"holds 11 train \(expected 12\).*half-copied.*expect",
        ),
    ],
    ids=[
        "unset",
        "missing",
        "wrong folder",
        "no val",
        "archives",
        "class missing",
        "class empty",
        "half-copied",
    ],
)
def test_a_wrong_root_is_explained(imagenet, options, tmp_path, spoil, message):
    root = spoil(imagenet)
    with pytest.raises(ConfigError, match=message):
        prepare(options(root, expect=COUNTS), tmp_path, tmp_path / "files")


def test_an_empty_root_is_explained(options, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"lacks train, val; it holds nothing"):
        prepare(options(tmp_path / "empty"), tmp_path, tmp_path / "files")


def test_an_unknown_expectation_is_refused(imagenet, options, tmp_path):
    with pytest.raises(ConfigError, match=r"expect has 'test'; available: train, val, classes"):
        prepare(options(imagenet, expect={"test": 3}), tmp_path, tmp_path / "files")
