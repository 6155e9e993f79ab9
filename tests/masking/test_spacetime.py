import pytest
import torch

from pipeline.masking.spacetime import KINDS, cuboid_mask, num_draws, spacetime_mask

GRID = (8, 14, 14)


def masks(kind, ratio, batch=3):
    masking = spacetime_mask(torch.rand(batch, num_draws(kind, GRID)), kind, GRID, ratio)
    assert torch.equal(masking.mask.gather(1, masking.visible), torch.zeros_like(masking.visible, dtype=torch.bool))
    assert masking.visible.shape[1] == (~masking.mask[0]).sum()
    return masking.mask.view(batch, *GRID)


def test_the_paper_s_count():
    assert ((~masks("agnostic", 0.9)).sum((1, 2, 3)) == 156).all()


def test_tubes_are_whole_and_their_number_is_rounded():
    mask = masks("space", 0.9)
    assert (mask == mask[:, :1]).all()
    assert ((~mask[:, 0]).sum((1, 2)) == 20).all()  # 19.6


@pytest.mark.parametrize(("ratio", "kept"), [(0.75, 2), (0.875, 1)])
def test_steps_are_whole(ratio, kept):
    mask = masks("time", ratio).flatten(2)
    assert (mask.all(2) | ~mask.any(2)).all() and ((~mask.any(2)).sum(1) == kept).all()


def test_cuboids_hide_exactly_the_share_in_large_pieces():
    mask = masks("block", 0.75, batch=4)
    assert (mask.sum((1, 2, 3)) == 1568 - 392).all()
    alike = (mask[:, 1:] == mask[:, :-1]).float().mean() + (mask[:, :, 1:] == mask[:, :, :-1]).float().mean()
    loose = masks("agnostic", 0.75, batch=4)
    assert alike > 1.6 > (loose[:, 1:] == loose[:, :-1]).float().mean() * 2


def test_the_first_cuboid_is_where_its_draws_say():
    noise = torch.zeros(1, num_draws("block", (2, 10, 10)))
    noise[0, :6] = torch.tensor([0.0, 0.5, 0.0, 0.99, 0.5, 0.99])  # 20 patches, square, one step long
    mask = cuboid_mask(noise, (2, 10, 10), 16).view(2, 10, 10)
    assert mask[1, 3:7, 6:].all() and mask.sum() == 16  # 4 x 4 in the second step, half-way down, at the right


def test_noise_decides():
    noise = torch.rand(2, num_draws("block", GRID))
    assert torch.equal(*(spacetime_mask(noise, "block", GRID, 0.75).mask for _ in range(2)))
    noise = torch.arange(8.0)[None]
    assert not spacetime_mask(noise, "time", GRID, 0.75).mask.view(8, 196)[:2].any()


def test_what_cannot_be():
    with pytest.raises(ValueError, match=r"mask_kind is 'tube'; available: \['agnostic', 'space', 'time', 'block'\]"):
        num_draws("tube", GRID)
    with pytest.raises(ValueError, match=r"mask_ratio 0\.99 leaves 0 of 8 visible under time masks"):
        spacetime_mask(torch.rand(1, 8), "time", GRID, 0.99)
    assert len(KINDS) == 4
