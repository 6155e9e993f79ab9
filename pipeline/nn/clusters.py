"""Sizes of k-means clusters held against Zipf's law: how ELo tells good features without labels.

Piergiovanni, Angelova and Ryoo, "Evolving Losses for Unsupervised Video Representation Learning", CVPR 2020,
arXiv:2002.12177: actions in the world are of unequal frequency, and features that group videos by action have clusters
of such sizes. N samples, D features, k clusters.
"""

import warnings

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from pipeline.config import ConfigError

SMALLEST = 1e-12  # share of a cluster, below which its logarithm says nothing


def fit_clusters(features: np.ndarray, num_clusters: int, restarts: int, seed: int) -> KMeans:
    """k-means of (N, D) features, the best of some restarts (Lloyd's algorithm from k-means++).

    Raises:
        ConfigError: there are fewer samples than clusters.
    """
    if len(features) < num_clusters:
        raise ConfigError(
            f"num_clusters is {num_clusters}, and there are {len(features)} samples; expected at most that"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters: some stay empty
        return KMeans(num_clusters, n_init=restarts, random_state=seed).fit(features.astype(np.float64))


def cluster_shares(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """p(c): the mean over samples of exp(−|x − c|²), normalised over the centres, that is of equal variances 2σ² = 1.

    Args:
        features: (N, D). centres: (k, D).

    Returns:
        (k,), adding up to one.
    """
    features, centres = (part.astype(np.float64) for part in (features, centres))
    distances = ((features**2).sum(1)[:, None] - 2 * features @ centres.T + (centres**2).sum(1)).clip(min=0)
    soft = np.exp(distances.min(axis=1, keepdims=True) - distances)
    return (soft / soft.sum(axis=1, keepdims=True)).mean(axis=0)


def zipf(num_clusters: int, exponent: float) -> np.ndarray:
    """q: (k,), proportional to 1 / i^exponent."""
    shares = np.arange(1, num_clusters + 1, dtype=np.float64) ** -exponent
    return shares / shares.sum()


def divergence(shares: np.ndarray, exponent: float) -> float:
    """KL(p ‖ q) in nats of shares, sorted from the largest, from Zipf's law; 0 where they follow it."""
    sorted_shares = np.sort(shares)[::-1].clip(min=SMALLEST)
    return float((sorted_shares * np.log(sorted_shares / zipf(len(shares), exponent))).sum())


def effective_rank(features: np.ndarray) -> float:
    """The exponential of the entropy of the normalised singular values of centred features (Roy and Vetterli 2007).

    From 1, all on a line, to D; 0 where all samples are the same.
    """
    values = np.linalg.svd(features - features.mean(axis=0), compute_uv=False)
    if values.sum() <= SMALLEST:
        return 0.0
    shares = values / values.sum()
    return float(np.exp(-(shares * np.log(shares.clip(min=SMALLEST))).sum()))


def unit(features: np.ndarray) -> np.ndarray:
    """Features of length one: (N, D)."""
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(min=SMALLEST)


def assignment(clusters: np.ndarray, labels: np.ndarray, num_clusters: int, num_classes: int) -> np.ndarray:
    """The class of each cluster: one to one where the most samples agree (the Hungarian method), and for clusters that
    are left over the most frequent of their own.

    Args:
        clusters, labels: (N,).

    Returns:
        (k,).
    """
    counts = np.zeros((num_clusters, num_classes), np.int64)
    np.add.at(counts, (clusters, labels), 1)
    classes = counts.argmax(axis=1)
    matched, named = linear_sum_assignment(counts, maximize=True)
    classes[matched] = named
    return classes
