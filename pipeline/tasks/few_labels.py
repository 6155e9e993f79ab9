"""Few labels: logistic regression on frozen features of a few labelled images of each class.

Assran et al., "Masked Siamese Networks for Label-Efficient Learning", ECCV 2022, arXiv:2204.07141, as in the authors'
released code, `logistic_eval.py`: a feature vector x, its own mean taken off, has length one, and W minimises
Σ cross-entropy(W x, y) + penalty / 2 · ‖W‖². Subsets are drawn by seed, equally from each class, those of fewer labels
out of those of more, and are the same for all runs. N images, D encoder width, C classes.

Departures: the authors' three subsets are files, and their solver stops at a duality gap of 0.1 %. The penalty is that
of their README; it is not chosen, since of one image a class nothing can be held out.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from mmengine import dist
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from pipeline.cell import Cell
from pipeline.config import ConfigError
from pipeline.data.draws import bits
from pipeline.engine.processes import connect
from pipeline.nn.encoders import load_image_encoder
from pipeline.tasks.features import Part, evaluation_set, extract
from pipeline.tasks.few_shot import publish_numbers, records, run_subsets

SUBSETS = 107  # the stream of draws that chooses labelled images
TOLERANCE, MOST_STEPS = 1e-8, 10_000  # L-BFGS: largest entry of the gradient of the mean over images; twenty do
METRICS = ["top1"]


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """The records and the cost of one cell."""
    connect()
    settings = cell.settings
    encoder = load_image_encoder(cell.encoder, settings["image_size"])
    train, val = (evaluation_set(cell.data, split, settings) for split in ("train", "val"))
    return measure_curve(cell, train, val, lambda images: extract(encoder, images, settings), "images")


def measure_curve(
    cell: Cell, train: Any, val: Any, features: Callable[[Any], Tensor], unit: str
) -> dict[str, Any] | None:
    """What `evaluate` does, whatever the encoder looks at.

    Args:
        train, val: splits as they are.
        features: of all samples of a set, (N, D), shared by all processes.
        unit: what samples are.

    Raises:
        ConfigError: a class has fewer labelled samples than are asked for.
    """
    settings, started = cell.settings, time.monotonic()
    sizes = sorted(set(settings["labels_per_class"]))
    check(train, sizes[-1], unit, cell)
    subsets = [draw(train.labels, sizes[-1], cell.seed, number) for number in range(settings["num_subsets"])]
    labelled = torch.cat(subsets).unique()  # the rest of the split is not looked at
    bank, queries = (unit_length(features(part)) for part in (Part(train, labelled), val))

    def measure(size: int, number: int) -> dict[str, float]:
        subset = draw(train.labels, size, cell.seed, number)
        regression = fit(bank[torch.searchsorted(labelled, subset)], train.labels[subset], settings["penalty"])
        return {"top1": 100 * float(regression.score(queries.numpy(), val.labels.numpy()))}

    found = run_subsets(cell, sizes, settings["num_subsets"], measure)
    if not dist.is_main_process():
        return None
    publish_numbers(cell, found, METRICS)  # the report draws the curves of all runs in one picture
    samples = getattr(train, "repeats", 1) * (len(labelled) + len(val))
    seconds = time.monotonic() - started
    return {
        "records": records(found, METRICS, "top1"),
        "cost": {
            "seconds": round(seconds, 3),
            "samples": samples,
            "unit": unit,
            "samples_per_second": round(samples / seconds, 1),
        },
    }


def check(train: Any, most: int, unit: str, cell: Cell) -> None:
    """Raises ConfigError where a class has fewer than `most` samples."""
    counts = torch.bincount(train.labels, minlength=len(train.classes)).tolist()
    few = {name: count for name, count in zip(train.classes, counts, strict=True) if count < most}
    if few:
        fewest = min(few, key=lambda name: few[name])
        raise ConfigError(
            f"labels_per_class asks for {most} {unit} of each class, and of {len(few)} of the {len(counts)} classes of "
            f"{cell.data} there are fewer, of {fewest!r} {few[fewest]}; expected at most that: set it in the study, or "
            "name another set: data: ..."
        )


def draw(labels: Tensor, size: int, seed: int, number: int) -> Tensor:
    """The labelled samples of a subset: those of each class whose hashes are the smallest, so that more hold fewer.

    Args:
        labels: (N,).
        size: of each class.
        number: of the subset.

    Returns:
        (C · size,) rising indices.
    """
    order = bits(seed, number, torch.arange(len(labels)), SUBSETS).argsort()
    order = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels)
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts).repeat_interleave(counts)  # in its class
    return order[place < size].sort().values


def unit_length(features: Tensor) -> Tensor:
    """(N, D) in float64, each with a mean of 0 and a length of 1."""
    features = features.double()
    return F.normalize(features - features.mean(dim=1, keepdim=True), dim=1)


def fit(bank: Tensor, labels: Tensor, penalty: float) -> LogisticRegression:
    """The regression of (N, D) features on (N,) labels, which predicts the label of any others."""
    # Of two classes scikit-learn fits the difference w of their vectors ±w / 2, whose squares add up to half of w's.
    strength = (2 if len(labels.unique()) == 2 else 1) / penalty
    regression = LogisticRegression(C=strength, fit_intercept=False, tol=TOLERANCE, max_iter=MOST_STEPS)
    return regression.fit(bank.numpy(), labels.numpy())
