"""COCO's average precision, and how far it would move with other images: the bootstrap over those of the split.

Lin et al., "Microsoft COCO", ECCV 2014, arXiv:1405.0312; the numbers are pycocotools'.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.statistics import percentile_interval, resamples

IOU_TYPES = {"box": "bbox", "mask": "segm"}
RESAMPLES = 200  # a limit is off by 0.2 standard errors of the AP, and a set of 5,000 images takes two minutes


def average_precision(content: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """COCO's AP in percent.

    Args:
        content: annotations in COCO's format; what lies on a crowd counts for nothing.
        results: detections in COCO's result format.

    Returns:
        box_ap, box_ap50, mask_ap, mask_ap50; `intervals`, of 95 %, by the same names; and per_class: {name: {box_ap,
        mask_ap}}; None for a class without objects.
    """
    names = [category["name"] for category in sorted(content["categories"], key=lambda category: category["id"])]
    found: dict[str, Any] = {"per_class": {name: {} for name in names}, "intervals": {}}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        truth = COCO()
        # pycocotools takes an id of 0 for "no match", and one that repeats for one object: each gets its own.
        objects = [{**entry, "id": number} for number, entry in enumerate(content["annotations"], 1)]
        truth.dataset = {"info": {}, **content, "annotations": objects}
        truth.createIndex()
        for kind, iou_type in IOU_TYPES.items():
            if not results:  # loadRes takes no empty list
                found |= {f"{kind}_ap": 0.0, f"{kind}_ap50": 0.0}
                found["per_class"] = {name: {**row, f"{kind}_ap": 0.0} for name, row in found["per_class"].items()}
                continue
            evaluation = COCOeval(truth, truth.loadRes([dict(result) for result in results]), iou_type)
            evaluation.evaluate()
            evaluation.accumulate()
            # (IoU thresholds, recalls, classes, sizes of object, most detections); -1 where a class has no objects
            precision = evaluation.eval["precision"][:, :, :, 0, -1]
            found |= {f"{kind}_ap": _percent(precision), f"{kind}_ap50": _percent(precision[0])}
            for place, name in enumerate(names):
                found["per_class"][name][f"{kind}_ap"] = _percent(precision[:, :, place])
            drawn = resampled_precision(evaluation, resamples(len(evaluation.params.imgIds), RESAMPLES))
            found["intervals"][f"{kind}_ap"] = percentile_interval(_means(drawn))
            found["intervals"][f"{kind}_ap50"] = percentile_interval(_means(drawn[:, :, :1]))
    return found


def resampled_precision(evaluation: COCOeval, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average precision with each image counted as often as it was drawn, over all sizes, with the most detections.

    Args:
        evaluation: after `evaluate`, of N images, K classes and T thresholds.
        weights: (R, N), how often each draw holds each image.

    Returns:
        (R, K, T) fractions, nan where a draw holds no object of the class.
    """
    params = evaluation.params
    number, most = len(params.imgIds), params.maxDets[-1]
    found = np.full((len(weights), len(params.catIds), len(params.iouThrs)), np.nan)
    for place in range(len(params.catIds)):
        start = place * len(params.areaRng) * number  # the first of the ranges of sizes is all of them
        entries = [(i, e) for i, e in enumerate(evaluation.evalImgs[start : start + number]) if e is not None]
        if not entries:
            continue
        true = np.stack([weights[:, i] * np.count_nonzero(np.logical_not(e["gtIgnore"])) for i, e in entries]).sum(0)
        scores = np.concatenate([e["dtScores"][:most] for _, e in entries])
        order = np.argsort(-scores, kind="mergesort")
        images = np.concatenate([np.full(len(e["dtScores"][:most]), i) for i, e in entries])[order]
        matched = np.concatenate([e["dtMatches"][:, :most] for _, e in entries], axis=1)[:, order] > 0
        ignored = np.concatenate([e["dtIgnore"][:, :most] for _, e in entries], axis=1)[:, order] > 0
        counted = weights[:, images].astype(np.float64)
        for level in range(len(params.iouThrs)):
            hits = np.cumsum(counted * (matched[level] & ~ignored[level]), axis=1)
            misses = np.cumsum(counted * (~matched[level] & ~ignored[level]), axis=1)
            precision = hits / np.maximum(hits + misses, np.spacing(1))
            precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            precision = np.concatenate([precision, np.zeros((len(weights), 1))], axis=1)  # for recalls not reached
            for draw in np.flatnonzero(true):
                reached = np.searchsorted(hits[draw] / true[draw], params.recThrs, side="left")
                found[draw, place, level] = precision[draw, reached].mean()
    return found


def _means(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, K, T) fractions -> (R,) means in percent over what is known, nan where nothing is."""
    with np.errstate(invalid="ignore"):
        return 100 * np.nansum(drawn, axis=(1, 2)) / np.sum(~np.isnan(drawn), axis=(1, 2))


def _percent(precision: NDArray[np.float64]) -> float | None:
    known = precision[precision > -1]
    return 100 * float(known.mean()) if known.size else None
