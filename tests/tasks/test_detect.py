import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision.ops import roi_align

from pipeline.nn.encoders import build_encoder, load_encoder, save_encoder
from pipeline.tasks import detect
from pipeline.tasks.dense.precision import average_precision
from pipeline.tasks.dense.sets import DetectionSet, run_lengths
from pipeline.tasks.dense.transforms import LargeScaleJitter
from tests.tasks.dense.scenes import HEIGHT, WIDTH, write_detection

METRICS = {"box_ap", "box_ap50", "mask_ap", "mask_ap50"}


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What `evaluate` asks of a cell: the demo's protocol, two steps long, on tiny data."""
    root = tmp_path_factory.mktemp("detect")
    write_detection(root / "data" / "files")
    torch.manual_seed(0)
    save_encoder(build_encoder("vit_micro", 16), root / "encoder.safetensors")
    settings = yaml.safe_load(Path("config/tasks/detect.yaml").read_text())["demo"]
    settings |= {"image_size": 40, "num_pictures": 3, "eval_batch_size": 3}
    settings["train"] |= {"duration": "2 steps", "warmup": "1 steps", "batch_size": 2, "log_every": 1}
    settings["train"]["checkpoint_every"] = 1
    files = root / "work" / "files"
    files.mkdir(parents=True)
    return SimpleNamespace(
        settings=settings,
        data=root / "data",
        encoder=root / "encoder.safetensors",
        work=root / "work",
        files=files,
        seed=0,
    )


def test_two_steps_and_an_evaluation(cell: SimpleNamespace) -> None:
    found: dict[str, Any] = detect.evaluate(cell)
    assert {record["metric"] for record in found["records"]} == METRICS
    assert all(0 <= record["value"] <= 100 and record["count"] == 4 for record in found["records"])
    assert len((cell.files / "log.jsonl").read_text().splitlines()) == 2
    assert set(json.loads((cell.files / "per_class.json").read_text())) == {"red", "green"}
    with Image.open(cell.files.parent / found["pictures"][0]["path"]) as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(2**24)) > 500
    assert found["cost"]["samples"] == 4


def truth_as_results(content: dict[str, Any], crowds: bool = False) -> list[dict[str, Any]]:
    results = []
    for entry in content["annotations"]:
        if bool(entry["iscrowd"]) == crowds:
            lengths = run_lengths(entry["segmentation"], (HEIGHT, WIDTH))
            results.append(
                {
                    "image_id": entry["image_id"],
                    "category_id": entry["category_id"],
                    "bbox": list(entry["bbox"]),
                    "score": 0.9,
                    "segmentation": {"size": lengths["size"], "counts": lengths["counts"].decode()},
                }
            )
    return results


def test_the_truth_scores_a_hundred(cell: SimpleNamespace) -> None:
    content = DetectionSet(cell.data / "files", "val", None, 40, seed=0).content
    found = average_precision(content, truth_as_results(content))
    assert {metric: found[metric] for metric in METRICS} == dict.fromkeys(METRICS, pytest.approx(100.0))
    assert found["per_class"]["red"] == {"box_ap": pytest.approx(100.0), "mask_ap": pytest.approx(100.0)}


def test_what_lies_on_a_crowd_counts_for_nothing(cell: SimpleNamespace) -> None:
    content = DetectionSet(cell.data / "files", "val", None, 40, seed=0).content
    more = [{**result, "score": 0.99} for result in truth_as_results(content, crowds=True)]
    assert len(more) == 4
    assert average_precision(content, truth_as_results(content) + more)["box_ap"] == pytest.approx(100.0)
    # The same boxes where there is no crowd are mistakes.
    lonely = {**content, "annotations": [entry for entry in content["annotations"] if not entry["iscrowd"]]}
    assert average_precision(lonely, truth_as_results(content) + more)["box_ap"] < 90


def test_wrong_classes_missing_and_no_detections_cost(cell: SimpleNamespace) -> None:
    content = DetectionSet(cell.data / "files", "val", None, 40, seed=0).content
    results = truth_as_results(content)
    swapped = [{**result, "category_id": 12 - result["category_id"]} for result in results]
    assert average_precision(content, swapped)["box_ap"] == 0
    assert 45 < average_precision(content, results[::2])["mask_ap"] < 55
    assert average_precision(content, [])["mask_ap50"] == 0


def test_boxes_and_masks_come_back_to_the_size_of_the_file(cell: SimpleNamespace) -> None:
    """With a model that answers in the resized image, results must be in pixels of the file."""
    data = DetectionSet(cell.data / "files", "val", None, 80, seed=0)
    model = detect.build(cell.settings | {"image_size": 80}, load_encoder(cell.encoder), 2)
    for parameter in model.roi_head.bbox_head.fc_cls.parameters():
        torch.nn.init.zeros_(parameter)
    results = detect.detect(model, data, batch_size=2)
    assert results and {result["image_id"] for result in results} <= {7, 8, 9, 10}
    for result in results:
        left, top, width, height = result["bbox"]
        assert left >= -1e-3 and left + width <= 40 + 1e-3 and top + height <= 32 + 1e-3
        assert coco_mask.decode(result["segmentation"]).shape == (32, 40)
    assert max(result["bbox"][0] + result["bbox"][2] for result in results) > 30


def test_the_batch_is_normalised_and_filled_to_a_square(cell: SimpleNamespace) -> None:
    jitter = LargeScaleJitter(crop_size=40, scale=(0.5, 0.9), flip=False)
    data = DetectionSet(cell.data / "files", "train", jitter, 40, seed=0)
    model = detect.build(cell.settings, load_encoder(cell.encoder), 2)
    scenes = [data[0, 0], data[0, 1]]
    batch = model.data_preprocessor(detect.pack(scenes), training=True)
    assert batch["inputs"].shape == (2, 3, 40, 40)
    height, width = scenes[0].image.shape[:2]
    expected = (scenes[0].image[0, 0] / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert batch["inputs"][0, :, 0, 0].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    assert (batch["inputs"][0, :, height:] == 0).all() and (batch["inputs"][0, :, :, width:] == 0).all()
    assert batch["data_samples"][0].gt_instances.masks.masks.shape[1:] == (40, 40)


def test_it_learns_in_bfloat16(cell: SimpleNamespace) -> None:
    jitter = LargeScaleJitter(crop_size=40, scale=(1.0, 1.0), flip=False)
    data = DetectionSet(cell.data / "files", "train", jitter, 40, seed=0)
    torch.manual_seed(0)
    model = detect.build(cell.settings, load_encoder(cell.encoder), 2)
    batch = model.data_preprocessor(detect.pack([data[0, 0], data[0, 1]]), training=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(6):
        with torch.autocast("cpu", torch.bfloat16):
            loss, parts = model.parse_losses(model._run_forward(batch, mode="loss"))
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(parts["loss_rpn_cls"].item())
    assert losses[-1] < losses[0] - 0.03


def test_the_protocol_of_the_paper_is_vitdet() -> None:
    paper = yaml.safe_load(Path("config/tasks/detect.yaml").read_text())["paper"]
    assert [round(share * 184375) for share in paper["train"]["milestones"]] == pytest.approx([163889, 177546], abs=1)
    vit = paper["vit"] | {"relative": "none"}  # its tables are sized for 1024 pixels: too large for a test
    assert (vit["window_size"], vit["global_blocks"]) == (14, [2, 5, 8, 11])
    encoder = build_encoder("vit_micro", 16)
    with pytest.raises(ValueError, match=r"blocks \[5, 8, 11\]"):
        detect.build(paper, encoder, 80)
    model = detect.build(paper | {"vit": vit | {"global_blocks": [2]}}, encoder, 80)
    assert model.backbone.strides == [1, 2, 4, 8, 16] and model.backbone.channels == [256] * 5
    assert len(model.rpn_head.rpn_conv) == 2
    assert len(model.roi_head.bbox_head.shared_convs) == 4 and len(model.roi_head.bbox_head.shared_fcs) == 1
    assert type(model.roi_head.bbox_head.shared_convs[0].norm).__name__ == "LayerNorm2d"
    assert type(model.roi_head.mask_head.convs[0].norm).__name__ == "LayerNorm2d"


def test_boxes_see_their_own_place_of_the_map(cell: SimpleNamespace) -> None:
    """mmcv's RoIAlign reads a transposed map as if it were contiguous, and says nothing."""
    torch.manual_seed(0)
    settings = cell.settings | {"heads": cell.settings["heads"] | {"roi_samples": 2}}
    model = detect.build(settings, load_encoder(cell.encoder), 2).eval()
    maps = model.backbone(torch.randn(2, 3, 40, 40))
    boxes = torch.tensor([[0, 4.0, 4, 30, 20], [1, 10.0, 2, 16, 38]])
    fine = len(model.backbone.strides) - model.backbone.extra_levels
    assert fine == 1
    expected = roi_align(maps[0], boxes, 7, 1 / model.backbone.strides[0], sampling_ratio=2, aligned=True)
    torch.testing.assert_close(model.roi_head.bbox_roi_extractor(maps[:fine], boxes), expected, atol=1e-5, rtol=1e-4)
