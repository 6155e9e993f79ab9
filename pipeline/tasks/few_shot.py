"""Few-shot curves: what is reached by the number of labelled samples, over random subsets that all runs share."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from pipeline.cell import Cell
from pipeline.engine.sharing import gather_objects, share_out
from pipeline.files import write_atomic, written
from pipeline.statistics import t_interval

SUBSETS = 105  # a stream of draws

Measured = dict[str, Any]  # metrics by name in %, and what else is to be kept of a subset


def run_subsets(
    cell: Cell, sizes: Sequence[int], num_subsets: int, measure: Callable[[int, int], Measured]
) -> dict[int, list[Measured]]:
    """What every subset of every size gave; all processes call it and share the subsets.

    Each is kept in the cell's work, so that an attempt cut off goes on.

    Args:
        measure: from a size and the number of a subset; the same again for the same.
    """
    subsets = [(size, number) for size in sizes for number in range(num_subsets)]
    own = []
    for size, number in share_out(subsets):
        path = cell.work / f"few-{size}-{number}.json"
        if not path.is_file():
            write_atomic(path, json.dumps(measure(size, number)))
        own.append(json.loads(path.read_text()))
    found: dict[int, list[Measured]] = {}
    for (size, _), measured in zip(subsets, gather_objects(own, len(subsets)), strict=True):
        found.setdefault(size, []).append(measured)
    return found


def generator_of(seed: int, size: int, number: int) -> torch.Generator:
    """The source of what is random in a subset, the same for all runs: its samples, and the head's first values."""
    return torch.Generator().manual_seed(((seed * 10_007 + size) * 1_009 + number) * 211 + SUBSETS)


def records(found: Mapping[int, Sequence[Measured]], metrics: Sequence[str], first: str) -> list[dict[str, Any]]:
    """Means over the subsets of each size with Student's intervals, as `<metric>_n<size>`.

    Subsets that agree to the last digit tell no spread, and so no interval.

    Args:
        first: metric whose value at the smallest size stands for the task, as `few_shot`.
    """

    def record(name: str, values: Sequence[float]) -> dict[str, Any]:
        interval = [round(end, 4) for end in t_interval(values)] if len(set(values)) > 1 else None
        return {"metric": name, "value": round(sum(values) / len(values), 4), "unit": "%", "higher_is_better": True,
                "count": len(values), "interval": interval}  # fmt: skip

    told = [record("few_shot", [subset[first] for subset in found[min(found)]])]
    for size, subsets in found.items():
        told += [record(f"{metric}_n{size}", [subset[metric] for subset in subsets]) for metric in metrics]
    return told


def publish_numbers(cell: Cell, found: Mapping[int, Sequence[Measured]], metrics: Iterable[str]) -> None:
    """Writes the metrics of every subset."""
    kept = {str(size): [{metric: subset[metric] for metric in metrics} for subset in subsets]
            for size, subsets in found.items()}  # fmt: skip
    write_atomic(cell.files / "few_shot.json", json.dumps(kept, indent=1) + "\n")


def publish_curve(cell: Cell, found: Mapping[int, Sequence[Measured]], metrics: Mapping[str, str]) -> dict[str, str]:
    """Writes every subset's numbers and draws the means over the sizes, with their intervals.

    Args:
        metrics: names, each with how it is printed.
    """
    publish_numbers(cell, found, metrics)
    figure = Figure(figsize=(4.2, 3.0), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for metric, title in metrics.items():
        values = [[subset[metric] for subset in subsets] for subsets in found.values()]
        means = [sum(each) / len(each) for each in values]
        halves = [
            (t_interval(each)[1] - mean) if len(each) > 1 else 0 for each, mean in zip(values, means, strict=True)
        ]
        axes.errorbar(list(found), means, halves, marker="o", markersize=3, linewidth=1.2, capsize=3, label=title)
    axes.set(xlabel="labelled parts", ylabel="%", xscale="log")
    axes.set_xticks(list(found), [str(size) for size in found])
    axes.minorticks_off()
    axes.legend(fontsize=7, frameon=False)
    with written(cell.files / "few_shot.png") as path:
        figure.savefig(path)
    num = len(next(iter(found.values())))
    return {"path": "files/few_shot.png", "caption": f"by the number of labelled parts; 95 % over {num} subsets"}
