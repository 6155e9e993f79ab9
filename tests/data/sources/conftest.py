"""Small trees in the exact layouts of the official releases."""

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.data.sources.images.imagenet import Options  # which has all that the other readers ask for


def noise(seed, width=24, height=20):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def options():
    """Options of a reader for a root, with changes."""

    def build(root, **changes):
        usual = {"root": root and str(root), "expect": None, "max_reject_share": 0.0, "num_workers": 2, "shard_mib": 1}
        return Options(**usual | changes)

    return build


@pytest.fixture
def imagenet(tmp_path):
    """Three classes of four training and two validation images, oddities as in ImageNet included."""
    root = tmp_path / "imagenet"
    for place, wnid in enumerate(("n01440764", "n01443537", "n02105855")):
        for split, count in (("train", 4), ("val", 2)):
            (root / split / wnid).mkdir(parents=True)
            for number in range(count):
                name = f"{wnid}_{number}" if split == "train" else f"ILSVRC2012_val_{place * 2 + number + 1:08d}"
                noise(10 * place + number).save(root / split / wnid / f"{name}.JPEG")
    noise(1).convert("CMYK").save(root / "train/n01440764/n01440764_1.JPEG")
    noise(2).save(root / "train/n02105855/n02105855_2.JPEG", format="PNG")
    return root


@pytest.fixture
def coco(tmp_path):
    """Three training and two validation images with polygons, a crowd, and category ids with a gap."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": 1, "name": "person", "supercategory": "person"}, {"id": 13, "name": "stop sign"}]
    for split, ids in (("train2017", (9, 25, 30)), ("val2017", (139, 285))):
        (root / split).mkdir()
        images, annotations = [], []
        for place, number in enumerate(ids):
            noise(number).save(root / split / f"{number:012d}.jpg")
            images.append({"id": number, "file_name": f"{number:012d}.jpg", "width": 24, "height": 20})
            box = {"image_id": number, "bbox": [2, 3, 10, 8], "area": 80, "id": 10 * number}
            corners = [[2, 3, 12, 3, 12, 11, 2, 11]]
            annotations.append(box | {"category_id": 13, "iscrowd": 0, "segmentation": corners})
            if place == 0:
                runs = {"size": [20, 24], "counts": [43, 8, 429]}
                crowd = {"id": 10 * number + 1, "category_id": 1, "iscrowd": 1, "segmentation": runs}
                annotations.append(box | crowd)
        content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def ade20k(tmp_path):
    """Three training and two validation images; labels run from 0, other, to 3."""
    root = tmp_path / "ADEChallengeData2016"
    for folder, short, count in (("training", "train", 3), ("validation", "val", 2)):
        for kind in ("images", "annotations"):
            (root / kind / folder).mkdir(parents=True)
        for number in range(1, count + 1):
            noise(number).save(root / "images" / folder / f"ADE_{short}_{number:08d}.jpg")
            labels = np.random.default_rng(number).integers(0, 4, (20, 24), np.uint8)
            Image.fromarray(labels).save(root / "annotations" / folder / f"ADE_{short}_{number:08d}.png")
    rows = [
        "Idx\tRatio\tTrain\tVal\tName",
        "1\t0.15\t9\t1\twall",
        "2\t0.1\t9\t1\tbuilding, edifice",
        "3\t0\t9\t1\tsky",
    ]
    (root / "objectInfo150.txt").write_text("\n".join(rows) + "\n")
    return root
