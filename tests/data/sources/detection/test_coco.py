"""COCO's layout is read; annotations stay as they are but for those of rejected images."""

import json
import shutil

import pytest

from pipeline.config import ConfigError
from pipeline.data.packed import Packed
from pipeline.data.sources.detection.coco import prepare


def test_packs_images_and_keeps_annotations(coco, options, tmp_path):
    expect = {"train": 3, "val": 2, "classes": 2}
    data = prepare(options(coco, expect=expect), tmp_path, tmp_path / "files")
    assert data["splits"] == {
        "train": {"count": 3, "instances": 3, "crowds": 1},
        "val": {"count": 2, "instances": 2, "crowds": 1},
    }
    assert data["classes"] == ["person", "stop sign"]
    for split in ("train", "val"):
        given = json.loads((coco / f"annotations/instances_{split}2017.json").read_text())
        assert json.loads((tmp_path / f"files/annotations/{split}.json").read_text()) == given
        packed = Packed(tmp_path / "files", split)
        for image in given["images"]:
            position = packed.find(image["file_name"])
            assert packed.read(position) == (coco / f"{split}2017" / image["file_name"]).read_bytes()
            assert packed.labels[position] == image["id"]


def test_what_belongs_to_a_rejected_image_goes_with_it(coco, options, tmp_path):
    (coco / "train2017/000000000009.jpg").write_bytes(b"\xff\xd8\xff")
    shutil.copy(coco / "val2017/000000000139.jpg", tmp_path / "other.jpg")
    content = json.loads((coco / "annotations/instances_val2017.json").read_text())
    content["images"][1]["width"] = 99
    (coco / "annotations/instances_val2017.json").write_text(json.dumps(content))
    data = prepare(options(coco, max_reject_share=0.5), tmp_path, tmp_path / "files")
    assert [found["file"] for found in data["rejects"]["first"]] == [
        "train2017/000000000009.jpg",
        "val2017/000000000285.jpg",
    ]
    assert data["rejects"]["first"][1]["reason"] == "24 x 20 pixels; expected 99 x 20"
    train = json.loads((tmp_path / "files/annotations/train.json").read_text())
    assert [image["id"] for image in train["images"]] == [25, 30]
    assert {entry["image_id"] for entry in train["annotations"]} == {25, 30}
    assert data["splits"]["train"] == {"count": 2, "instances": 2, "crowds": 0}
    with pytest.raises(ConfigError, match=r"2 of 5 files .* more than max_reject_share 0.1 allows"):
        prepare(options(coco, max_reject_share=0.1), tmp_path, tmp_path / "no")


def cut_json(root):
    path = root / "annotations/instances_train2017.json"
    path.write_text(path.read_text()[:-40])


def captions(root):
    (root / "annotations/instances_train2017.json").write_text('{"images": [], "annotations": []}')


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda root: shutil.rmtree(root / "train2017"),
            "lacks train2017; it holds annotations, val2017.*Expected",
        ),
        (
            lambda root: (root / "annotations/instances_val2017.json").unlink(),
            "root is .* lacks annotations/instances_val2017.json; .*cocodataset.org",
        ),
        (
            lambda root: (root / "train2017/000000000025.jpg").unlink(),
            "train2017 lacks 1 of the 3 images that the annotations name, such as 000000000025.jpg. Half-copied",
        ),
        (cut_json, "instances_train2017.json is not whole JSON .*copy it again"),
        (captions, "instances_train2017.json lacks categories; expected COCO's instance annotations"),
    ],
    ids=["no images", "no annotations", "half-copied", "cut off", "captions"],
)
def test_a_wrong_root_is_explained(coco, options, tmp_path, spoil, message):
    spoil(coco)
    with pytest.raises(ConfigError, match=message):
        prepare(options(coco), tmp_path, tmp_path / "files")


def test_counts_are_compared(coco, options, tmp_path):
    with pytest.raises(ConfigError, match=r"holds 3 train \(expected 118,287\), 2 val \(expected 5,000\)"):
        prepare(options(coco, expect={"train": 118287, "val": 5000}), tmp_path, tmp_path / "files")
