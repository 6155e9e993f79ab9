"""Block-wise masking: rectangles of random area and shape are hidden until enough is.

Bao et al., "BEiT: BERT Pre-Training of Image Transformers", ICLR 2022, arXiv:2106.08254, algorithm 1; the exact count
is BEiT v2's. B images, L = rows x columns patches.
"""

import math

import torch
from torch import Tensor

PROPOSALS = 64  # rectangles proposed per mask at most; what is then still missing is left, or filled one by one
TRIES = 10  # proposals in a row that may fail
ASPECT = (0.3, 1 / 0.3)


def num_draws(grid: tuple[int, int]) -> int:
    """Uniform draws that one mask takes."""
    return 4 * PROPOSALS + grid[0] * grid[1]


def blockwise_mask(noise: Tensor, grid: tuple[int, int], num_hidden: int, min_area: int, exact: bool = True) -> Tensor:
    """Hide rectangles until `num_hidden` patches are hidden.

    A rectangle's area is uniform between `min_area` and what is still missing, its aspect ratio log-uniform, its place
    uniform; it is taken if it hides something new and not too much. After ten failures in a row no more are proposed.

    Args:
        noise: (B, `num_draws(grid)`) uniform draws.
        grid: rows and columns.
        num_hidden: patches to hide.
        min_area: of a rectangle, in patches.
        exact: hide single patches, drawn at random, where rectangles did not reach the number.

    Returns:
        (B, L), True where hidden.

    Raises:
        ValueError: where nothing would stay visible, or nothing would be hidden.
    """
    rows, columns = grid
    if not 0 < num_hidden < rows * columns:
        raise ValueError(
            f"{num_hidden} of {rows * columns} patches are to be hidden; expected at least one hidden and one visible"
        )
    proposals = noise[:, : 4 * PROPOSALS].double().unflatten(1, (PROPOSALS, 4))
    row, column = torch.arange(rows, device=noise.device), torch.arange(columns, device=noise.device)
    mask = torch.zeros(len(noise), rows, columns, dtype=torch.bool, device=noise.device)
    failures = torch.zeros(len(noise), dtype=torch.long, device=noise.device)
    low, high = (math.log(ratio) for ratio in ASPECT)
    for proposal in range(PROPOSALS):
        missing = num_hidden - mask.sum(dim=(1, 2))
        searching = (missing > 0) & (failures < TRIES)
        if noise.device.type == "cpu" and not searching.any():  # a GPU would wait for the answer at every proposal
            break
        for_area, for_aspect, for_top, for_left = proposals[:, proposal].unbind(1)
        area, aspect = min_area + (missing - min_area) * for_area, torch.exp(low + (high - low) * for_aspect)
        height, width = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
        fits = (height < rows) & (width < columns)
        top, left = (for_top * (rows - height + 1)).long(), (for_left * (columns - width + 1)).long()
        inside_rows = (row >= top[:, None]) & (row < (top + height)[:, None])
        inside_columns = (column >= left[:, None]) & (column < (left + width)[:, None])
        block = inside_rows[:, :, None] & inside_columns[:, None, :]
        new = (block & ~mask).sum(dim=(1, 2))
        taken = searching & fits & (new > 0) & (new <= missing)
        mask |= block & taken[:, None, None]
        failures = torch.where(taken, 0, failures + searching)
    mask = mask.flatten(1)
    if not exact:
        return mask
    # Hidden patches come first, then the others in random order.
    first = (noise[:, 4 * PROPOSALS :] + 2 * mask).topk(num_hidden, dim=1).indices
    return torch.zeros_like(mask).scatter_(1, first, True)
