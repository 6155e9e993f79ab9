"""Detection: Mask R-CNN on the pretrained encoder, box and mask AP as COCO defines them.

He et al., "Mask R-CNN", ICCV 2017, arXiv:1703.06870, as mmdet has it, with the simple feature pyramid and the heads of
Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet), ECCV 2022, arXiv:2203.16527.

Departures: biases are spared weight decay, as everywhere in this project, where ViTDet spares norms and the position
table alone, and for ViT-H nothing; masks are cut from bitmaps, not from polygons, before they are compared; autocast
is to bfloat16, not float16. MAE's own table used the longer-known recipe of arXiv:2111.11429, whose rates were searched
for each entry; ViTDet's is the one that can be repeated.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmdet.models.data_preprocessors.data_preprocessor import DetDataPreprocessor
from mmdet.models.dense_heads.rpn_head import RPNHead
from mmdet.models.detectors.mask_rcnn import MaskRCNN
from mmdet.models.losses.cross_entropy_loss import CrossEntropyLoss
from mmdet.models.losses.smooth_l1_loss import L1Loss
from mmdet.models.roi_heads.bbox_heads.convfc_bbox_head import ConvFCBBoxHead
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors.single_level_roi_extractor import SingleRoIExtractor
from mmdet.models.roi_heads.standard_roi_head import StandardRoIHead
from mmdet.models.task_modules.assigners.iou2d_calculator import BboxOverlaps2D
from mmdet.models.task_modules.assigners.max_iou_assigner import MaxIoUAssigner
from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import DeltaXYWHBBoxCoder
from mmdet.models.task_modules.prior_generators.anchor_generator import AnchorGenerator
from mmdet.models.task_modules.samplers.random_sampler import RandomSampler
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine import dist
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from timm.layers import LayerNorm2d
from torch import nn

from pipeline.cell import Cell
from pipeline.data.transforms import MEAN, STD
from pipeline.engine.optim import TOKENS
from pipeline.engine.processes import connect
from pipeline.engine.sharing import gather_objects, share_out
from pipeline.engine.train import train
from pipeline.files import write_atomic, written
from pipeline.nn.encoders import load_encoder
from pipeline.tasks.dense.backbone import ViTOptions
from pipeline.tasks.dense.pictures import draw_objects, gallery
from pipeline.tasks.dense.precision import IOU_TYPES, average_precision
from pipeline.tasks.dense.pyramid import Pyramid, PyramidOptions, pyramid
from pipeline.tasks.dense.sets import DetectionSet, Scene
from pipeline.tasks.dense.transforms import LargeScaleJitter

NORM = {"type": LayerNorm2d, "eps": 1e-6}  # in all heads but the RPN's, as in ViTDet
DRAWN = 0.3  # score from which a detection is drawn


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """Sizes of Mask R-CNN's heads, and how many boxes they see.

    anchor_scale: side of an anchor in strides of its level.
    num_rpn_convs, num_box_convs, num_mask_convs: 3 × 3 convolutions.
    mask_channels, fc_width: width of the box and mask convolutions, and of the box head's one linear layer.
    num_anchors: anchors per image in the RPN's loss; num_rois: boxes per image in the heads' loss.
    num_train_before_nms, num_train_proposals: per level before suppression and per image after it, in training.
    num_test_proposals: both, in evaluation.
    roi_samples: points along a side of each bin of RoIAlign; 0 for as many as the box's size asks for.
    score_threshold: of detections; num_detections: most per image.
    """

    anchor_scale: int
    num_rpn_convs: int
    num_box_convs: int
    num_mask_convs: int
    mask_channels: int
    fc_width: int
    num_anchors: int
    num_rois: int
    num_train_before_nms: int
    num_train_proposals: int
    num_test_proposals: int
    roi_samples: int
    score_threshold: float
    num_detections: int


def mask_rcnn(backbone: Pyramid, num_classes: int, image_size: int, options: HeadOptions) -> MaskRCNN:
    """mmdet's Mask R-CNN over a pyramid.

    Args:
        backbone: maps of equal width.
        num_classes: without the background.
        image_size: side to which all inputs are filled up, in pixels.
        options: of the heads.
    """
    channels, strides = backbone.channels[0], backbone.strides
    fine = strides[: len(strides) - backbone.extra_levels]  # RoIs are never taken from a max-pooled level
    size = options.num_test_proposals

    def extractor(output_size: int) -> dict[str, Any]:
        return {
            "type": SingleRoIExtractor,
            "roi_layer": {
                "type": "RoIAlign",
                "output_size": output_size,
                "sampling_ratio": options.roi_samples,
            },
            "out_channels": channels,
            "featmap_strides": fine,
            "finest_scale": 14 * fine[0],  # 56 pixels at stride 4
        }

    def assigner(positive: float, negative: float, match_low_quality: bool) -> dict[str, Any]:
        return {
            "type": MaxIoUAssigner,
            "pos_iou_thr": positive,
            "neg_iou_thr": negative,
            "min_pos_iou": negative,
            "match_low_quality": match_low_quality,
            "ignore_iof_thr": -1,
            "iou_calculator": {"type": BboxOverlaps2D},
        }

    def sampler(num: int, share: float, with_truth: bool) -> dict[str, Any]:
        return {
            "type": RandomSampler,
            "num": num,
            "pos_fraction": share,
            "neg_pos_ub": -1,
            "add_gt_as_proposals": with_truth,
        }

    def coder(*stds: float) -> dict[str, Any]:
        return {"type": DeltaXYWHBBoxCoder, "target_means": [0.0] * 4, "target_stds": list(stds)}

    def proposals(before: int, after: int) -> dict[str, Any]:
        nms = {"type": "nms", "iou_threshold": 0.7}
        return {"nms_pre": before, "max_per_img": after, "nms": nms, "min_bbox_size": 0}

    model = MaskRCNN(
        data_preprocessor=ConfigDict(
            type=DetDataPreprocessor,
            mean=[255 * value for value in MEAN],
            std=[255 * value for value in STD],
            pad_size_divisor=image_size,  # no image is larger: all are filled up to this square
            pad_mask=True,
        ),
        backbone=ConfigDict(type=lambda: backbone),
        rpn_head=ConfigDict(
            type=RPNHead,
            in_channels=channels,
            feat_channels=channels,
            num_convs=options.num_rpn_convs,
            anchor_generator={
                "type": AnchorGenerator,
                "scales": [options.anchor_scale],
                "ratios": [0.5, 1.0, 2.0],
                "strides": strides,
            },
            bbox_coder=coder(1.0, 1.0, 1.0, 1.0),
            loss_cls={"type": CrossEntropyLoss, "use_sigmoid": True, "loss_weight": 1.0},
            loss_bbox={"type": L1Loss, "loss_weight": 1.0},
        ),
        roi_head=ConfigDict(
            type=StandardRoIHead,
            bbox_roi_extractor=extractor(7),
            bbox_head={
                "type": ConvFCBBoxHead,
                "num_shared_convs": options.num_box_convs,
                "num_shared_fcs": 1,
                "in_channels": channels,
                "conv_out_channels": options.mask_channels,
                "fc_out_channels": options.fc_width,
                "roi_feat_size": 7,
                "num_classes": num_classes,
                "norm_cfg": NORM,
                "bbox_coder": coder(0.1, 0.1, 0.2, 0.2),
                "reg_class_agnostic": False,
                "cls_predictor_cfg": {"type": nn.Linear},  # the default is a name, found in mmengine's scope only
                "reg_predictor_cfg": {"type": nn.Linear},
                "loss_cls": {"type": CrossEntropyLoss, "use_sigmoid": False, "loss_weight": 1.0},
                "loss_bbox": {"type": L1Loss, "loss_weight": 1.0},
            },
            mask_roi_extractor=extractor(14),
            mask_head={
                "type": FCNMaskHead,
                "num_convs": options.num_mask_convs,
                "in_channels": channels,
                "conv_out_channels": options.mask_channels,
                "num_classes": num_classes,
                "norm_cfg": NORM,
                "loss_mask": {"type": CrossEntropyLoss, "use_mask": True, "loss_weight": 1.0},
            },
        ),
        train_cfg=ConfigDict(
            rpn={
                "assigner": assigner(0.7, 0.3, True),
                "sampler": sampler(options.num_anchors, 0.5, False),
                "allowed_border": -1,
                "pos_weight": -1,
                "debug": False,
            },
            rpn_proposal=proposals(options.num_train_before_nms, options.num_train_proposals),
            rcnn={
                "assigner": assigner(0.5, 0.5, False),
                "sampler": sampler(options.num_rois, 0.25, True),
                "mask_size": 28,
                "pos_weight": -1,
                "debug": False,
            },
        ),
        test_cfg=ConfigDict(
            rpn=proposals(size, size),
            rcnn={
                "score_thr": options.score_threshold,
                "nms": {"type": "nms", "iou_threshold": 0.5},
                "max_per_img": options.num_detections,
                "mask_thr_binary": 0.5,
            },
        ),
    )
    for head in (model.rpn_head, model.roi_head.bbox_head, model.roi_head.mask_head):
        head.register_forward_hook(_in_float32)
    MMLogger.get_current_instance().setLevel("WARNING")  # or it tells of each weight's initialisation
    model.init_weights()
    return model


def build(settings: Mapping[str, Any], encoder: Any, num_classes: int) -> MaskRCNN:
    """The detector of a protocol over a pretrained encoder."""
    backbone = pyramid(
        encoder,
        ViTOptions(**settings["vit"]),
        PyramidOptions(**settings["pyramid"]),
        image_size=settings["image_size"],
        shrink=True,
    )
    return mask_rcnn(backbone, num_classes, settings["image_size"], HeadOptions(**settings["heads"]))


def pack(scenes: Sequence[Scene]) -> dict[str, Any]:
    """A batch in mmdet's words, uint8 images of different sizes and data samples; collates a training batch."""
    samples = []
    for scene in scenes:
        height, width = scene.image.shape[:2]
        sample = DetDataSample(
            metainfo={
                "img_id": scene.image_id,
                "img_shape": (height, width),
                "ori_shape": scene.size,
                "scale_factor": (width / scene.size[1], height / scene.size[0]),
            }
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.from_numpy(scene.boxes),
            labels=torch.from_numpy(scene.labels),
            masks=BitmapMasks(scene.masks, height, width),
        )
        samples.append(sample)
    images = [torch.from_numpy(scene.image).permute(2, 0, 1) for scene in scenes]
    return {"inputs": images, "data_samples": samples}


def detect(model: MaskRCNN, data: DetectionSet, batch_size: int) -> list[dict[str, Any]]:
    """Detections of a whole split as COCO's result format has them; all processes call it and share the work."""
    model.eval()
    batches = [range(first, min(first + batch_size, len(data))) for first in range(0, len(data), batch_size)]
    own = [_detect_batch(model, data, batch) for batch in share_out(batches)]
    return [result for results in gather_objects(own, len(batches)) for result in results]


def _detect_batch(model: MaskRCNN, data: DetectionSet, batch: Sequence[int]) -> list[dict[str, Any]]:
    scenes = [data[0, index] for index in batch]
    with torch.no_grad():
        found = model.test_step(pack(scenes))
    results: list[dict[str, Any]] = []
    for scene, sample in zip(scenes, found, strict=True):
        objects = sample.pred_instances.cpu()
        masks = np.asfortranarray(objects.masks.numpy().astype(np.uint8).transpose(1, 2, 0))
        lengths = coco_mask.encode(masks)
        for box, score, label, mask in zip(objects.bboxes, objects.scores, objects.labels, lengths, strict=True):
            left, top, right, bottom = box.tolist()
            results.append(
                {
                    "image_id": scene.image_id,
                    "category_id": data.category_ids[int(label)],
                    "bbox": [left, top, right - left, bottom - top],
                    "score": float(score),
                    "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
                }
            )
    return results


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Train a detector on the training split, measure it on the validation split."""
    connect()
    settings, folder = cell.settings, cell.data / "files"
    size = settings["image_size"]
    jitter = LargeScaleJitter(crop_size=size, scale=tuple(settings["jitter"]), flip=settings["flip"])
    scenes = DetectionSet(folder, "train", jitter, size, cell.seed)
    torch.manual_seed(cell.seed)
    model = build(settings, load_encoder(cell.encoder, drop_path=settings["drop_path"]), len(scenes.classes))
    cost = train(
        model,
        scenes,
        settings["train"],
        work=cell.work,
        files=cell.files,
        seed=cell.seed,
        no_decay=TOKENS,
        layers=model.backbone.layers,
        collate=pack,
    )
    val = DetectionSet(folder, "val", None, size, cell.seed)
    results = detect(model, val, settings["eval_batch_size"])
    if not dist.is_main_process():
        return None
    found = average_precision(val.content, results)
    write_atomic(cell.files / "per_class.json", json.dumps(found["per_class"], indent=1))
    with written(cell.files / "detections.png") as path:
        draw_detections(val, results, settings["num_pictures"]).save(path)
    return {"records": records(found, len(val)), "pictures": [PICTURE], "cost": cost}


PICTURE = {
    "path": "files/detections.png",
    "caption": "Validation images with the true objects (left of each pair) and the objects found with a score of "
    f"at least {DRAWN} (right).",
}


def records(found: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Records of what `average_precision` found on `count` images."""
    metrics = [f"{kind}_{measure}" for kind in IOU_TYPES for measure in ("ap", "ap50")]
    common = {"unit": "%", "higher_is_better": True, "count": count}
    intervals = found["intervals"]
    return [
        {"metric": metric, "value": round(found[metric], 4), **common, "interval": intervals.get(metric)}
        for metric in metrics
    ]


def draw_detections(data: DetectionSet, results: Sequence[Mapping[str, Any]], num_pictures: int) -> Any:
    """The first images of a split, truth beside detections."""
    place = {category: index for index, category in enumerate(data.category_ids)}
    pairs = []
    for index in range(min(num_pictures, len(data))):
        truth = data.truth(index)
        mine = [r for r in results if r["image_id"] == truth.image_id and r["score"] >= DRAWN]
        mine.sort(key=lambda result: result["score"])  # the surest is drawn last, on top
        found = [(place[r["category_id"]], r["score"], coco_mask.decode(r["segmentation"]), r["bbox"]) for r in mine]
        true = [
            (int(label), None, mask, [box[0], box[1], box[2] - box[0], box[3] - box[1]])
            for label, mask, box in zip(truth.labels, truth.masks, truth.boxes.tolist(), strict=True)
        ]
        pairs.append((draw_objects(truth.image, true, data.classes), draw_objects(truth.image, found, data.classes)))
    return gallery(pairs, ("truth", "detected"))


def _in_float32(head: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Under autocast the heads' convolutions give bfloat16, which mmcv's suppression of boxes does not know."""
    if isinstance(outputs, torch.Tensor):
        return outputs.float()
    return type(outputs)(_in_float32(head, None, part) for part in outputs)
