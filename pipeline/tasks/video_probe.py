"""Linear probing on videos: the protocol of `linear_probe` on features of clips, averaged over views when measured.

An image encoder's tokens are averaged over frames before they are pooled.
"""

from typing import Any

import torch

from pipeline.cell import Cell
from pipeline.data.kinds.video import open_eval, open_train
from pipeline.engine.processes import connect
from pipeline.tasks.clips import Clips, apply_views, load_frozen
from pipeline.tasks.linear_probe import probe_encoder


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Train the heads, choose a rate on held-out training videos, measure it on the validation split."""
    connect()
    settings = cell.settings
    torch.manual_seed(cell.seed)
    encoder = load_frozen(cell.encoder, settings)
    train = Clips(open_train(cell.data, settings, cell.seed))
    return probe_encoder(cell, encoder, train, lambda split: Clips(open_eval(cell.data, split, settings)), apply_views)
