"""Weighted k-nearest neighbours on frozen features of clips: the protocol of `knn`, on videos.

An image encoder's features are averaged over frames, and every encoder's over a video's views.
"""

import time
from typing import Any

from mmengine import dist
from torch import Tensor, nn

from pipeline.cell import Cell
from pipeline.data.kinds.video import open_eval
from pipeline.engine.processes import connect
from pipeline.tasks.accuracy import accuracy_record
from pipeline.tasks.clips import Clips, apply_views, load_frozen
from pipeline.tasks.features import pool
from pipeline.tasks.knn import vote


class Pooled(nn.Module):
    """Features of clips: (B, 3, T, H, W) -> (B, D)."""

    def __init__(self, encoder: nn.Module, feature: str) -> None:
        super().__init__()
        self.encoder, self.feature = encoder, feature

    def forward(self, video: Tensor) -> Tensor:
        return pool(self.encoder.forward_features(video), self.feature)


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """The records and the cost of one cell."""
    connect()
    settings = cell.settings
    started = time.monotonic()
    model = Pooled(load_frozen(cell.encoder, settings), settings["feature"])
    train, val = (Clips(open_eval(cell.data, split, settings)) for split in ("train", "val"))
    bank, queries = (apply_views(model, clips, settings) for clips in (train, val))
    votes = vote(queries, bank, train.labels, len(train.classes), settings["num_neighbours"], settings["temperature"])
    if not dist.is_main_process():
        return None
    seconds = time.monotonic() - started
    clips = train.repeats * (len(train) + len(val))
    return {
        "records": [accuracy_record(votes, val.labels)],
        "cost": {
            "seconds": round(seconds, 3),
            "samples": clips,
            "unit": "clips",
            "samples_per_second": round(clips / seconds, 1),
        },
    }
