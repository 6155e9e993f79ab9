"""Few-shot segmentation of faces: a small head on frozen codes learns the classes of faces from few labelled parts.

Jones et al. 2023 (arXiv:2210.10807), §4.1. Of n parts drawn at random four fifths train the head and the rest says when
to stop; every run sees the same subsets. F faces, C classes.

Three measures that are not the same: part-mean accuracy, the share of rightly told faces of a part, averaged over
parts; face accuracy, that of all faces; and mean IoU, TP / (TP + FP + FN) of each class over all faces, averaged over
the classes that occur or are told.
"""

import time
from typing import Any

import torch
from mmengine import dist
from torch import Tensor

from pipeline.cell import Cell
from pipeline.config import ConfigError
from pipeline.data.solids import Parts
from pipeline.engine.processes import connect
from pipeline.files import written
from pipeline.nn.encoders import load_encoder
from pipeline.tasks.few_shot import generator_of, publish_curve, records, run_subsets
from pipeline.tasks.solids.codes import Coded, encode
from pipeline.tasks.solids.decoder import decoder_of
from pipeline.tasks.solids.drawing import decoded_solid, montage, true_solid
from pipeline.tasks.solids.heads import SegmentationHead, fit_head

METRICS = {"part_accuracy": "part-mean accuracy", "face_accuracy": "face accuracy", "mean_iou": "mean IoU"}
SHOWN = 6  # parts in the picture


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Records, pictures and the cost of one cell."""
    connect()
    settings, started = cell.settings, time.monotonic()
    train, val = (Parts(cell.data, split) for split in ("train", "val"))
    if not train.face_classes:
        raise ConfigError(f"the faces of {cell.data} have no classes to be told apart; name a labelled set: data: ...")
    num_classes, encoder = len(train.face_classes), load_encoder(cell.encoder)
    coded, test = (encode(encoder, parts, settings["encode_batch_size"]) for parts in (train, val))

    def measure(size: int, number: int) -> dict[str, Any]:
        generator = generator_of(cell.seed, size, number)
        chosen = torch.randperm(len(train), generator=generator)[:size].tolist()
        held = max(1, round(size * settings["holdout_share"]))
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        head = SegmentationHead(settings["width"], settings["depth"], num_classes)
        head = fit_head(head, coded, chosen[held:], chosen[:held], face_labels, settings, generator)
        with torch.no_grad():
            told = head(test).argmax(dim=1)
        shown = told[test.owner < SHOWN].tolist()
        return {**scores(told, test, num_classes), "shown": shown}

    sizes = sorted({min(size, len(train)) for size in settings["sizes"]})
    found = run_subsets(cell, sizes, settings["num_subsets"], measure)
    if not dist.is_main_process():
        return None
    pictures = [publish_curve(cell, found, METRICS), _picture(cell, val, test, found[sizes[-1]][0]["shown"], sizes[-1])]
    return {
        "records": records(found, list(METRICS), "part_accuracy"),
        "pictures": pictures,
        "cost": {"seconds": round(time.monotonic() - started, 3), "samples": len(train) + len(val), "unit": "parts"},
    }


def face_labels(coded: Coded) -> Tensor:
    """What a head learns to tell."""
    return coded.face_labels


def scores(told: Tensor, test: Coded, num_classes: int) -> dict[str, float]:
    """The three measures in %.

    Args:
        told: (F,) classes.
    """
    true, right = test.face_labels, (told == test.face_labels).double()
    num_parts = len(test.labels)
    of_part = torch.zeros(num_parts, dtype=torch.float64).index_add(0, test.owner, right)
    by_part = of_part / torch.bincount(test.owner, minlength=num_parts)
    pairs = torch.bincount(true * num_classes + told, minlength=num_classes**2).view(num_classes, num_classes).double()
    hits, union = pairs.diagonal(), pairs.sum(0) + pairs.sum(1) - pairs.diagonal()
    ious = (hits / union)[union > 0]
    return {
        "part_accuracy": 100 * float(by_part.mean()),
        "face_accuracy": 100 * float(right.mean()),
        "mean_iou": 100 * float(ious.mean()),
    }


def _picture(cell: Cell, val: Parts, test: Coded, told: list[int], size: int) -> dict[str, str]:
    """Parts with their true classes, with those told, and, where the run has a decoder, redrawn from their codes."""
    decode, rows, first = decoder_of(cell), list[list[Any]](), 0
    for index in range(min(SHOWN, len(val))):
        part = val.part(index)
        labels = told[first : first + len(part["labels"])]
        row = [true_solid(part, part["labels"].tolist()), true_solid(part, labels)]
        if decode is not None:
            row.append(decoded_solid(decode, test.codes[test.owner == index], labels))
        rows.append(row)
        first += len(labels)
    with written(cell.files / "solids.png") as path:
        montage(list(zip(*rows, strict=True))).save(path, optimize=True)
    said = f"from top to bottom: true classes of faces; classes told after {size} parts"
    said += "; redrawn by the decoder" if decode is not None else ""
    return {"path": "files/solids.png", "caption": said}
