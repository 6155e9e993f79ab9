"""Operations of one training image in detection (Mask R-CNN) and segmentation (UPerNet), by their protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config import models
from pipeline.cost.encoders import build
from pipeline.cost.parts import NOTHING, Part, Step, conv, linear

Level = tuple[int, int]  # channels and side of a map


def step(settings: Mapping[str, Any], model: str, classes: int) -> Step:
    """One image of a dense task, everything trained."""
    detects = "num_rois" in settings["heads"]
    side = settings["image_size"] if detects else settings["crop"]["crop_size"]
    embed, body, levels = _backbone(settings, model, side, shrink=detects)
    heads = _mask_rcnn if detects else _segmentor
    return Step(embedded=embed, trained=body + heads(settings["heads"], levels, classes))


def _backbone(settings: Mapping[str, Any], model: str, side: int, *, shrink: bool) -> tuple[Part, Part, list[Level]]:
    pyramid = settings["pyramid"]
    if "patch_size" in models()[model]:
        embed, body, levels = _vit(settings["vit"], pyramid, models()[model], side, shrink)
    else:
        taps = pyramid["taps"] or range(len(models()[model]["layers"]))
        encoder = build(model, side, stages=1 + max(taps))
        embed, body, levels = encoder.embed, encoder.body, [encoder.maps[tap] for tap in taps]
        if pyramid["channels"]:
            body += sum((conv(s**2, w, pyramid["channels"], 1) for w, s in levels), NOTHING)
            levels = [(pyramid["channels"], s) for _, s in levels]
            body += sum((conv(s**2, w, w, 9) for w, s in levels), NOTHING)
    for _ in range(pyramid["extra_levels"]):
        levels.append((levels[-1][0], -(-levels[-1][1] // 2)))
    return embed, body, levels


def _vit(
    vit: Mapping[str, Any], pyramid: Mapping[str, Any], size: Mapping[str, Any], side: int, shrink: bool
) -> tuple[Part, Part, list[Level]]:
    patch, width = vit["patch_size"] or size["patch_size"], size["width"]
    grid = -(-side // patch)
    depth = 1 + max(pyramid["taps"] or [size["num_blocks"] - 1])
    relative = "bias" if "layer_scale" in size else vit["relative"]  # a BEiT keeps what it learned
    body = NOTHING
    for index in range(depth):
        windowed = vit["window_size"] is not None and index not in vit["global_blocks"]
        body += _block(grid, width, vit["window_size"] if windowed else None, relative, vit["class_token"])
    levels = []
    for scale in pyramid["scales"]:
        half, quarter = (width // 2, width // 4) if shrink else (width, width)
        channels, places = width, grid**2
        if scale >= 2:  # each pixel becomes four
            body += conv(4 * places, width, half, 1)
            channels = half
        if scale == 4:
            body += conv(16 * places, half, quarter, 1)
            channels = quarter
        level = round(grid * scale)
        if pyramid["channels"]:
            body += conv(level**2, channels, pyramid["channels"], 1)
            channels = pyramid["channels"]
            body += conv(level**2, channels, channels, 9)
        levels.append((channels, level))
    return conv(grid**2, 3, width, patch**2), body, levels


def _block(grid: int, width: int, window: int | None, relative: str, class_token: bool) -> Part:
    """A block over a map, in windows that the map is filled up to, or as a whole."""
    tokens = grid**2 + class_token
    side, count = (window, (-(-grid // window)) ** 2) if window else (grid, 1)
    inside = side**2 + (0 if window else class_token)
    products = 4 * inside**2 * width
    if relative == "decomposed":
        products += 4 * side**3 * width
    return Part(8 * count * inside * width**2 + 16 * tokens * width**2, count * products, 12 * width**2 + 13 * width)


def _mask_rcnn(heads: Mapping[str, Any], levels: Sequence[Level], classes: int) -> Part:
    """Heads on as many boxes as they are given at most, a quarter of which hold an object."""
    channels, inner, boxes = levels[0][0], heads["mask_channels"], heads["num_rois"]
    places = sum(side**2 for _, side in levels)
    proposals = _convs(places, channels, channels, heads["num_rpn_convs"]) + conv(places, channels, 15, 1)
    box = _convs(7**2, channels, inner, heads["num_box_convs"]) + linear(1, 7**2 * inner, heads["fc_width"])
    box += linear(1, heads["fc_width"], 1 + 5 * classes)
    mask = _convs(14**2, channels, inner, heads["num_mask_convs"])
    mask += conv(28**2, inner, inner, 1) + conv(28**2, inner, classes, 1)
    return proposals + box.passes(boxes) + mask.passes(boxes // 4)


def _segmentor(heads: Mapping[str, Any], levels: Sequence[Level], classes: int) -> Part:
    inner, (deepest, coarse), (finest, fine) = heads["channels"], levels[-1], levels[0]
    if inner is None:  # a linear classifier
        return conv(fine**2, finest, classes, 1)
    pooled = sum((conv(scale**2, deepest, inner, 1) for scale in heads["pool_scales"]), NOTHING)
    pooled += conv(coarse**2, deepest + len(heads["pool_scales"]) * inner, inner, 9)
    lateral = sum((conv(s**2, w, inner, 1) + conv(s**2, inner, inner, 9) for w, s in levels[:-1]), NOTHING)
    joined = conv(fine**2, len(levels) * inner, inner, 9) + conv(fine**2, inner, classes, 1)
    width, side = levels[heads["auxiliary_level"]]
    auxiliary = conv(side**2, width, heads["auxiliary_channels"], 9)
    return pooled + lateral + joined + auxiliary + conv(side**2, heads["auxiliary_channels"], classes, 1)


def _convs(places: int, inside: int, inner: int, number: int) -> Part:
    """So many 3 × 3 convolutions, one after the other."""
    first = conv(places, inside, inner, 9) if number else NOTHING
    return first + conv(places, inner, inner, 9) * max(0, number - 1)
