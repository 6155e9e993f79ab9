import math

import pytest
import torch

from pipeline.tasks.knn import vote


def test_votes_equal_a_slow_count():
    torch.manual_seed(0)
    queries, bank, labels = torch.randn(5, 4), torch.randn(30, 4), torch.randint(3, (30,))
    votes = vote(queries, bank, labels, num_classes=3, num_neighbours=7, temperature=0.07)
    for query, row in zip(queries, votes, strict=True):
        similarities = [float(query @ other / (query.norm() * other.norm())) for other in bank]
        nearest = sorted(range(30), key=lambda i: -similarities[i])[:7]
        expected = [sum(math.exp(similarities[i] / 0.07) for i in nearest if labels[i] == c) for c in range(3)]
        assert row.tolist() == pytest.approx(expected, rel=1e-4)


def test_a_close_neighbour_outweighs_two_far_ones():
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    votes = vote(torch.tensor([[1.0, 0.2]]), bank, torch.tensor([0, 1, 1]), 2, 3, 0.07)
    assert votes.argmax() == 0


def test_more_neighbours_than_images_are_all_images():
    votes = vote(torch.ones(1, 2), torch.ones(3, 2), torch.tensor([0, 1, 1]), 2, 20, 1.0)
    assert votes[0, 1] == pytest.approx(2 * votes[0, 0].item())


def test_lengths_of_features_do_not_matter():
    torch.manual_seed(0)
    queries, bank, labels = torch.randn(4, 3), torch.randn(9, 3), torch.arange(9) % 2
    scaled = bank * torch.rand(9, 1).add(0.5)
    assert torch.allclose(
        vote(queries, bank, labels, 2, 3, 0.1), vote(7 * queries, scaled, labels, 2, 3, 0.1), rtol=1e-4
    )
