"""Metrics of sets of labels: those of entity typing and those of text classification.

Ling and Weld, "Fine-Grained Entity Recognition", AAAI 2012: strict accuracy; loose macro, which averages over texts;
loose micro, over all labels of all texts. n texts, N labels. A text of which nothing is predicted has a precision of 0,
as in the code of NFETC and of Shimaoka et al.; others leave it out of the average.
"""

from typing import Any

import numpy as np

METRICS = ("strict_accuracy", "loose_macro_f1", "loose_micro_f1", "label_macro_f1", "hamming_loss")


def predict(probabilities: np.ndarray, thresholds: np.ndarray, force: bool) -> np.ndarray:
    """(n, N) bool: labels above their (N,) thresholds and, if `force`, the likeliest one."""
    predicted = probabilities > thresholds
    if force:
        predicted[np.arange(len(predicted)), probabilities.argmax(axis=1)] = True
    return predicted


def measure(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Every metric, as a fraction, of (n, N) bool twice; each text has a label at least.

    `strict_accuracy` is also known as subset accuracy, `loose_micro_f1` as micro-F1, and `label_macro_f1` averages over
    labels, those that are neither there nor predicted counting 0.
    """
    return _metrics(_counts(targets, predicted), np.arange(len(targets)))


def intervals(targets: np.ndarray, predicted: np.ndarray, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """Bootstrap intervals of 95 % over texts (Efron 1979), of the middle 95 % of `resamples`."""
    rng, counts = np.random.default_rng(seed), _counts(targets, predicted)
    drawn = [_metrics(counts, rng.integers(len(targets), size=len(targets))) for _ in range(resamples)]
    return {name: tuple(np.quantile([found[name] for found in drawn], (0.025, 0.975)).tolist()) for name in METRICS}


def by_label(targets: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """(N,) precision, recall and F1 of each label, 0 where they mean nothing."""
    both, said, true = (x.sum(axis=0) for x in (targets & predicted, predicted, targets))
    shares = {"precision": (both, said), "recall": (both, true), "f1": (2 * both, said + true)}
    return {name: over / np.maximum(under, 1) for name, (over, under) in shares.items()}


def records(
    targets: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray, resamples: int, seed: int
) -> list[Any]:
    """A record of each metric, with the likeliest label always predicted, as usual in typing, and without (`_free`)."""
    found = []
    for suffix, force in (("", True), ("_free", False)):
        predicted = predict(probabilities, thresholds, force)
        spans = intervals(targets, predicted, resamples, seed)
        for name, value in measure(targets, predicted).items():
            found.append({
                "metric": name + suffix, "value": round(100 * value, 4), "unit": "%",
                "higher_is_better": name != "hamming_loss", "count": len(targets),
                "interval": [round(100 * bound, 4) for bound in spans[name]],
            })  # fmt: skip
    empty = float((~predict(probabilities, thresholds, False)).all(axis=1).mean())
    return [*found, {"metric": "empty", "value": round(100 * empty, 4), "unit": "%", "higher_is_better": False,
                     "count": len(targets), "interval": None}]  # fmt: skip


def _counts(targets: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, ...]:
    """What all metrics are sums of: per text, labels right, predicted and true; and the (n, N) themselves."""
    targets, predicted = targets.astype(np.float32), predicted.astype(np.float32)
    right = targets * predicted
    return right.sum(axis=1), predicted.sum(axis=1), targets.sum(axis=1), right, predicted + targets


def _metrics(counts: tuple[np.ndarray, ...], texts: np.ndarray) -> dict[str, float]:
    """Of some of the texts, which may be there more than once."""
    right, said, true, overlap, either = counts
    times = np.bincount(texts, minlength=len(right)).astype(np.float32)  # quicker than to pick them
    right, said, true = (x[texts].astype(np.float64) for x in (right, said, true))
    precision, recall = (right / np.maximum(said, 1)).mean(), (right / true).mean()
    overlap, either = (times @ x for x in (overlap, either))
    return {
        "strict_accuracy": float(((right == said) & (right == true)).mean()),
        "loose_macro_f1": float(2 * precision * recall / max(precision + recall, 1e-12)),
        "loose_micro_f1": float(2 * right.sum() / max((said + true).sum(), 1)),
        "label_macro_f1": float((2 * overlap / np.maximum(either, 1)).mean(dtype=np.float64)),
        "hamming_loss": float((said + true - 2 * right).mean() / len(either)),
    }
