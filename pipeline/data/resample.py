"""Bicubic or bilinear resampling of a batch, each image from its own box: two batched matrix products.

The weights are Pillow's: Keys' cubic kernel with a = -1/2 (Keys, "Cubic Convolution Interpolation for Digital Image
Processing", IEEE TASSP 1981) or a triangle, stretched by the scale when an image shrinks so that it does not alias;
like Pillow it rounds to 8 bits after each pass, so that an image in memory and one in a file agree to
a level or two of 255. B images, H and W their size, S the size wanted.
"""

import torch
from torch import Tensor


def resample(images: Tensor, boxes: Tensor, flips: Tensor, size: int, kernel: str = "bicubic") -> Tensor:
    """Cuts one box out of each image and resizes it.

    Args:
        images: (B, 3, H, W) uint8.
        boxes: (B, 4) top, left, height and width in pixels, inside the image.
        flips: (B,) bool, mirror the result left to right.
        size: S of the square result.
        kernel: `bicubic` or `bilinear`.

    Returns:
        (B, 3, S, S) float32 in [0, 255].
    """
    top, left, height, width = boxes.to(torch.float32).unbind(1)
    rows = axis_weights(top, height, images.shape[2], size, kernel)
    columns = axis_weights(
        torch.where(flips, left + width, left), torch.where(flips, -width, width), images.shape[3], size, kernel
    )
    batch, channels, tall, wide = images.shape
    # (B, 3H, W) @ (B, W, S), then (B, S, H) @ (B, H, 3S): two large products per image, not six small ones.
    across = torch.bmm(images.reshape(batch, channels * tall, wide).to(torch.float32), columns.transpose(1, 2))
    across = _to_levels(across).view(batch, channels, tall, size).transpose(1, 2).reshape(batch, tall, channels * size)
    resized = torch.bmm(rows, across).view(batch, size, channels, size)
    return _to_levels(resized).transpose(1, 2).contiguous()


def axis_weights(start: Tensor, extent: Tensor, length: int, size: int, kernel: str = "bicubic") -> Tensor:
    """Weights that resample `extent` pixels from `start` on to `size` pixels, along one axis.

    Args:
        start, extent: (B,) in pixels; with a negative extent the pixels before `start` are read backwards.
        length: of the axis; weights outside the box are zero.
        kernel: a name of `KERNELS`.

    Returns:
        (B, size, length), rows adding up to one.
    """
    scale = extent / size
    centres = (torch.arange(size) + 0.5) * scale[:, None] + start[:, None]
    pixels = torch.arange(length) + 0.5
    distance = (pixels - centres[:, :, None]).abs_().div_(scale.abs().clamp(min=1.0)[:, None, None])
    weights = KERNELS[kernel](distance)
    inside = (2 * (pixels - start[:, None]) - extent[:, None]).abs() < extent.abs()[:, None]
    weights = weights * inside[:, None, :]
    return weights / weights.sum(2, keepdim=True)


def _cubic(distance: Tensor) -> Tensor:
    near = (1.5 * distance).sub_(2.5).mul_(distance).mul_(distance).add_(1)
    far = (-0.5 * distance).add_(2.5).mul_(distance).sub_(4).mul_(distance).add_(2)
    return torch.where(distance < 1, near, far) * (distance < 2)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp_(min=0)


KERNELS = {"bicubic": _cubic, "bilinear": _triangle}  # weights at a distance in pixels of the coarser grid


def _to_levels(values: Tensor) -> Tensor:
    """Rounds to whole levels of 8 bits, in place."""
    return values.clamp_(0, 255).round_()
