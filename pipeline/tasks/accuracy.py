"""Accuracy as a record: the share of correct answers with Wilson's interval."""

from typing import Any

from torch import Tensor

from pipeline.statistics import wilson


def accuracy_record(scores: Tensor, labels: Tensor, top: int = 1) -> dict[str, Any]:
    """A record of top-k accuracy.

    Args:
        scores: (N, C), larger is likelier.
        labels: (N,).
        top: how many guesses count.
    """
    guesses = scores.topk(top, dim=1).indices
    correct = int((guesses == labels[:, None]).any(dim=1).sum())
    low, high = wilson(correct / len(labels), len(labels))
    return {
        "metric": f"top{top}",
        "value": round(100 * correct / len(labels), 4),
        "unit": "%",
        "higher_is_better": True,
        "count": len(labels),
        "interval": [round(100 * low, 4), round(100 * high, 4)],
    }
