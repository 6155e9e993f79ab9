"""Mixing against distributions, timm's labels and what is shared out."""

import pytest
import torch
from scipy.stats import beta, kstest
from timm.data.mixup import mixup_target

from pipeline.nn.mixing import NUM_DRAWS, Mixing

CLASSES = 5


def inputs(num, size=8):
    torch.manual_seed(0)
    return torch.rand(num, 3, size, size), torch.arange(num) % CLASSES, torch.arange(num), torch.rand(num, NUM_DRAWS)


def own(mixing, num, size=8):
    """The share of each pixel of the first of each pair that is its own: (num / 2, size, size)."""
    _, labels, index, draws = inputs(num, size)
    samples = torch.zeros(num, 3, size, size)
    samples[::2] = 1
    return mixing(samples, labels, index, draws)[0][::2, 0]


@pytest.mark.parametrize("alpha", [0.4, 0.8, 1.0])  # float32 rounds much of a smaller one to 1
def test_shares_are_of_a_beta_distribution(alpha):
    shares = own(Mixing(alpha, 0.0, 0.0, CLASSES), 20000, size=1)[:, 0, 0]
    assert kstest(shares.numpy(), beta(alpha, alpha).cdf).pvalue > 0.01
    assert kstest(shares.numpy(), beta(3 * alpha, alpha).cdf).pvalue < 1e-6


def test_samples_and_labels_are_blended_alike_as_timm_does():
    mixing, (samples, labels, index, draws) = Mixing(0.8, 0.0, 0.1, CLASSES), inputs(6)
    mixed, shares = mixing(samples, labels, index, draws)
    share = own(mixing, 6)[:, 0, 0].repeat_interleave(2).view(-1, 1, 1, 1)
    swapped = torch.tensor([1, 0, 3, 2, 5, 4])
    assert torch.allclose(mixed, share * samples + (1 - share) * samples[swapped], atol=1e-6)
    for pair in range(3):
        here = labels[2 * pair : 2 * pair + 2]
        expected = mixup_target(here, CLASSES, float(share[2 * pair]), 0.1)
        assert torch.allclose(shares[2 * pair : 2 * pair + 2], expected, atol=1e-6)


def test_a_rectangle_is_cut_and_labels_tell_its_area():
    mixing = Mixing(0.0, 1.0, 0.0, 2)
    samples, _, index, draws = inputs(400, 16)
    mixed, shares = mixing(samples, torch.arange(400) % 2, index, draws)
    kept = (mixed == samples).all(dim=1)
    assert ((mixed == samples[index ^ 1]).all(dim=1) | kept).all(), "each pixel is of one of the two"
    assert torch.allclose(kept.float().mean(dim=(1, 2)), shares[index, index % 2], atol=1e-6)
    other = ~kept
    rows, columns = other.any(dim=2), other.any(dim=1)
    assert torch.equal(other, rows[:, :, None] & columns[:, None, :])
    assert 0.3 < kept.float().mean() < 0.8


def test_half_of_the_pairs_are_cut_where_both_are_on():
    shares = own(Mixing(0.8, 1.0, 0.0, CLASSES), 4000)
    cut = ((shares == 0) | (shares == 1)).all(dim=(1, 2)).float().mean()
    assert 0.45 < cut < 0.55


def test_what_is_made_of_a_pair_does_not_know_the_others():
    mixing, (samples, labels, index, draws) = Mixing(0.8, 1.0, 0.1, CLASSES), inputs(12)
    whole = mixing(samples, labels, index, draws)
    parts = [mixing(*part) for part in zip(*(x.split(4) for x in (samples, labels, index, draws)), strict=True)]
    for made, cut in zip(whole, zip(*parts, strict=True), strict=True):
        assert torch.equal(made, torch.cat(cut))


@pytest.mark.parametrize(
    ("index", "partners"),
    [
        ([4, 2, 7, 0], [1, 0, 3, 2]),
        ([4, 2, 7], [1, 0, 2]),
        ([4, 4, 4, 2, 2, 2], [3, 4, 5, 0, 1, 2]),
        ([4, 4, 2, 2, 9, 9], [2, 3, 0, 1, 4, 5]),
        ([4], [0]),
    ],
)
def test_partners_are_neighbours_of_another_item(index, partners):
    assert Mixing.partners(torch.tensor(index)).tolist() == partners


def test_frames_are_mixed_alike():
    mixing, (_, labels, index, draws) = Mixing(0.8, 1.0, 0.0, CLASSES), inputs(8)
    clips = torch.rand(8, 3, 1, 8, 8).expand(-1, -1, 4, -1, -1)
    mixed, shares = mixing(clips, labels, index, draws)
    assert torch.equal(mixed, mixed[:, :, :1].expand_as(mixed))
    still, told = mixing(clips[:, :, 0], labels, index, draws)
    assert torch.equal(mixed[:, :, 0], still) and torch.equal(shares, told)
