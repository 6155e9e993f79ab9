"""Grid-wise masking: one patch of every square of them stays visible, the same in all images.

He et al. 2022 (arXiv:2111.06377), Table 1f. L = rows x columns patches.
"""

import torch
from torch import Tensor


def grid_mask(rows: int, columns: int, mask_ratio: float) -> Tensor:
    """(L,), True where hidden.

    Raises:
        ValueError: the ratio is not that of keeping one patch of every two by two, three by three, ..., or a square
            does not fit into the grid twice.
    """
    side = round((1 - mask_ratio) ** -0.5)
    if side < 2 or abs(1 - 1 / side**2 - mask_ratio) > 1e-6 or side > min(rows, columns):
        ratios = [round(1 - 1 / side**2, 4) for side in range(2, min(rows, columns) + 1)][:3]
        raise ValueError(
            f"mask_ratio is {mask_ratio}; grid-wise masks of {rows} x {columns} patches hide one of {ratios}"
        )
    kept = (torch.arange(rows) % side == 0)[:, None] & (torch.arange(columns) % side == 0)
    return ~kept.flatten()
