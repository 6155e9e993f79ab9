"""Few-shot classification of parts: a small head on frozen codes learns the classes of whole parts.

Jones et al. 2023 (arXiv:2210.10807), §4.2. Of each class a share of its parts is drawn, two at least; a fifth of them,
one at least, says when to stop. Every run sees the same subsets. C classes.
"""

import math
import time
from typing import Any

import torch
from mmengine import dist
from torch import Tensor

from pipeline.cell import Cell
from pipeline.config import ConfigError
from pipeline.data.solids import Parts
from pipeline.engine.processes import connect
from pipeline.nn.encoders import load_encoder
from pipeline.tasks.few_shot import generator_of, publish_curve, records, run_subsets
from pipeline.tasks.solids.codes import Coded, encode
from pipeline.tasks.solids.heads import ClassificationHead, fit_head

METRICS = {"top1": "part accuracy"}


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Records, the picture and the cost of one cell."""
    connect()
    settings, started = cell.settings, time.monotonic()
    train, val = (Parts(cell.data, split) for split in ("train", "val"))
    if not train.classes:
        raise ConfigError(f"the parts of {cell.data} have no classes to be told apart; name a labelled set: data: ...")
    encoder = load_encoder(cell.encoder)
    coded, test = (encode(encoder, parts, settings["encode_batch_size"]) for parts in (train, val))
    counts = torch.bincount(train.labels, minlength=len(train.classes)).tolist()
    if few := [name for name, count in zip(train.classes, counts, strict=True) if count < 2]:
        raise ConfigError(f"classes of {cell.data} with fewer than two parts to train: {few[:5]}; expected one to "
                          "learn from and one that says when to stop")  # fmt: skip
    shares = {sum(_number(share, count) for count in counts): share for share in sorted(settings["shares"])}

    def measure(size: int, number: int) -> dict[str, Any]:
        generator = generator_of(cell.seed, size, number)
        learn, hold = draw(train.labels, shares[size], settings["holdout_share"], generator)
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        head = ClassificationHead(settings["width"], len(train.classes))
        head = fit_head(head, coded, learn, hold, part_labels, settings, generator)
        with torch.no_grad():
            right = head(test).argmax(dim=1) == test.labels
        return {"top1": 100 * float(right.double().mean())}

    found = run_subsets(cell, list(shares), settings["num_subsets"], measure)
    if not dist.is_main_process():
        return None
    return {
        "records": records(found, list(METRICS), "top1"),
        "pictures": [publish_curve(cell, found, METRICS)],
        "cost": {"seconds": round(time.monotonic() - started, 3), "samples": len(train) + len(val), "unit": "parts"},
    }


def part_labels(coded: Coded) -> Tensor:
    """What a head learns to tell."""
    return coded.labels


def draw(labels: Tensor, share: float, holdout: float, generator: torch.Generator) -> tuple[list[int], list[int]]:
    """Parts to learn from and parts that say when to stop, drawn from each class."""
    learn, hold = list[int](), list[int]()
    for label in labels.unique().tolist():
        mine = (labels == label).nonzero()[:, 0]
        chosen = mine[torch.randperm(len(mine), generator=generator)][: _number(share, len(mine))].tolist()
        held = max(1, round(holdout * len(chosen)))
        learn, hold = learn + chosen[held:], hold + chosen[:held]
    return learn, hold


def _number(share: float, count: int) -> int:
    return min(count, max(2, math.ceil(share * count)))
