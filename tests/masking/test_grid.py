import pytest

from pipeline.masking.grid import grid_mask


def test_one_patch_of_every_square_stays():
    mask = grid_mask(4, 6, 0.75).view(4, 6)
    assert (~mask).nonzero().tolist() == [[r, c] for r in (0, 2) for c in (0, 2, 4)]
    assert (~grid_mask(14, 14, 0.75)).sum() == 49
    assert (~grid_mask(6, 6, 1 - 1 / 9)).sum() == 4


@pytest.mark.parametrize("ratio", [0.5, 0.6, 0.99])
def test_other_ratios_are_refused(ratio):
    with pytest.raises(ValueError, match=rf"mask_ratio is {ratio}; grid-wise masks .* hide one of \[0.75, 0.8889"):
        grid_mask(4, 4, ratio)
