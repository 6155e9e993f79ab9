"""Properties of the counter-based draws, and SplitMix64 rewritten with Python's own integers."""

import pytest
import torch

from pipeline.data.draws import CROP, MASK, bits, uniform

WORD = (1 << 64) - 1


def splitmix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WORD
    return z ^ (z >> 31)


def reference(seed, epoch, index, num, stream):
    state = 0
    for level in (seed, stream, epoch, index):
        state = splitmix((state + 0x9E3779B97F4A7C15 * (level + 1)) & WORD)
    draws = [splitmix((state + 0x9E3779B97F4A7C15 * place) & WORD) for place in range(1, num + 1)]
    return [(draw >> 40) / 2**24 for draw in draws]


@pytest.mark.parametrize("seed, epoch, index, stream", [(0, 0, 0, 0), (7, 1599, 1281166, 1), (2**40, 3, 9, 200)])
def test_equals_a_reference_in_whole_numbers(seed, epoch, index, stream):
    drawn = uniform(seed, torch.tensor([epoch]), torch.tensor([index]), 5, stream)
    assert drawn.dtype == torch.float32
    assert drawn[0].tolist() == reference(seed, epoch, index, 5, stream)


def test_is_uniform_in_the_half_open_interval():
    draws = uniform(0, 0, torch.arange(20_000), 10)
    assert draws.min() >= 0 and draws.max() < 1
    counts = torch.histc(draws, bins=50, min=0, max=1)
    chi_square = ((counts - 4000) ** 2 / 4000).sum()
    assert 20 < chi_square < 95  # 49 degrees of freedom: both tails beyond 99.99 %


def test_neighbours_are_independent():
    indices = torch.arange(50_000)
    draws = uniform(0, 0, indices, 2)
    others = {
        "position": draws[:, 1],
        "index": uniform(0, 0, indices + 1, 1)[:, 0],
        "epoch": uniform(0, 1, indices, 1)[:, 0],
        "seed": uniform(1, 0, indices, 1)[:, 0],
        "stream": uniform(0, 0, indices, 1, CROP)[:, 0],
        "swapped": uniform(0, indices, 0 * indices, 1)[:, 0],
    }
    for name, other in others.items():
        correlation = torch.corrcoef(torch.stack([draws[:, 0], other]))[0, 1]
        assert abs(correlation) < 0.02, name  # 4.5 standard errors


def test_a_sample_draws_the_same_in_any_batch():
    epochs, indices = torch.randint(0, 9, (64,)), torch.randint(0, 10**6, (64,))
    order = torch.randperm(64)
    together = uniform(3, epochs, indices, 7, MASK)
    assert torch.equal(together[order], uniform(3, epochs[order], indices[order], 7, MASK))
    assert torch.equal(together[5:6], uniform(3, int(epochs[5]), int(indices[5]), 7, MASK))
    assert torch.equal(together[:, :4], uniform(3, epochs, indices, 4, MASK))


def test_hashes_use_all_bits():
    words = bits(0, 0, torch.arange(4000))
    ones = torch.stack([(words >> place) & 1 for place in range(64)]).float().mean(1)
    assert (ones - 0.5).abs().max() < 0.04
    assert len(words.unique()) == 4000


def test_negative_seed_is_refused():
    with pytest.raises(ValueError, match=r"seed is -1; expected 0 or more"):
        uniform(-1, 0, 0, 1)
