"""Filling masks: coverage as measured of an independent generator, and cells that stay whole when enlarged."""

import pytest
import torch

from pipeline.masking.blockwise import blockwise_mask
from pipeline.masking.filling import MIN_BLOCK, check, enlarge, filling_mask, num_draws
from tests.masking.test_blockwise import slow_mask


def shares(kind, grid_size, own_share, count=3000):
    noise = torch.rand(count, num_draws(kind, grid_size), generator=torch.Generator().manual_seed(0))
    if kind == "block":  # all at once
        cells = int(own_share * grid_size**2)
        return blockwise_mask(noise, (grid_size, grid_size), cells, MIN_BLOCK, exact=False).float().mean(dim=1)
    return torch.stack([filling_mask(draws, kind, grid_size, own_share).float().mean() for draws in noise])


def test_blocks_cover_what_an_independent_generator_covers():
    """3000 draws of it: mean 0.499, minimum 0.469, exactly one half in 96 % of 8 by 8 cells, in 99 % of 4 by 4."""
    fine, coarse = shares("block", 8, 0.5), shares("block", 4, 0.5)
    assert fine.mean() == pytest.approx(0.499, abs=0.002)
    assert fine.min() >= 0.42 and fine.max() == 0.5
    assert (fine == 0.5).float().mean() == pytest.approx(0.96, abs=0.02)
    assert coarse.mean() == pytest.approx(0.499, abs=0.004)
    assert (coarse == 0.5).float().mean() == pytest.approx(0.99, abs=0.015)


def test_cells_drawn_one_by_one_spread_as_a_binomial():
    found = shares("discrete", 8, 0.5)
    assert found.mean() == pytest.approx(0.5, abs=0.005)
    assert found.std() == pytest.approx(0.0625, abs=0.004)


@pytest.mark.parametrize("kind", ["block", "discrete"])
@pytest.mark.parametrize("own_share", [0.25, 0.75])
def test_own_share_is_what_an_image_keeps_in_either_kind(kind, own_share):
    assert shares(kind, 8, own_share, 600).mean() == pytest.approx(own_share, abs=0.02)


def test_blocks_are_those_of_the_loop():
    for draws in torch.rand(50, num_draws("block", 8), generator=torch.Generator().manual_seed(3)):
        expected = slow_mask(draws, (8, 8), 32, 4, exact=False).view(8, 8)
        assert torch.equal(filling_mask(draws, "block", 8, 0.5), expected)


def test_cells_that_are_all_alike_are_drawn_again():
    draws = torch.rand(num_draws("discrete", 2))
    draws[:4], draws[4:8], draws[8:12] = 0.1, 0.9, torch.tensor([0.2, 0.8, 0.3, 0.7])
    assert filling_mask(draws, "discrete", 2, 0.5).tolist() == [[True, False], [True, False]]


def test_enlarged_cells_are_constant_and_keep_their_share():
    cells = torch.rand(8, 8) < 0.5
    large = enlarge(cells, 224, 224)
    for r in range(8):
        for c in range(8):
            assert (large[28 * r : 28 * r + 28, 28 * c : 28 * c + 28] == cells[r, c]).all()
    assert large.float().mean() == cells.float().mean()
    assert enlarge(cells, 16, 24).shape == (16, 24)


def test_a_side_that_cells_do_not_divide_shifts_the_share():
    """Why the share is measured on pixels: seven rows of two cells are four and three."""
    cells = torch.tensor([[True, True], [False, False]])
    assert enlarge(cells, 7, 7).float().mean() == pytest.approx(4 / 7)


@pytest.mark.parametrize(
    "kind, grid_size, own_share, message",
    [
        ("stripes", 8, 0.5, r"mask_kind is 'stripes'; available: \['block', 'discrete'\]"),
        ("block", 2, 0.5, "grid_size is 2; expected at least 4 cells along a side for block masks"),
        ("discrete", 1, 0.5, "grid_size is 1; expected at least 2 cells"),
        ("block", 8, 1.0, "own_share 1.0 of 8² cells leaves nothing of one image"),
        ("discrete", 8, 0.01, "own_share 0.01 of 8² cells"),
    ],
)
def test_masks_that_leave_nothing_of_one_image_are_refused(kind, grid_size, own_share, message):
    with pytest.raises(ValueError, match=message):
        check(kind, grid_size, own_share)


def test_what_is_possible_passes():
    check("block", 4, 0.5), check("discrete", 2, 0.5)
