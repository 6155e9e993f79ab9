"""Multi-label classification: how well the sets of labels are told that a run's own classifier and thresholds predict.

Thresholds, weights and what becomes of each label are shown against how often the label is there in training.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from mmengine import dist
from mmengine.device import get_device

from pipeline.cell import Cell
from pipeline.config import ConfigError
from pipeline.data.kinds import text
from pipeline.data.texts import read_labels
from pipeline.engine.processes import connect
from pipeline.engine.teachers import PublishedRun
from pipeline.files import write_atomic
from pipeline.tasks import label_metrics

COLOURS = ("#0b6e99", "#b5500c", "#5a8f29", "#7a5195")  # by depth


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """The records, pictures and cost of one cell.

    Raises:
        ConfigError: the run's method has no classifier of labels, or one of others than the set's.
    """
    connect()
    if not dist.is_main_process():  # it is over in seconds
        return None
    settings, started = cell.settings, time.monotonic()
    labels = read_labels(cell.data / "files")
    run = PublishedRun(cell.encoder, len(labels.names))
    if run.settings["data"] != settings["data"]:
        raise ConfigError(f"the run learned the labels of {run.settings['data']}, the task reads {settings['data']}; "
                          "name the same set as the task's data, and in its runs those of that set")  # fmt: skip
    method = run.whole()
    if not hasattr(method, "thresholds"):
        raise ConfigError(f"the method {run.settings['method']} trains no classifier of labels; list runs of "
                          "meta_multilabel in the task's runs")  # fmt: skip
    method.to(get_device()).eval()
    samples = text.open_eval(cell.data, settings["split"], run.settings)
    probabilities, targets = (found.numpy() for found in method.predict(samples))
    thresholds, weights = method.emitted.cpu().numpy()
    targets = targets > 0
    records = label_metrics.records(targets, probabilities, thresholds, settings["resamples"], cell.seed)
    measures = label_metrics.by_label(targets, label_metrics.predict(probabilities, thresholds, True))
    columns = {"depth": labels.depths, "count": labels.counts, "threshold": thresholds, "weight": weights, **measures}
    table = [
        {"name": name, **{key: round(float(values[place]), 6) for key, values in columns.items()}}
        for place, name in enumerate(labels.names)
    ]
    write_atomic(cell.files / "labels.json", json.dumps(table, indent=1) + "\n")
    plot(columns, cell.files / "labels.png")
    seconds = time.monotonic() - started
    caption = "threshold, weight of the last step and F1 of each label by how many training texts have it"
    return {
        "records": records,
        "pictures": [{"path": "files/labels.png", "caption": caption}],
        "cost": {"seconds": round(seconds, 3), "samples": len(samples), "unit": "texts",
                 "samples_per_second": round(len(samples) / seconds, 1)},
    }  # fmt: skip


def plot(columns: dict[str, np.ndarray], path: Path) -> None:
    """Threshold, weight and F1 over the count, a colour for each depth."""
    figure = Figure(figsize=(8, 2.6), dpi=110, layout="constrained")
    for axes, name in zip(figure.subplots(1, 3), ("threshold", "weight", "f1"), strict=True):
        for depth in np.unique(columns["depth"]):
            own = columns["depth"] == depth
            colour = COLOURS[(int(depth) - 1) % len(COLOURS)]
            axes.scatter(np.maximum(columns["count"][own], 1), columns[name][own], 16, colour, label=f"depth {depth}")
        axes.set(xscale="log", xlabel="training texts", ylabel={"f1": "F1"}.get(name, name))
        if name != "weight":
            axes.set_ylim(-0.03, 1.03)
    figure.axes[0].legend(fontsize=7, frameon=False)
    figure.savefig(path, metadata={"Software": None})
