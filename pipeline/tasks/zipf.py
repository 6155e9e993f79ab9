"""Cluster sizes of frozen features against Zipf's law, as ELo judges features; and the course of a search of ELo's.

Of a run that searched for loss weights, the record `spearman` says how the fitness of its candidates, which knows no
labels, ranks with their labelled scores: positive where a smaller divergence went with a better score. Its pictures are
the fitness over rounds and the weights found.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine import dist
from scipy.stats import rankdata

from pipeline.cell import Cell
from pipeline.data.kinds.video import open_eval
from pipeline.engine.processes import connect
from pipeline.files import written
from pipeline.nn.clusters import cluster_shares, divergence, effective_rank, fit_clusters, unit, zipf
from pipeline.tasks.clips import Clips, apply_views, load_frozen
from pipeline.tasks.video_knn import Pooled

RESAMPLES = 2000  # of the bootstrap over candidates


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Records, pictures and cost of one cell."""
    connect()
    settings, started = cell.settings, time.monotonic()
    model = Pooled(load_frozen(cell.encoder, settings), settings["feature"])
    clips = Clips(open_eval(cell.data, "train", settings))
    features = apply_views(model, clips, settings).numpy()
    if not dist.is_main_process():
        return None
    found = {}
    for name, own in (("kl", features), ("kl_of_unit_features", unit(features))):
        centres = fit_clusters(own, settings["num_clusters"], settings["restarts"], cell.seed).cluster_centers_
        found[name] = cluster_shares(own, centres)
    records = [_record(name, divergence(shares, settings["zipf_exponent"])) for name, shares in found.items()]
    records.append(_record("effective_rank", effective_rank(features), higher_is_better=True))
    pictures = [_sizes(cell.files, np.sort(found["kl"])[::-1], settings["zipf_exponent"])]
    history = cell.encoder.with_name("phases.json")
    if history.is_file() and (candidates := searched(json.loads(history.read_text()))):
        records.append(agreement(candidates, cell.seed))
        pictures += [_course(cell.files, candidates), _table(cell.files, min(candidates, key=_fitness)["weights"])]
    seconds, number = time.monotonic() - started, clips.repeats * len(clips)
    cost = {"seconds": round(seconds, 3), "samples": number, "unit": "clips",
            "samples_per_second": round(number / seconds, 1)}  # fmt: skip
    return {"records": records, "pictures": pictures, "cost": cost}


def searched(phases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results of a search's candidates that have a fitness, each with its `round`; of other phases none."""
    found = []
    for phase in phases:
        result, (word, *rest) = phase["result"], phase["name"].split("-")
        if word == "round" and isinstance(result, dict) and result.get("fitness") is not None:
            found.append({**result, "round": int(rest[0])})
    return found


def agreement(candidates: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Spearman's rank correlation of −fitness and labelled score, with percentiles of a bootstrap over candidates."""
    fitness, labelled = (np.array([candidate[key] for candidate in candidates]) for key in ("fitness", "labelled"))
    value, low, high = _spearman(-fitness, labelled), -1.0, 1.0
    draws = np.random.default_rng(seed).integers(0, len(fitness), (RESAMPLES, len(fitness)))
    again = [_spearman(-fitness[draw], labelled[draw]) for draw in draws]
    if len(fitness) > 2:
        low, high = np.percentile(again, [2.5, 97.5])
    return {
        **_record("spearman", value, higher_is_better=True),
        "count": len(fitness),
        "interval": [round(float(low), 4), round(float(high), 4)],
    }


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """0 where one of them does not vary."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return 0.0
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def _record(metric: str, value: float, higher_is_better: bool = False) -> dict[str, Any]:
    return {"metric": metric, "value": round(float(value), 6), "unit": "", "higher_is_better": higher_is_better}


def _fitness(candidate: dict[str, Any]) -> float:
    return candidate["fitness"]


def _sizes(files: Path, shares: np.ndarray, exponent: float) -> dict[str, str]:
    figure = Figure((4.5, 3), layout="constrained")
    axes, ranks = figure.add_subplot(), np.arange(1, len(shares) + 1)
    axes.bar(ranks, shares, color="#56b4e9", label="clusters")
    axes.plot(ranks, zipf(len(shares), exponent), "o-", color="#d55e00", label=f"Zipf, s = {exponent:g}")
    axes.set(xlabel="rank", ylabel="share of the clips")
    axes.legend(frameon=False)
    return _saved(figure, files, "clusters", "Sizes of the clusters of frozen features, and Zipf’s law")


def _course(files: Path, candidates: list[dict[str, Any]]) -> dict[str, str]:
    figure = Figure((4.5, 3), layout="constrained")
    axes = figure.add_subplot()
    rounds = np.array([candidate["round"] for candidate in candidates])
    values = np.array([candidate["fitness"] for candidate in candidates])
    axes.plot(rounds + 1, values, ".", color="#8c8c8c", label="candidate")
    numbers = np.unique(rounds)
    axes.plot(
        numbers + 1, [values[rounds == r].mean() for r in numbers], "-", color="#56b4e9", label="mean of the round"
    )
    axes.plot(numbers + 1, [values[rounds <= r].min() for r in numbers], "-", color="#d55e00", label="best so far")
    axes.set(xlabel="round", ylabel="KL to Zipf, nats", xticks=numbers + 1 if len(numbers) < 20 else None)
    axes.legend(frameon=False)
    return _saved(figure, files, "fitness", "Fitness over the rounds of the search, lower is better")


def _table(files: Path, weights: dict[str, float]) -> dict[str, str]:
    """Weights as a table, tasks and stages by modality."""
    pairs = [name.split(".") for name in weights]
    rows, columns = (list(dict.fromkeys(pair[place] for pair in pairs)) for place in (0, 1))
    values = np.array([[weights.get(f"{row}.{column}", np.nan) for column in columns] for row in rows])
    figure = Figure((0.62 * len(columns) + 1.4, 0.45 * len(rows) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, "" if np.isnan(value) else f"{value:.2f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    return _saved(
        figure, files, "weights", "Weights of the best candidate, by modality, task and place of distillation"
    )


def _saved(figure: Figure, files: Path, name: str, caption: str) -> dict[str, str]:
    FigureCanvasAgg(figure)
    with written(files / f"{name}.png") as path:
        figure.savefig(path, format="png", dpi=110, metadata={"Software": None})
    return {"path": f"files/{name}.png", "caption": caption}
