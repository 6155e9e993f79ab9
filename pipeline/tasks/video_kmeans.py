"""k-means on frozen features of clips: a validation video has the class of its cluster.

Clusters, as many as classes, are fitted on the training split and named there, one to one where the most videos agree.
"""

import time
from typing import Any

import torch
import torch.nn.functional as F
from mmengine import dist

from pipeline.cell import Cell
from pipeline.data.kinds.video import open_eval
from pipeline.engine.processes import connect
from pipeline.nn.clusters import assignment, fit_clusters
from pipeline.tasks.accuracy import accuracy_record
from pipeline.tasks.clips import Clips, apply_views, load_frozen
from pipeline.tasks.video_knn import Pooled


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """The records and the cost of one cell."""
    connect()
    settings, started = cell.settings, time.monotonic()
    model = Pooled(load_frozen(cell.encoder, settings), settings["feature"])
    train, val = (Clips(open_eval(cell.data, split, settings)) for split in ("train", "val"))
    bank, queries = (apply_views(model, clips, settings) for clips in (train, val))
    if not dist.is_main_process():
        return None
    classes = len(train.classes)
    clusters = fit_clusters(bank.numpy(), classes, settings["restarts"], cell.seed)
    named = assignment(clusters.labels_, train.labels.numpy(), classes, classes)
    guesses = torch.from_numpy(named[clusters.predict(queries.double().numpy())])
    seconds, clips = time.monotonic() - started, train.repeats * (len(train) + len(val))
    return {
        "records": [accuracy_record(F.one_hot(guesses, classes).float(), val.labels)],
        "cost": {
            "seconds": round(seconds, 3),
            "samples": clips,
            "unit": "clips",
            "samples_per_second": round(clips / seconds, 1),
        },
    }
