"""Zipf's law and its divergence against the numbers that a hand computes."""

import math

import numpy as np
import pytest

from pipeline.config import ConfigError
from pipeline.nn.clusters import assignment, cluster_shares, divergence, effective_rank, fit_clusters, unit, zipf


def test_zipf_and_divergence():
    assert zipf(5, 1.0) == pytest.approx(np.array([60, 30, 20, 15, 12]) / 137)
    assert divergence(zipf(5, 1.0), 1.0) == pytest.approx(0, abs=1e-12)
    assert divergence(np.full(5, 0.2), 1.0) == pytest.approx(0.173697, abs=1e-6)
    assert divergence(np.full(5, 0.2), 1.0) == pytest.approx(math.log(137 / 300) + math.log(120) / 5)
    shares = np.array([0.1, 0.6, 0.0, 0.3])
    assert divergence(shares, 1.0) == divergence(shares[::-1], 1.0) and math.isfinite(divergence(shares, 1.0))


def test_soft_assignment():
    centres = np.array([[0.0, 0.0], [1.0, 0.0]])
    assert cluster_shares(np.zeros((1, 2)), centres) == pytest.approx([0.731059, 0.268941], abs=1e-6)
    points = np.random.default_rng(0).normal(size=(20, 3)) * 2
    centres = points[:4]
    slow = np.mean([[math.exp(-((x - c) ** 2).sum()) / sum(math.exp(-((x - d) ** 2).sum()) for d in centres)
                     for c in centres] for x in points], axis=0)  # fmt: skip
    assert cluster_shares(points, centres) == pytest.approx(slow, rel=1e-9)
    assert np.isfinite(cluster_shares(1e4 * points, centres)).all()


def test_clusters_of_separate_groups():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    points = 20 * np.eye(3)[labels] + rng.normal(size=(100, 3))
    clusters = fit_clusters(points, 3, 3, 0)
    assert np.sort(cluster_shares(points, clusters.cluster_centers_))[::-1] == pytest.approx([0.6, 0.3, 0.1])
    named = assignment(clusters.labels_, labels, 3, 3)
    assert (named[clusters.labels_] == labels).all()
    assert assignment(np.array([0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 0]), 3, 2).tolist() == [0, 1, 0]
    with pytest.raises(ConfigError, match="num_clusters is 200, and there are 100"):
        fit_clusters(points, 200, 1, 0)


def test_effective_rank_tells_collapse():
    rng = np.random.default_rng(0)
    assert effective_rank(np.ones((10, 4))) == 0
    assert effective_rank(np.outer(rng.normal(size=50), [1, 2, 3])) == pytest.approx(1)
    assert effective_rank(rng.normal(size=(5000, 4))) == pytest.approx(4, abs=0.01)
    assert np.linalg.norm(unit(rng.normal(size=(5, 3))), axis=1) == pytest.approx(1)
