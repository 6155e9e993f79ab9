"""Out-of-distribution detection: images of classes that fine-tuning never saw are told from those of classes it saw.

Geng et al. 2022 (arXiv:2205.14204), Figure 6, with two scores of a fine-tuned classifier: the distance of Mahalanobis
from the nearest class (Lee et al. 2018, arXiv:1807.03888), on what its last map is given, and the largest probability
(Hendrycks and Gimpel 2017, arXiv:1610.02136). N images, D encoder width, C classes that are seen.

Departures: the paper tells CIFAR-10 from CIFAR-100, and how it fine-tunes there is not stated. Here the last classes of
one labelled set are held out, and fine-tuning is that of the task `finetune`.
"""

import json
import math
from typing import Any

import torch
from mmengine import dist
from scipy.special import ndtri
from torch import Tensor, nn

from pipeline.cell import Cell
from pipeline.config import ConfigError
from pipeline.data.augment import build_transform
from pipeline.data.images import Images
from pipeline.files import write_atomic
from pipeline.tasks.accuracy import accuracy_record
from pipeline.tasks.features import Part, apply, evaluation, evaluation_set, pool
from pipeline.tasks.finetune import Classifier, fine_tune

RIDGE = 1e-6  # of the mean variance, added to the covariance: some directions may hold none


class Described(nn.Module):
    """What a classifier's last map is given, and what it makes of it: (B, 3, H, W) -> (B, D + C)."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        features = self.model.fc_norm(pool(self.model.encoder.forward_features(images), "mean"))
        return torch.cat([features, self.model.head(features)], dim=1)


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Fine-tune on the classes that are seen; measure all validation images."""
    settings = cell.settings
    images = Images(cell.data / "files", "train", build_transform(settings["augment"]), cell.seed, raw=True)
    seen = len(images.classes) - settings["num_out_classes"]
    if seen < 2:
        raise ConfigError(f"num_out_classes is {settings['num_out_classes']}, and {cell.data} has "
                          f"{len(images.classes)} classes; expected to leave two at least")  # fmt: skip
    model, cost = fine_tune(cell, Part(images, (images.labels < seen).nonzero()[:, 0]), seen)
    train, val = (evaluation_set(cell.data, split, settings) for split in ("train", "val"))
    known = train.labels < seen
    described = [apply(Described(model), part, evaluation(settings))
                 for part in (Part(train, known.nonzero()[:, 0]), val)]  # fmt: skip
    if not dist.is_main_process():
        return None
    (bank, _), (features, logits) = (part.split([part.shape[1] - seen, seen], dim=1) for part in described)
    inside = val.labels < seen
    scores = {
        "mahalanobis": -nearest_class(features, bank, train.labels[known], seen),
        "max_softmax": logits.softmax(dim=1).amax(dim=1),
    }
    write_atomic(
        cell.files / "classes.json", json.dumps({"seen": train.classes[:seen], "unseen": train.classes[seen:]})
    )
    records = [auroc_record(f"auroc_{name}", score[inside], score[~inside]) for name, score in scores.items()]
    return {"records": [*records, accuracy_record(logits[inside], val.labels[inside])], "cost": cost}


def nearest_class(features: Tensor, bank: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Squared distance of Mahalanobis from the nearest class mean, under the covariance that the classes share.

    Args:
        features: (N, D).
        bank: (M, D) training features.
        labels: (M,), their classes.
    """
    bank, features = bank.double(), features.double()
    means = torch.stack([bank[labels == label].mean(dim=0) for label in range(num_classes)])
    spread = bank - means[labels]
    covariance = spread.T @ spread / len(bank)
    covariance += RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=covariance.dtype)
    root = torch.linalg.cholesky(covariance)
    white, centres = (torch.linalg.solve_triangular(root, part.T, upper=False).T for part in (features, means))
    return torch.cdist(white, centres).square().amin(dim=1).float()


def auroc_record(metric: str, inside: Tensor, outside: Tensor) -> dict[str, Any]:
    """How often an image of a seen class scores higher than one of an unseen class, ties counting one half.

    The interval is DeLong's (1988).

    Args:
        inside, outside: scores of each.
    """
    higher = _shares_below(outside, inside)  # for each inside, the share of outside below it
    lower = 1 - _shares_below(inside, outside)
    value = float(higher.mean())
    half = float(ndtri(0.975)) * math.sqrt(float(higher.var() / len(higher) + lower.var() / len(lower)))
    return {
        "metric": metric,
        "value": round(100 * value, 4),
        "unit": "%",
        "higher_is_better": True,
        "count": len(inside) + len(outside),
        "interval": [round(100 * max(0.0, value - half), 4), round(100 * min(1.0, value + half), 4)],
    }


def _shares_below(others: Tensor, values: Tensor) -> Tensor:
    """For each value the share of others below it, of equal ones one half: (N,), float64."""
    ordered = others.sort().values
    below, upto = (torch.searchsorted(ordered, values.contiguous(), right=right) for right in (False, True))
    return (below + upto).double() / (2 * len(others))
