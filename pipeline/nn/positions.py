"""Position embeddings: the fixed two-dimensional sine-cosine table, and tables carried to other input sizes.

He et al. 2022 (arXiv:2111.06377), appendix A.1; the layout follows the authors' released weights.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sincos_table(width: int, rows: int, columns: int, num_prefix: int = 1) -> Tensor:
    """Fixed table of a grid, row by row, after `num_prefix` rows of zeros for class tokens.

    The first half of a vector tells the column and the second half the row; each half is the sines, then the
    cosines, at frequencies 10000^(-4k / width).

    Returns:
        (1, num_prefix + rows·columns, width), float32, computed in float64.
    """
    if width % 4:
        raise ValueError(f"width is {width}; expected a multiple of 4: sine and cosine of two coordinates")
    quarter = width // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    row, column = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64), indexing="ij"
    )
    angles = [coordinate.flatten()[:, None] * frequencies for coordinate in (column, row)]
    table = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return torch.cat([table.new_zeros(num_prefix, width), table])[None].float()


def resize_table(table: Tensor, rows: int, columns: int, num_prefix: int = 1) -> Tensor:
    """Carry a table of a square grid to another grid: bicubic on the patches, prefix rows untouched.

    Args:
        table: (1, num_prefix + side², width).

    Returns:
        (1, num_prefix + rows·columns, width).
    """
    prefix, patches = table[:, :num_prefix], table[:, num_prefix:]
    side = math.isqrt(patches.shape[1])
    if side * side != patches.shape[1]:
        raise ValueError(f"the table holds {patches.shape[1]} patches; expected a square number to resize from")
    if (rows, columns) == (side, side):
        return table
    grid = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
    return torch.cat([prefix, grid.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)], dim=1)
