"""Block-wise masks against BEiT's generator as a plain loop over the same uniform numbers."""

import math

import pytest
import torch

from pipeline.masking.blockwise import blockwise_mask, num_draws


def slow_blocks(draws, grid, num_hidden, min_area):
    """Rectangles of one mask: up to ten proposals for each, none after ten in vain; set of (row, column)."""
    rows, columns = grid
    draws, hidden, proposals = iter(draws), set(), 64
    while len(hidden) < num_hidden:
        missing = num_hidden - len(hidden)
        for _ in range(10):
            if not proposals:
                return hidden
            proposals -= 1
            for_area, for_aspect, for_top, for_left = (next(draws) for _ in range(4))
            area = min_area + for_area * (missing - min_area)
            aspect = math.exp(math.log(0.3) + for_aspect * (math.log(1 / 0.3) - math.log(0.3)))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if not (height < rows and width < columns):
                continue
            top, left = int(for_top * (rows - height + 1)), int(for_left * (columns - width + 1))
            block = {(r, c) for r in range(top, top + height) for c in range(left, left + width)}
            if 0 < len(block - hidden) <= missing:
                hidden |= block
                break
        else:
            return hidden
    return hidden


def slow_mask(draws, grid, num_hidden, min_area, exact=True):
    """(L,) mask of one image; single patches make up what is missing, those with the largest draws first."""
    draws = draws.double().tolist()
    hidden = {r * grid[1] + c for r, c in slow_blocks(draws, grid, num_hidden, min_area)}
    if exact:
        single = draws[256:]
        rest = sorted(set(range(grid[0] * grid[1])) - hidden, key=lambda i: -single[i])
        hidden |= set(rest[: num_hidden - len(hidden)])
    return torch.tensor([patch in hidden for patch in range(grid[0] * grid[1])])


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    "grid, num_hidden, min_area",
    [((14, 14), 78, 16), ((14, 14), 75, 16), ((16, 16), 78, 16), ((8, 8), 32, 4), ((4, 4), 6, 2), ((5, 9), 20, 4)],
)
def test_masks_are_those_of_the_loop(grid, num_hidden, min_area, exact):
    noise = torch.rand(150, num_draws(grid), generator=torch.Generator().manual_seed(0))
    masks = blockwise_mask(noise, grid, num_hidden, min_area, exact)
    expected = torch.stack([slow_mask(draws, grid, num_hidden, min_area, exact) for draws in noise])
    assert masks.dtype == torch.bool and torch.equal(masks, expected)


def test_every_mask_hides_exactly_what_is_asked():
    noise = torch.rand(400, num_draws((14, 14)), generator=torch.Generator().manual_seed(1))
    assert (blockwise_mask(noise, (14, 14), 78, 16).sum(dim=1) == 78).all()
    short = blockwise_mask(noise, (14, 14), 78, 16, exact=False).sum(dim=1)
    assert short.max() == 78 and short.min() < 78  # the original generator does stop early


def test_hidden_patches_lie_together():
    """Neighbours of a hidden patch are hidden far more often than one patch in 2.5."""
    noise = torch.rand(200, num_draws((14, 14)), generator=torch.Generator().manual_seed(2))
    masks = blockwise_mask(noise, (14, 14), 78, 16).view(-1, 14, 14)
    assert masks[:, :, 1:][masks[:, :, :-1]].float().mean() > 0.75


def test_a_mask_depends_on_its_own_draws_only():
    noise = torch.rand(6, num_draws((8, 8)))
    masks = blockwise_mask(noise, (8, 8), 20, 4)
    assert torch.equal(blockwise_mask(noise[3:4], (8, 8), 20, 4), masks[3:4])
    assert len(masks.unique(dim=0)) == 6


@pytest.mark.parametrize("num_hidden", [0, 16, 17, -1])
def test_nothing_hidden_and_nothing_visible_are_refused(num_hidden):
    with pytest.raises(ValueError, match=f"{num_hidden} of 16 patches are to be hidden; expected at least one hidden"):
        blockwise_mask(torch.rand(1, num_draws((4, 4))), (4, 4), num_hidden, 2)
