"""Segmentation: UPerNet, or a linear classifier, on the pretrained encoder, mean intersection over union.

Xiao et al., "Unified Perceptual Parsing", ECCV 2018, arXiv:1807.10221, as mmseg has it, on rescaled taps of a plain ViT
with relative position bias and LayerScale added for transfer: Bao et al. (BEiT), arXiv:2106.08254, whom He et al. 2022
(arXiv:2111.06377), appendix A.4, follow. C classes.

Departures: MAE trained for 100 epochs with rates searched for each entry and not published; the numbers are those of
the reproduction that reaches its ViT-B (see the protocol). ViT-L's taps and rates are dBOT's. Autocast is to bfloat16.
Class token and positions are decayed as in that code, whose list of exceptions misses them; `decay_tokens` spares them.
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from mmengine import dist
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.structures import PixelData
from mmseg.evaluation.metrics import IoUMetric
from mmseg.models.data_preprocessor import SegDataPreProcessor
from mmseg.models.decode_heads.fcn_head import FCNHead
from mmseg.models.decode_heads.uper_head import UPerHead
from mmseg.models.losses.cross_entropy_loss import CrossEntropyLoss
from mmseg.models.segmentors.encoder_decoder import EncoderDecoder
from mmseg.structures import SegDataSample
from PIL import Image
from torch import nn

from pipeline.cell import Cell
from pipeline.data.transforms import MEAN, STD
from pipeline.engine.optim import TOKENS
from pipeline.engine.processes import connect
from pipeline.engine.sharing import gather_objects, share_out
from pipeline.engine.train import train
from pipeline.files import write_atomic, written
from pipeline.nn.encoders import load_encoder
from pipeline.statistics import percentile_interval, resamples
from pipeline.tasks.dense.backbone import ViTOptions
from pipeline.tasks.dense.pictures import draw_labels, gallery, palette
from pipeline.tasks.dense.pyramid import Pyramid, PyramidOptions, pyramid
from pipeline.tasks.dense.sets import IGNORE, Labelled, SegmentationSet
from pipeline.tasks.dense.transforms import SceneCrop

RESAMPLES = 1000

PICTURE = {
    "path": "files/segmentations.png",
    "caption": "Validation images with the true classes (left of each pair; black where they are ignored) and the "
    "predicted ones (right).",
}


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """Sizes of the heads, and the windows of evaluation.

    channels: width of UPerNet; None for a linear classifier of the first level's pixels in its place, and no auxiliary
        head: Strudel et al. (Segmenter), ICCV 2021, arXiv:2105.05633, sec. 3.2.
    pool_scales: bins of its pyramid pooling.
    auxiliary_channels, auxiliary_weight, auxiliary_level: width, weight in the loss and level of the auxiliary head.
    dropout: before the classifiers.
    stride: of the windows, one crop in size, that evaluation slides over an image, in pixels.
    """

    channels: int | None
    pool_scales: Sequence[int]
    auxiliary_channels: int
    auxiliary_weight: float
    auxiliary_level: int
    dropout: float
    stride: int


def segmentor(backbone: Pyramid, num_classes: int, crop_size: int, options: HeadOptions) -> EncoderDecoder:
    """mmseg's UPerNet over a pyramid, or a linear classifier.

    Args:
        backbone: maps, finest first.
        num_classes: C.
        crop_size: side of a training crop and of an evaluation window, in pixels.
        options: of the heads.
    """
    common = {
        "num_classes": num_classes,
        "dropout_ratio": options.dropout,
        "norm_cfg": {"type": _batch_norm()},
        "align_corners": False,
        "ignore_index": IGNORE,
    }

    def loss(weight: float) -> dict[str, Any]:
        return {"type": CrossEntropyLoss, "use_sigmoid": False, "loss_weight": weight}

    if options.channels is None:
        width = backbone.channels[0]
        linear = {"type": FCNHead, "in_channels": width, "channels": width, "in_index": 0, "num_convs": 0}
        heads = {"decode_head": ConfigDict(**linear, concat_input=False, loss_decode=loss(1.0), **common)}
    else:
        heads = {
            "decode_head": ConfigDict(
                type=UPerHead,
                in_channels=backbone.channels,
                in_index=list(range(len(backbone.channels))),
                pool_scales=tuple(options.pool_scales),
                channels=options.channels,
                loss_decode=loss(1.0),
                **common,
            ),
            "auxiliary_head": ConfigDict(
                type=FCNHead,
                in_channels=backbone.channels[options.auxiliary_level],
                in_index=options.auxiliary_level,
                channels=options.auxiliary_channels,
                num_convs=1,
                concat_input=False,
                loss_decode=loss(options.auxiliary_weight),
                **common,
            ),
        }
    # As in BEiT's code the loss is averaged over all pixels, ignored ones included; mmseg warns of that.
    warnings.filterwarnings("ignore", "Default ``avg_non_ignore`` is False")
    model = EncoderDecoder(
        data_preprocessor=ConfigDict(
            type=SegDataPreProcessor,
            mean=[255 * value for value in MEAN],
            std=[255 * value for value in STD],
            size=(crop_size, crop_size),
            seg_pad_val=IGNORE,
        ),
        backbone=ConfigDict(type=lambda: backbone),
        **heads,
        train_cfg=ConfigDict(),
        test_cfg=ConfigDict(mode="slide", crop_size=(crop_size, crop_size), stride=(options.stride, options.stride)),
    )
    MMLogger.get_current_instance().setLevel("WARNING")  # or it tells of each weight's initialisation
    model.init_weights()
    return model


def build(settings: Mapping[str, Any], encoder: Any, num_classes: int) -> EncoderDecoder:
    """The segmentor of a protocol over a pretrained encoder."""
    backbone = pyramid(
        encoder,
        ViTOptions(**settings["vit"]),
        PyramidOptions(**settings["pyramid"]),
        image_size=settings["crop"]["crop_size"],
        shrink=False,
        norm=_batch_norm(),
    )
    return segmentor(backbone, num_classes, settings["crop"]["crop_size"], HeadOptions(**settings["heads"]))


def pack(images: Sequence[Labelled]) -> dict[str, Any]:
    """A batch in mmseg's words: uint8 images and data samples."""
    samples = []
    for image in images:
        shape = image.image.shape[:2]
        sample = SegDataSample(metainfo={"img_shape": shape, "ori_shape": image.size, "pad_shape": shape})
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(image.labels.astype(np.int64))[None])
        samples.append(sample)
    return {
        "inputs": [torch.from_numpy(image.image).permute(2, 0, 1) for image in images],
        "data_samples": samples,
    }


def predict(model: EncoderDecoder, data: SegmentationSet, indices: Sequence[int]) -> list[np.ndarray]:
    """Predicted classes of images that are alike in size, each at its own size, (H, W) uint8."""
    batch = pack([data[0, index] for index in indices])
    with torch.no_grad():
        return [sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8) for sample in model.test_step(batch)]


def areas(predicted: np.ndarray, true: np.ndarray, num_classes: int) -> torch.Tensor:
    """(4, C) float64 pixels of each class: hit, in the union, predicted, true; where 255 is true they are left out."""
    pair = torch.tensor(predicted), torch.tensor(true)
    return torch.stack(IoUMetric.intersect_and_union(*pair, num_classes, IGNORE)).double()


def scores(areas: torch.Tensor) -> dict[str, Any]:
    """Measures in percent, by mmseg.

    Args:
        areas: (4, C) over all pixels of a split.

    Returns:
        miou and macc, means over the classes that occur (among predictions too, for miou); aacc, the share of correct
        pixels; iou and accuracy, (C,) with nan where a class does not occur.
    """
    found = {name: 100 * value for name, value in IoUMetric.total_area_to_metrics(*areas).items()}
    means = {"miou": np.nanmean(found["IoU"]), "macc": np.nanmean(found["Acc"]), "aacc": found["aAcc"]}
    return {name: float(value) for name, value in means.items()} | {"iou": found["IoU"], "accuracy": found["Acc"]}


def intervals(areas: torch.Tensor) -> dict[str, tuple[float, float]]:
    """The intervals of 95 % of miou, macc and aacc, in percent: the bootstrap over images.

    Args:
        areas: (N, 4, C) of each image of a split.
    """
    drawn = torch.tensor(resamples(len(areas), RESAMPLES)).double() @ areas.flatten(1)
    hit, union, _, true = drawn.unflatten(1, areas.shape[1:]).unbind(dim=1)
    values = {"miou": (hit / union).nanmean(dim=1), "macc": (hit / true).nanmean(dim=1)}
    values["aacc"] = hit.sum(dim=1) / true.sum(dim=1)
    return {name: percentile_interval(100 * value.numpy()) for name, value in values.items()}


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Train a segmentor on the training split, measure it on the validation split."""
    connect()
    settings, folder = cell.settings, cell.data / "files"
    crop = SceneCrop(**{**settings["crop"], "ratio": tuple(settings["crop"]["ratio"])})
    scenes = SegmentationSet(folder, "train", crop, cell.seed)
    torch.manual_seed(cell.seed)
    model = build(settings, load_encoder(cell.encoder, drop_path=settings["drop_path"]), len(scenes.classes))
    cost = train(
        model,
        scenes,
        settings["train"],
        work=cell.work,
        files=cell.files,
        seed=cell.seed,
        no_decay=() if settings["decay_tokens"] else TOKENS,
        layers=model.backbone.layers,
        collate=pack,
    )
    val = SegmentationSet(folder, "val", crop, cell.seed, evaluate=True)
    model.eval()
    batches = list(alike(val.packed.sizes.tolist(), settings["eval_batch_size"]))
    own = [_measure(model, val, indices, settings["num_pictures"]) for indices in share_out(batches)]
    measured = gather_objects(own, len(batches))
    if not dist.is_main_process():
        return None
    pixels = torch.cat([of_each for of_each, _ in measured])  # batches are of neighbours, one after the other
    drawn = [pair for _, pairs in measured for pair in pairs]
    found = scores(pixels.sum(dim=0)) | {"intervals": intervals(pixels)}
    write_atomic(cell.files / "per_class.json", json.dumps(per_class(found, val.classes), indent=1))
    legend = list(zip(val.classes, palette(len(val.classes)), strict=True))
    shown = legend if len(legend) <= 24 else [legend[label] for label in pixels[:, 3].sum(dim=0).nonzero()[:24, 0]]
    picture: Image.Image = gallery(drawn, ("truth", "predicted"), shown)
    with written(cell.files / "segmentations.png") as path:
        picture.save(path)
    return {"records": records(found, len(val)), "pictures": [PICTURE], "cost": cost}


def _measure(
    model: EncoderDecoder, data: SegmentationSet, indices: Sequence[int], num_pictures: int
) -> tuple[torch.Tensor, list[tuple[Image.Image, ...]]]:
    """(B, 4, C) areas of images that are alike in size, and pictures of those that are shown."""
    pixels, drawn, classes = [], [], len(data.classes)
    for index, predicted in zip(indices, predict(model, data, indices), strict=True):
        true = data.labels(index)
        pixels.append(areas(predicted, true, classes))
        if index < num_pictures:
            image = data.original(index)
            drawn.append(tuple(draw_labels(image, map_, classes, IGNORE) for map_ in (true, predicted)))
    return torch.stack(pixels), drawn


def alike(sizes: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Batches of neighbours of equal size: windows slide over a batch as over one image."""
    for _, group in groupby(range(len(sizes)), key=lambda index: tuple(sizes[index])):
        indices = list(group)
        yield from (indices[first : first + batch_size] for first in range(0, len(indices), batch_size))


def records(found: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Records of what `scores` found on `count` images."""
    common = {"unit": "%", "higher_is_better": True, "count": count}
    return [
        {"metric": metric, "value": round(found[metric], 4), **common, "interval": found["intervals"][metric]}
        for metric in ("miou", "macc", "aacc")
    ]


def per_class(found: Mapping[str, Any], classes: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Measures of each class, None where it does not occur."""
    rows = zip(classes, found["iou"].tolist(), found["accuracy"].tolist(), strict=True)
    return {
        name: {"iou": None if np.isnan(iou) else iou, "accuracy": None if np.isnan(accuracy) else accuracy}
        for name, iou, accuracy in rows
    }


def _batch_norm() -> type[nn.Module]:
    """Batch norm over all devices where there are several; on CPUs PyTorch has none that is synchronised."""
    return nn.SyncBatchNorm if dist.is_distributed() and torch.cuda.is_available() else nn.BatchNorm2d
