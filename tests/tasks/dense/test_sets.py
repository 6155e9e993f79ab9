import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.tasks.dense.sets import DetectionSet, SegmentationSet, boxes_of
from pipeline.tasks.dense.transforms import LargeScaleJitter, SceneCrop, View, distort, fit_inside, generator
from tests.tasks.dense.scenes import (
    CLASSES,
    HEIGHT,
    WIDTH,
    labels,
    picture,
    rectangles,
    write_detection,
    write_segmentation,
)

JITTER = LargeScaleJitter(crop_size=32, scale=(0.5, 2.0), flip=True)
CROP = SceneCrop(
    crop_size=24,
    short_size=32,
    ratio=(0.5, 2.0),
    category_max_ratio=0.75,
    flip=True,
    colours=True,
    aspect_limit=4.0,
)


@pytest.fixture(scope="module")
def detection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_detection(tmp_path_factory.mktemp("coco") / "files")


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_segmentation(tmp_path_factory.mktemp("ade") / "files")


def test_objects_are_those_of_the_file_without_crowds(detection: Path) -> None:
    data = DetectionSet(detection, "train", JITTER, 32, seed=0)
    assert data.classes == list(CLASSES) and data.category_ids == [3, 9]
    for number in range(4):
        truth = data.truth(number)
        assert np.array_equal(truth.image, picture(number)) and truth.image_id == number + 7
        assert truth.labels.tolist() == [label for label, *_ in rectangles(number)]
        expected = [[x, y, x + w, y + h] for _, x, y, w, h in rectangles(number)]
        assert truth.boxes.tolist() == expected  # from a polygon and from run lengths
        assert [int(mask.sum()) for mask in truth.masks] == [w * h for *_, w, h in rectangles(number)]


def test_a_sample_is_a_function_of_seed_epoch_and_index(detection: Path, segmentation: Path) -> None:
    for data, field in (
        (DetectionSet(detection, "train", JITTER, 32, seed=3), "boxes"),
        (SegmentationSet(segmentation, "train", CROP, seed=3), "labels"),
    ):
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        first = data[2, 1]
        assert (
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
        ) == before
        random.random(), np.random.rand(), data[5, 0]
        again, later = data[2, 1], data[3, 1]
        assert np.array_equal(first.image, again.image)
        assert np.array_equal(getattr(first, field), getattr(again, field))
        assert first.image.shape != later.image.shape or not np.array_equal(first.image, later.image)


def test_masks_boxes_and_pixels_stay_together(detection: Path) -> None:
    data = DetectionSet(detection, "train", JITTER, 32, seed=0)
    flipped = 0
    for epoch in range(24):
        scene = data[epoch, epoch % 4]
        height, width = scene.image.shape[:2]
        assert height <= 32 and width <= 32 and scene.masks.shape[1:] == (height, width)
        assert len(scene.labels) == len(scene.boxes) == len(scene.masks)
        for label, mask, box in zip(scene.labels, scene.masks, scene.boxes, strict=True):
            left, top, right, bottom = box.astype(int)
            assert mask[top:bottom, left:right].all() and mask.sum() == (right - left) * (bottom - top)
            if min(right - left, bottom - top) >= 6:  # the inside of a rectangle has its colour
                inner = scene.image[top + 2 : bottom - 2, left + 2 : right - 2].reshape(-1, 3).mean(axis=0)
                assert inner.argmax() == label and inner.max() > 180
        if len(scene.boxes) == 2:
            flipped += (scene.boxes[0, 0] > scene.boxes[1, 0]).item()
    assert 0 < flipped < 24


def test_evaluation_sees_every_image_whole(detection: Path) -> None:
    scene = DetectionSet(detection, "val", None, 80, seed=0)[0, 2]
    assert scene.image.shape == (64, 80, 3) and scene.size == (HEIGHT, WIDTH) and len(scene.boxes) == 0
    expected = np.asarray(Image.fromarray(picture(2)).resize((80, 64), Image.Resampling.BILINEAR))
    assert np.array_equal(scene.image, expected)


def test_scale_of_jitter_is_uniform() -> None:
    sizes = [JITTER.view(100, 50, generator(0, epoch, 0)).full_height / 32 for epoch in range(400)]
    assert min(sizes) >= 0.45 and max(sizes) <= 2.05
    assert np.histogram(sizes, bins=3, range=(0.5, 2.0))[0] == pytest.approx([133, 133, 133], abs=35)


def test_labels_follow_the_image(segmentation: Path) -> None:
    data = SegmentationSet(segmentation, "train", CROP, seed=1)
    for epoch in range(8):
        seen = data[epoch, epoch % 4]
        assert seen.image.shape[:2] == seen.labels.shape and max(seen.labels.shape) <= 24
        assert set(np.unique(seen.labels)) <= {0, 1, 2, 255}
    plain = SegmentationSet(segmentation, "val", CROP, seed=1, evaluate=True)[0, 3]
    assert np.array_equal(plain.labels, labels(3)) and plain.image.shape[:2] == (HEIGHT, WIDTH)


def test_a_crop_of_one_class_is_drawn_again() -> None:
    painted = np.zeros((64, 64), np.uint8)
    painted[:, 40:] = 1
    crop = replace(CROP, short_size=64, ratio=(1.0, 1.0))
    shares = []
    for epoch in range(40):
        cut = crop.view(painted, generator(0, epoch, 0), 255).labels(painted)
        shares.append(np.bincount(cut.ravel(), minlength=2).max() / cut.size)
    assert np.mean(np.array(shares) < 0.75) > 0.9


def test_a_view_flips_and_cuts() -> None:
    source = np.arange(24, dtype=np.uint8).reshape(4, 6)
    view = View(top=1, left=2, height=2, width=3, full_height=4, full_width=6, flip=True)
    assert view.labels(source).tolist() == [[10, 9, 8], [16, 15, 14]]
    image = Image.fromarray(np.repeat(source[..., None], 3, axis=2))
    assert np.array_equal(view.image(image)[..., 0], view.labels(source))
    whole = fit_inside(30, 60, 20)
    assert (whole.height, whole.width) == (10, 20)


def test_colours_are_distorted_within_bounds() -> None:
    grey = np.full((4, 4, 3), 128, np.uint8)
    means = [distort(grey, generator(0, epoch, 0)).mean() for epoch in range(60)]
    assert min(means) < 100 and max(means) > 150 and 128 in means
    assert min(means) >= 40 and max(means) <= 245


def test_colours_are_mmsegmentations_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmseg.datasets.transforms import transforms as theirs

    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    changed = 0
    for seed in range(60):
        draws = np.random.default_rng(seed)
        monkeypatch.setattr(theirs, "random", SimpleNamespace(randint=draws.integers, uniform=draws.uniform))
        blue_first = np.ascontiguousarray(pixels[..., ::-1])
        expected = theirs.PhotoMetricDistortion().transform({"img": blue_first})["img"][..., ::-1]
        assert np.array_equal(distort(pixels, np.random.default_rng(seed)), expected), seed
        changed += not np.array_equal(expected, pixels)
    assert changed > 50


def test_boxes_end_past_the_last_pixel() -> None:
    masks = np.zeros((2, 5, 6), np.uint8)
    masks[0, 1:3, 2:6] = 1
    assert boxes_of(masks).tolist() == [[2, 1, 6, 3], [0, 0, 0, 0]]


def test_packs_of_different_names_are_refused(tmp_path: Path) -> None:
    folder = write_segmentation(tmp_path / "files")
    for path in folder.glob("train-labels*"):
        path.unlink()
    for path in folder.glob("val-labels*"):
        path.rename(folder / path.name.replace("val", "train"))
    (folder / "train.index.npz").rename(folder / "whole.npz")
    from pipeline.data.packed import PackWriter

    with PackWriter(folder, "train", 2**20) as pack:
        pack.add("other.jpg", b"x")
    with pytest.raises(ValueError, match="different names"):
        SegmentationSet(folder, "train", CROP, seed=0)
