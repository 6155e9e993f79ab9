"""Continual learning: what a network that learned one task after the other still knows of each.

Measures of ExSSNeT's released code (Yadav and Bansal, arXiv:2210.10209) and SupSup (Wortsman et al., arXiv:2006.14769).
Accuracies a_ij on task j's test samples after task i come from the phases of the run; the last row is measured again,
from the encoder as it was published. T tasks.

*Average accuracy* is the mean of the last row; *forgetting* of a task what it lost since it was learned, at most:
max_i a_ij - a_Tj over i from j on; *backward transfer* the same with its sign turned, and over all i < T, as the code
has it; *forward transfer* a_(j-1)j less the accuracy of the untrained network. *Changed logits* counts tasks, over all
rows, whose logits are not bit for bit those of when the task was learned.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmengine import dist
from mmengine.device import get_device
from torch import Tensor

from pipeline.cell import Cell
from pipeline.config import ConfigError
from pipeline.data.kinds.task_stream import KEY, open_eval
from pipeline.engine.processes import connect
from pipeline.engine.sharing import gather_objects, share_out
from pipeline.files import written
from pipeline.nn.encoders import load_encoder
from pipeline.statistics import wilson

INK = ("#0b6e99", "#b5500c")


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Records, figures and cost of one cell.

    Raises:
        ConfigError: the run's phases are missing, or of another stream.
    """
    connect()
    settings, started = cell.settings, time.monotonic()
    encoder = load_encoder(cell.encoder, settings["image_size"]).to(get_device()).eval()
    rows = read_rows(cell.encoder.with_name("phases.json"))
    final, counts, unit = measure(encoder, cell.data, len(rows[0]["accuracies"]), settings)
    if not dist.is_main_process():
        return None
    matrix = [*(row["accuracies"] for row in rows[:-1]), final]
    usage = mask_usage([layer.masks for layer in encoder.layers], len(final))
    found = summary(matrix, [row["task"] for row in rows], rows[0]["initial"], together=len(rows) == 1)
    found["early_accuracy"] = mean(rows[-1]["early"][1:] or rows[-1]["early"])
    changed = sum(
        row["digests"][j] != rows[j]["digests"][j] for row in rows for j in range(min(row["task"], len(rows)))
    )
    (cell.files / "matrix.json").write_text(json.dumps({"accuracies": matrix, **found, **usage}, indent=1) + "\n")
    with written(cell.files / "continual.png") as path:
        plot(matrix, usage, path)
    seconds = time.monotonic() - started
    return {
        "records": [
            *(share(name, value, sum(counts)) for name, value in found.items()),
            number("logits_changed", changed, "", sum(min(row["task"], len(rows)) for row in rows)),
            share("mask_overlap", mean(usage["overlap"][1:] or usage["overlap"]), None, higher=False),
            share("free_weights", 1 - usage["claimed"][-1], None),
            number("memory_per_task", memory(encoder), "KiB", None),
        ],
        "pictures": [{"path": "files/continual.png", "caption": CAPTION}],
        "cost": {"seconds": round(seconds, 3), "samples": sum(counts), "unit": unit},
    }


CAPTION = (
    "accuracy on each task after each task, their mean over the tasks learned so far, and what of each mask and of "
    "all weights no earlier task uses, beside (1 - k)^(t - 1) of independent masks"
)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What the phases of a run told after each task, in their order.

    Raises:
        ConfigError: they are missing.
    """
    told = json.loads(path.read_text()) if path.is_file() else []
    rows = [phase["result"] for phase in told if "accuracies" in (phase["result"] or {})]
    firsts = [phase["result"] for phase in told if "initial" in (phase["result"] or {})]
    if not rows or not firsts:
        raise ConfigError(f"{path} tells of no tasks; continual measures runs that learned a stream here: train again")
    return [rows[0] | {"initial": firsts[0]["initial"]}, *rows[1:]]


@torch.no_grad()
def measure(
    encoder: Any, data: Path, num_tasks: int, settings: Mapping[str, Any]
) -> tuple[list[float], list[int], str]:
    """All processes share the tasks: accuracy on each one's test samples, how many these are, and of what."""
    own, device = [], get_device()
    for task in share_out(range(num_tasks)):
        samples = open_eval(data, "test", {**settings, "task": task})
        correct = 0
        for first in range(0, len(samples), settings["batch_size"]):
            last = min(first + settings["batch_size"], len(samples))
            batch = samples.__getitems__([(0, index) for index in range(first, last)])
            guesses = encoder.answer(batch[KEY].to(device), task).argmax(dim=1).cpu()
            correct += int((guesses == batch["labels"]).sum())
        own.append((correct / len(samples), len(samples), samples.unit))
    accuracies, counts, units = zip(*gather_objects(own, num_tasks), strict=True)
    return list(accuracies), list(counts), units[-1]


def summary(
    matrix: Sequence[Sequence[float]], order: Sequence[int], initial: Sequence[float], together: bool
) -> dict[str, float]:
    """The measures of a stream, as fractions.

    Args:
        matrix: a_ij, a row after each task.
        order: the task that each row was measured after.
        initial: (T,) of the untrained network.
        together: all tasks were learned at once, and there is one row.
    """
    last, tasks = matrix[-1], range(len(matrix[-1]))
    if together:
        drops, backward, forward = [0.0], [0.0], [0.0]
    else:
        drops = [max(row[j] for row in matrix[j:]) - last[j] for j in tasks[:-1]]
        backward = [last[j] - max(row[j] for row in matrix[:-1]) for j in tasks[:-1]]
        forward = [matrix[j - 1][j] - initial[j] for j in tasks[1:]]
    learned = last if together else [matrix[i][task] for i, task in enumerate(order)]
    return {
        "average_accuracy": mean(last),
        "forgetting": mean(drops or [0.0]),
        "backward_transfer": mean(backward or [0.0]),
        "forward_transfer": mean(forward or [0.0]),
        "learned_accuracy": mean(learned),
    }


def mask_usage(masks: Sequence[Tensor], num_tasks: int) -> dict[str, list[float]]:
    """How tasks share the weights, as fractions, one for each task.

    Args:
        masks: (T, ...) bool of each layer, or (1, ...) where all tasks have one mask.

    Returns:
        density: of the mask; overlap: of the mask, used by earlier tasks; claimed: of all weights, after the task.
    """
    flat = torch.cat([mask.flatten(1) for mask in masks], dim=1).expand(num_tasks, -1)
    claimed = flat.cumsum(dim=0) > 0
    sizes = flat.sum(dim=1).double()
    shared = torch.cat([torch.zeros(1), (flat[1:] & claimed[:-1]).sum(dim=1)]).double()
    return {
        "density": (sizes / flat.shape[1]).tolist(),
        "overlap": (shared / sizes).tolist(),
        "claimed": claimed.double().mean(dim=1).tolist(),
    }


def memory(encoder: Any) -> float:
    """KiB that one more task takes: a bit for each weight, unless all are used, and statistics of norms."""
    layers = encoder.layers
    masked = not all(layer.masks.all() for layer in layers)
    bits = sum(layer.weight.numel() for layer in layers) if masked else 0
    norms = sum(buffer.numel() for name, buffer in encoder.named_buffers() if "running_" in name)
    return (bits / 8 + 4 * norms / encoder.num_tasks) / 1024


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def share(metric: str, value: float, count: int | None, higher: bool = True) -> dict[str, Any]:
    """A record in percent; of accuracies with Wilson's interval over all test samples."""
    interval = None
    if metric.endswith("_accuracy") and count:
        interval = [round(100 * bound, 4) for bound in wilson(value, count)]
    higher = higher and metric != "forgetting"
    return {"metric": metric, "value": round(100 * value, 4), "unit": "%", "higher_is_better": higher, "count": count,
            "interval": interval}  # fmt: skip


def number(metric: str, value: float, unit: str, count: int | None) -> dict[str, Any]:
    """A record that is better the lower it is."""
    return {"metric": metric, "value": round(value, 4), "unit": unit, "higher_is_better": False, "count": count,
            "interval": None}  # fmt: skip


def plot(matrix: Sequence[Sequence[float]], usage: Mapping[str, Sequence[float]], path: Path) -> None:
    """The matrix as a heat map, accuracy after each task, and free weights against independent masks."""
    figure = Figure(figsize=(11, 3.2), dpi=120, layout="constrained")
    heat, line, free = figure.subplots(1, 3)
    _draw_matrix(heat, matrix)
    learned = [100 * mean(row[: i + 1] if len(matrix) > 1 else row) for i, row in enumerate(matrix)]
    line.plot(range(1, len(learned) + 1), learned, "o-", color=INK[0], markersize=4)
    line.set(xlabel="tasks learned", ylabel="mean accuracy on them, %", ylim=(min(40.0, *learned), 101))
    tasks, density = range(1, len(usage["overlap"]) + 1), usage["density"][0]
    free.plot(tasks, [1 - value for value in usage["overlap"]], "o-", color=INK[0], markersize=4, label="of the mask")
    free.plot(
        tasks, [1 - value for value in usage["claimed"]], "s-", color=INK[1], markersize=4, label="of all weights"
    )
    free.plot(tasks, [(1 - density) ** (t - 1) for t in tasks], ":", color=INK[0], label="independent: (1 - k)^(t - 1)")
    free.plot(tasks, [(1 - density) ** t for t in tasks], ":", color=INK[1], label="independent: (1 - k)^t")
    free.set(xlabel="task t", ylabel="free share", ylim=(-0.03, 1.03))
    free.legend(fontsize=7, frameon=False)
    figure.savefig(path)


def _draw_matrix(axes: Axes, matrix: Sequence[Sequence[float]]) -> None:
    image = axes.imshow([[100 * value for value in row] for row in matrix], vmin=0, vmax=100, cmap="viridis",
                        aspect="auto")  # fmt: skip
    if len(matrix) <= 10:
        for i, row in enumerate(matrix):
            for j, value in enumerate(row):
                axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=7,
                          color="black" if value > 0.6 else "white")  # fmt: skip
    axes.set(xlabel="accuracy on task, %", ylabel="after task")
    axes.set_xticks(range(len(matrix[0])), [str(j + 1) for j in range(len(matrix[0]))], fontsize=7)
    axes.set_yticks(
        range(len(matrix)), [str(i + 1) for i in range(len(matrix))] if len(matrix) > 1 else ["all"], fontsize=7
    )
    axes.figure.colorbar(image, ax=axes)
