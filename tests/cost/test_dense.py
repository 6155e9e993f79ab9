"""Formulas of detection and segmentation against PyTorch's counter, part by part: boxes are as many as planned."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config import protocol_head
from pipeline.config.heads import PROTOCOL_HEAD, PROTOCOLS
from pipeline.config.sections import section
from pipeline.cost import dense
from pipeline.nn.encoders import build_encoder
from pipeline.tasks import detect, segment

CLASSES = 7


def protocol(name, model, **changes):
    assert protocol_head(name).needs == "maps"
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return section(PROTOCOLS / f"{name}.yaml", PROTOCOL_HEAD, "demo", changes, "the test", model=model)


def forward(settings, model):
    step = dense.step(settings, model, CLASSES)
    return step.embedded.forward + step.trained.forward


@pytest.fixture(autouse=True)
def unfused():
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        yield


WINDOWS = {"vit__window_size": 5, "vit__global_blocks": [1, 3], "vit__relative": "decomposed",
           "pyramid__scales": [4, 2, 1, 0.5], "pyramid__extra_levels": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "changes"),
    [("vit_micro", {}), ("vit_micro", WINDOWS), ("beit_micro", {}), ("resnet_micro", {})],
    ids=str,
)
@torch.no_grad()
def test_mask_rcnn_costs_what_the_counter_says(model, changes):
    settings = protocol("detect", model, **changes)
    detector = detect.build(settings, build_encoder(model, 16), CLASSES)
    heads, channels = settings["heads"], settings["pyramid"]["channels"]
    with FlopCounterMode(display=False) as count:
        detector.rpn_head(detector.backbone(torch.randn(1, 3, settings["image_size"], settings["image_size"])))
        detector.roi_head.bbox_head(torch.randn(heads["num_rois"], channels, 7, 7))
        detector.roi_head.mask_head(torch.randn(heads["num_rois"] // 4, channels, 14, 14))
    assert forward(settings, model) == pytest.approx(count.get_total_flops(), rel=1e-6)


@pytest.mark.parametrize("model", ["vit_micro", "beit_micro", "resnet_micro"])
@pytest.mark.parametrize("changes", [{}, {"heads__channels": None}], ids=["upernet", "linear"])
@torch.no_grad()
def test_segmentation_costs_what_the_counter_says(model, changes):
    settings = protocol("segment", model, **changes)
    segmentor = segment.build(settings, build_encoder(model, 16), CLASSES).eval()
    side = settings["crop"]["crop_size"]
    with FlopCounterMode(display=False) as count:
        maps = segmentor.backbone(torch.randn(1, 3, side, side))
        segmentor.decode_head(maps)
        if segmentor.with_auxiliary_head:
            segmentor.auxiliary_head(maps)
    assert forward(settings, model) == pytest.approx(count.get_total_flops(), rel=1e-6)
