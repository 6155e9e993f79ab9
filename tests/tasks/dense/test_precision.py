"""Average precision with images counted several times, against pycocotools on a set that holds them so often."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.statistics import resamples
from pipeline.tasks.dense.precision import average_precision, resampled_precision

NUMBER, CLASSES = 14, (3, 7, 9)


@pytest.fixture(scope="module")
def scenes():
    """Per image its annotations and its detections: some right, some off, some on crowds, one class not everywhere."""
    random, found = np.random.default_rng(1), []
    for image in range(NUMBER):
        annotations, results = [], []
        scores = random.permutation(12).tolist()  # ties are between images; within one, twice, they would interleave
        for _ in range(random.integers(0, 5)):
            left, top = random.uniform(0, 60, 2)
            box = [left, top, *random.uniform(8, 35, 2)]
            kind = int(random.choice(CLASSES[: 2 + (image % 4 == 0)]))
            crowd = int(random.random() < 0.1)
            annotations.append({"category_id": kind, "bbox": box, "iscrowd": crowd, "area": box[2] * box[3]})
            for _ in range(random.integers(0, 3)):
                moved = (np.array(box) + random.normal(0, 2.5, 4)).tolist()
                score = scores.pop()
                guess = kind if random.random() < 0.8 else int(random.choice(CLASSES))
                results.append({"category_id": guess, "bbox": moved, "score": (1 + score) / 13})
        found.append((annotations, results))
    return found


def evaluated(scenes, draw):
    """COCOeval of boxes over a set that holds image i `draw[i]` times."""
    images, annotations, results = [], [], []
    for index, times in enumerate(draw):
        for _ in range(times):
            number = len(images) + 1
            images.append({"id": number, "width": 100, "height": 100})
            annotations += [{**entry, "image_id": number} for entry in scenes[index][0]]
            results += [{**entry, "image_id": number} for entry in scenes[index][1]]
    truth = COCO()
    annotations = [{**entry, "id": i} for i, entry in enumerate(annotations, 1)]
    categories = [{"id": kind, "name": str(kind)} for kind in CLASSES]
    truth.dataset = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def test_a_draw_is_what_pycocotools_says_of_a_set_that_holds_images_so_often(scenes):
    draws = np.concatenate([np.ones((1, NUMBER), np.int64), resamples(NUMBER, 20)])
    found = resampled_precision(evaluated(scenes, draws[0]), draws)
    for draw, mine in zip(draws, found, strict=True):
        precision = evaluated(scenes, draw).eval["precision"][:, :, :, 0, -1]  # (T, recalls, K)
        reference = np.where(precision[:, 0] > -1, precision.mean(axis=1), np.nan).T
        np.testing.assert_allclose(mine, reference, rtol=1e-12)
    assert np.isnan(found).any(), "no draw lacks a class, so that case was not seen"


def test_intervals_hold_the_estimate_and_widen_with_fewer_images():
    def measured(number):
        images = [{"id": i + 1, "width": 40, "height": 40} for i in range(number)]
        box = {"category_id": 3, "bbox": [5, 5, 20, 20]}
        square = [[5, 5, 25, 5, 25, 25, 5, 25]]
        objects = [
            {"id": i + 1, "image_id": i + 1, **box, "iscrowd": 0, "area": 400, "segmentation": square}
            for i in range(number)
        ]
        content = {"images": images, "annotations": objects, "categories": [{"id": 3, "name": "three"}]}
        # Half of the images have their object found.
        results = [{"image_id": i + 1, **box, "score": 0.9, "segmentation": square} for i in range(0, number, 2)]
        found = average_precision(content, results)
        low, high = found["intervals"]["box_ap"]
        assert low < found["box_ap"] < high and found["intervals"]["mask_ap"] == pytest.approx((low, high))
        return high - low

    # The AP is the share of images: the normal interval of a half is 2 × 1.96 × √(0.25 / n) wide.
    assert measured(16) == pytest.approx(49.0, rel=0.2)
    assert measured(100) == pytest.approx(19.6, rel=0.2)


def test_without_detections_there_is_no_interval(scenes):
    content = {
        "images": [{"id": 1, "width": 9, "height": 9}],
        "annotations": [],
        "categories": [{"id": 3, "name": "x"}],
    }
    assert average_precision(content, [])["intervals"] == {}
