"""Images as sequences of patches, and back."""

from torch import Tensor


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into patches, row by row; inside a patch by row, column, channel, the channel fastest.

    Args:
        images: (B, C, H, W), sides multiples of `patch_size`.

    Returns:
        (B, L, patch_size² · C).
    """
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    cut = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, -1)


def unpatchify(patches: Tensor, grid: tuple[int, int], channels: int = 3) -> Tensor:
    """Put patches back together: (B, L, P) -> (B, C, H, W), the inverse of `patchify`."""
    rows, columns = grid
    side = round((patches.shape[2] / channels) ** 0.5)
    laid = patches.reshape(len(patches), rows, columns, side, side, channels)
    return laid.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), channels, rows * side, columns * side)
