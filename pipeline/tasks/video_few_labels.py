"""Few labels of videos: the protocol of `few_labels` on features of clips, averaged over a video's views.

An image encoder's features are averaged over frames.
"""

from typing import Any

from pipeline.cell import Cell
from pipeline.data.kinds.video import open_eval
from pipeline.engine.processes import connect
from pipeline.tasks.clips import Clips, apply_views, load_frozen
from pipeline.tasks.few_labels import measure_curve
from pipeline.tasks.video_knn import Pooled


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """The records and the cost of one cell."""
    connect()
    settings = cell.settings
    model = Pooled(load_frozen(cell.encoder, settings), settings["feature"])
    train, val = (Clips(open_eval(cell.data, split, settings)) for split in ("train", "val"))
    return measure_curve(cell, train, val, lambda clips: apply_views(model, clips, settings), "clips")
