"""Sources are found by name, options are checked, and the embedded sets come out of the official readers."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from pipeline.config import ConfigError, DataSet
from pipeline.data.packed import Packed
from pipeline.data.pictures import decode
from pipeline.data.prepare import prepare

DIGITS = {
    "train_images": 40, "val_images": 20, "image_size": 16, "val_share": 0.3, "scale": [0.6, 1], "shift": 0.1,
    "rotation": 10, "shear": 0.1, "contrast": 0.4, "colour": 1.0, "noise": 0.02, "seed": 0,
}  # fmt: skip
SCENES = {
    "train_images": 6, "val_images": 3, "image_size": 64, "digits": [0, 8, 3], "photos": ["brick", "grass"],
    "num_grounds": 2, "num_digits": [2, 3], "digit_size": [16, 24], "rotation": 10, "shear": 0.1, "contrast": 0.4,
    "colour": 1.0, "crowd_share": 0.5, "val_share": 0.3, "seed": 0,
}  # fmt: skip


def run(tmp_path, source, options, kind="images", files="files"):
    spec = DataSet(kind=kind, name=f"my-{source}", source=source, options=options)
    return prepare(spec, tmp_path / "work", tmp_path / files), tmp_path / files


def test_digits(tmp_path):
    data, files = run(tmp_path, "digits", DIGITS)
    assert (data["name"], data["source"], len(data["classes"])) == ("my-digits", "digits", 10)
    assert data["splits"] == {"train": {"count": 40, "scans": 1258}, "val": {"count": 20, "scans": 539}}
    assert data["rejects"]["count"] == data["notes"]["count"] == 0
    train = Packed(files, "train")
    assert np.bincount(train.labels).tolist() == [4] * 10 and (train.sizes == 16).all()
    assert train.keys[4].startswith("1_one/")
    pixels = np.stack([np.asarray(decode(train.read(position))) for position in range(40)])
    assert pixels.shape == (40, 16, 16, 3) and len(np.unique(pixels.reshape(40, -1), axis=0)) == 40
    scans = json.loads((files / "scans.json").read_text())
    assert not set(scans["train"]) & set(scans["val"])


def test_the_same_options_give_the_same_bytes_and_leftovers_go(tmp_path):
    _, one = run(tmp_path, "digits", DIGITS)
    (one / "train-00007.bin").write_bytes(b"left over")
    expected = {file.name: file.read_bytes() for file in one.iterdir() if file.name != "train-00007.bin"}
    (tmp_path / "work/raw/train/0_zero/stray.png").write_bytes(b"half")
    _, again = run(tmp_path, "digits", DIGITS)
    assert {file.name: file.read_bytes() for file in again.iterdir()} == expected
    _, other = run(tmp_path, "digits", DIGITS | {"seed": 1}, files="other")
    assert (other / "train-00000.bin").read_bytes() != expected["train-00000.bin"]


def test_scenes_as_coco(tmp_path):
    data, files = run(tmp_path, "scenes_coco", SCENES, "detection")
    assert data["classes"] == ["zero", "eight", "three"]
    assert data["splits"]["train"]["count"] == 6 and data["splits"]["train"]["crowds"] > 0
    coco, packed = COCO(files / "annotations/train.json"), Packed(files, "train")
    assert len(coco.imgs) == 6
    for entry in coco.anns.values():
        mask = coco.annToMask(entry)
        x, y, width, height = entry["bbox"]
        assert mask.sum() == entry["area"] == mask[y : y + height, x : x + width].sum() > 0
        assert mask[y, :].any() and mask[:, x].any() and mask[y + height - 1].any() and mask[:, x + width - 1].any()
    image = coco.imgs[3]
    assert decode(packed.read(packed.find(image["file_name"]))).size == (64, 64)


def test_scenes_as_ade20k(tmp_path):
    data, files = run(tmp_path, "scenes_ade20k", SCENES | {"crowd_share": 0}, "segmentation")
    assert data["classes"] == ["zero", "eight", "three", "brick", "grass"]
    labels = Packed(files, "train-labels")
    seen = [np.asarray(Image.open(io.BytesIO(labels.read(position)))) for position in range(6)]
    assert set(np.unique(seen)) == {0, 1, 2, 3, 4, 255}
    assert 0.5 < np.isin(seen, (3, 4)).mean() < 0.95 and 0.01 < (np.array(seen) == 255).mean() < 0.3


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"sede": 1}, r"data.my-digits has 'sede'; available keys: \['train_images', .*; did you mean 'seed'?"),
        ({"noise": None}, "data.my-digits.noise is None; expected a number of at least 0"),
        ({"seed": 1.5}, "data.my-digits.seed is 1.5; expected a whole number of at least 0 and below 2"),
        ({"seed": True}, "data.my-digits.seed is True; expected a whole number"),
        ({"scale": 0.5}, r"data.my-digits.scale is 0.5; expected \[smallest, largest\]"),
        ({"scale": [1, 0.5]}, r"data.my-digits.scale is \[1, 0.5\]; expected \[smallest, largest\]"),
        ({"scale": [0, 1]}, r"data.my-digits.scale is \[0, 1\]; expected \[smallest, largest\]"),
        ({"contrast": 1}, "contrast is 1.0; expected 0 to 0.8"),
    ],
)
def test_wrong_options_are_named(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, "digits", DIGITS | changes)


def test_missing_options_are_named(tmp_path):
    given = {key: value for key, value in DIGITS.items() if key not in ("seed", "noise")}
    with pytest.raises(ConfigError, match=r"data.my-digits lacks 'noise'; required keys: \['train_images'"):
        run(tmp_path, "digits", given)


def test_an_unset_root_names_its_key(tmp_path):
    usual = {"root": None, "expect": None, "max_reject_share": 0, "num_workers": 1, "shard_mib": 1}
    for source, role in (("imagenet", "images"), ("coco", "detection"), ("ade20k", "segmentation")):
        with pytest.raises(ConfigError, match=rf"data.my-{source}: root is not set; .* Expected: .* to be had"):
            run(tmp_path, source, usual, role)


def test_preparing_imports_no_torch():
    code = (
        "import sys; import stages.prepare; from pipeline.data.sources.images import digits;"
        "from pipeline.data.sources.detection import coco; from pipeline.data.sources.segmentation import ade20k;"
        "heavy = {'torch', 'sklearn', 'skimage'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
