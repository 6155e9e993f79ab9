"""Weighted k-nearest neighbours on frozen features.

Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018, arXiv:1805.01978,
with the settings of DINO (Caron et al. 2021, arXiv:2104.14294): a validation image is classified by the votes of its
k nearest training images, each weighted by exp(cosine similarity / temperature).
M validation and N training images, D encoder width, C classes.
"""

import time
from typing import Any

import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.device import get_device
from torch import Tensor

from pipeline.cell import Cell
from pipeline.engine.processes import connect
from pipeline.engine.sharing import gather, share_out
from pipeline.nn.encoders import load_image_encoder
from pipeline.tasks.accuracy import accuracy_record
from pipeline.tasks.features import evaluation_set, extract

CHUNK = 1000  # validation images whose similarities to all training images are held at once


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """The records and the cost of one cell."""
    connect()
    settings = cell.settings
    started = time.monotonic()
    encoder = load_image_encoder(cell.encoder, settings["image_size"])
    train, val = (evaluation_set(cell.data, split, settings) for split in ("train", "val"))
    votes = vote(
        extract(encoder, val, settings),
        extract(encoder, train, settings),
        train.labels,
        len(train.classes),
        settings["num_neighbours"],
        settings["temperature"],
    )
    if not dist.is_main_process():
        return None
    seconds = time.monotonic() - started
    samples = len(train) + len(val)
    return {
        "records": [accuracy_record(votes, val.labels)],
        "cost": {
            "seconds": round(seconds, 3),
            "samples": samples,
            "unit": "images",
            "samples_per_second": round(samples / seconds, 1),
        },
    }


def vote(
    queries: Tensor, bank: Tensor, labels: Tensor, num_classes: int, num_neighbours: int, temperature: float
) -> Tensor:
    """Weighted votes of the nearest neighbours; all processes call it and share the queries.

    Args:
        queries: (M, D).
        bank: (N, D).
        labels: (N,), classes of the bank.

    Returns:
        (M, C) sums of weights.
    """
    device = get_device()
    bank, chunks = F.normalize(bank, dim=1).to(device), F.normalize(queries, dim=1).split(CHUNK)
    votes = []
    for chunk in share_out(chunks):
        found = (chunk.to(device) @ bank.T).topk(min(num_neighbours, len(bank)), dim=1)
        similarity, nearest = (part.cpu() for part in found)  # GPUs would add the weights in any order
        weights = (similarity / temperature).exp()
        votes.append(torch.zeros(len(chunk), num_classes).scatter_add_(1, labels[nearest], weights))
    return gather(votes, [len(chunk) for chunk in chunks])
