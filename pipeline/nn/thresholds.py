"""Thresholds searched for on held-out data, label by label: what learned ones are held against.

n texts, N labels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def tune_thresholds(probabilities: Tensor, targets: Tensor, span: Sequence[float] | None) -> Tensor:
    """For each label the threshold of its largest F1, halfway between two probabilities; 1/2 where no text has it.

    Of several the one nearest to 1/2 is taken.

    Args:
        probabilities, targets: (n, N).
        span: to which they are clamped; None for none.

    Returns:
        (N,).
    """
    found = []
    for scores, truth in zip(probabilities.T.double(), targets.T.double(), strict=True):
        order = scores.argsort(descending=True, stable=True)
        scores, truth = scores[order], truth[order]
        right = truth.cumsum(0)  # with the first k texts predicted
        f1 = 2 * right / (torch.arange(1, len(scores) + 1) + truth.sum())
        following = torch.cat([scores[1:], scores.new_zeros(1)])
        places = (scores + following) / 2
        usable = (scores > following) & (truth.sum() > 0)  # equal probabilities are predicted together
        best = f1[usable].max() if usable.any() else None
        if best is None:
            found.append(scores.new_tensor(0.5))
            continue
        fitting = places[usable & (f1 >= best - 1e-12)]
        found.append(fitting[(fitting - 0.5).abs().argmin()])
    thresholds = torch.stack(found).float()
    return thresholds if span is None else thresholds.clamp(*span)
