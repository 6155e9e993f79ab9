"""Masks over a coarse grid of cells that say which image of a pair a pixel is taken from.

Vishniakov, Xing and Shen, "MixMask: Revisiting Masking Strategy for Siamese ConvNets", BMVC 2024, arXiv:2210.11456.
S cells along a side of the grid; True keeps the image's own pixels.
"""

import torch
from torch import Tensor

from pipeline.masking.blockwise import blockwise_mask
from pipeline.masking.blockwise import num_draws as num_block_draws

KINDS = ("block", "discrete")
MIN_BLOCK = 4  # cells of the smallest rectangle
REDRAWS = 8  # of a discrete mask whose cells are all alike


def check(kind: str, grid_size: int, own_share: float) -> None:
    """Raises ValueError for a mask that leaves nothing of one of the two images."""
    if kind not in KINDS:
        raise ValueError(f"mask_kind is {kind!r}; available: {list(KINDS)}")
    if grid_size < 2 or (kind == "block" and grid_size < 4):
        raise ValueError(
            f"grid_size is {grid_size}; expected at least {4 if kind == 'block' else 2} cells along a side for {kind} "
            "masks: a smaller grid leaves nothing of one image"
        )
    if not 0 < int(own_share * grid_size**2) < grid_size**2:
        raise ValueError(f"own_share {own_share} of {grid_size}² cells leaves nothing of one image; try 0.5")


def num_draws(kind: str, grid_size: int) -> int:
    """Uniform draws that one mask takes."""
    return num_block_draws((grid_size, grid_size)) if kind == "block" else REDRAWS * grid_size**2


def filling_mask(noise: Tensor, kind: str, grid_size: int, own_share: float) -> Tensor:
    """One mask.

    Args:
        noise: (`num_draws`,) uniform draws.
        kind: `block`, rectangles of own cells until there are enough; `discrete`, each cell by itself.
        grid_size: S.
        own_share: of the cells, expected to be True, in either kind.

    Returns:
        (S, S).
    """
    if kind == "block":
        cells = int(own_share * grid_size**2)
        mask = blockwise_mask(noise[None], (grid_size, grid_size), cells, MIN_BLOCK, exact=False)
        return mask.view(grid_size, grid_size)
    draws = noise.view(REDRAWS, grid_size**2) < own_share
    mixed = draws.any(dim=1) & ~draws.all(dim=1)
    first = mixed.int().argmax()[None]  # as a tensor of one, it stays on the device
    return draws[first].view(grid_size, grid_size)


def enlarge(mask: Tensor, height: int, width: int) -> Tensor:
    """(S, S) cells -> (height, width) pixels, by the nearest cell."""
    rows = torch.arange(height, device=mask.device) * mask.shape[0] // height
    columns = torch.arange(width, device=mask.device) * mask.shape[1] // width
    return mask[rows][:, columns]
