"""What is done to an image before an encoder sees it: random crops to train, a centre crop to evaluate.

Each transform works on a batch of equally large images in memory (`batch`) and on images that are decoded one after
the other (`read`), with the same parameters either way; they are functions of (seed, epoch, index) alone. B images of
H by W pixels, S the size that comes out. What comes as uint8 is normalised with ImageNet's mean and standard deviation
where it is used (`normalised`), which may be another device; a quarter of the bytes travels there.

A file of which a crop many times larger than S is wanted is decoded at a half, a quarter or an eighth of its sides,
which libjpeg does by itself, as long as two pixels or more are left for each that comes out: Pillow's `reducing_gap`.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pipeline.data.draws import CROP, Seed, uniform
from pipeline.data.resample import KERNELS, resample

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
_TRIES = 10
_GAP = 2  # pixels that a reduced image keeps for each that comes out

Decode = Callable[[int, int], Tensor]  # index and factor → (3, ⌈H / factor⌉, ⌈W / factor⌉) uint8


class Transform(Protocol):
    """What `Images` asks of a transform."""

    image_size: int

    def batch(self, images: Tensor, seed: Seed, epochs: Tensor, indices: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 images of samples (B,) in epochs (B,) → (B, 3, S, S), see `normalised`."""

    def read(self, decode: Decode, sizes: Tensor, seed: Seed, epochs: Tensor, indices: Tensor) -> Tensor:
        """The same of images that are decoded one after the other; sizes (B, 2) are their heights and widths."""


class RandomCrop:
    """A crop of random area and shape, resized, mirrored half of the time: MAE's augmentation.

    By default torchvision's RandomResizedCrop: ten tries to draw a box that fits, then the largest central
    box of an allowed shape. With `single_draw` the crop of MAE's linear probe (spec: one draw, clamped to the
    image).

    Args:
        image_size: S.
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest width over height.
        flip: mirror left to right with probability one half.
        single_draw: draw once instead of trying.
        interpolation: `bicubic` or `bilinear`.
    """

    def __init__(
        self,
        image_size: int,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        flip: bool,
        single_draw: bool = False,
        interpolation: str = "bicubic",
    ) -> None:
        if interpolation not in KERNELS:
            raise ValueError(f"interpolation is {interpolation!r}; available: {sorted(KERNELS)}")
        for name, (low, high), limit in (("scale", scale, 1.0), ("ratio", ratio, math.inf)):
            if not 0 < low <= high <= limit:
                raise ValueError(f"{name} is {(low, high)}; expected smallest and largest, such as (0.2, 1.0)")
        self.image_size, self.scale, self.ratio = image_size, scale, ratio
        self.flip, self.single_draw, self.interpolation = flip, single_draw, interpolation

    def batch(self, images: Tensor, seed: Seed, epochs: Tensor, indices: Tensor) -> Tensor:
        boxes, flips = self.parameters(seed, epochs, indices, images.shape[2], images.shape[3])
        crops = resample(images, boxes, flips, self.image_size, self.interpolation)
        return self.coloured(crops.to(torch.uint8), seed, epochs, indices)  # they are whole levels

    def read(self, decode: Decode, sizes: Tensor, seed: Seed, epochs: Tensor, indices: Tensor) -> Tensor:
        boxes, flips = self.parameters(seed, epochs, indices, sizes[:, 0], sizes[:, 1])
        crops = torch.empty(len(boxes), self.image_size, self.image_size, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
        for crop, index, box, flip in zip(crops, indices.tolist(), boxes.tolist(), flips.tolist(), strict=True):
            resized = read_box(decode, index, box, self.image_size, self.interpolation)
            crop.copy_(resized.flip(2) if flip else resized)
        return self.coloured(crops, seed, epochs, indices)

    def coloured(self, crops: Tensor, seed: Seed, epochs: Tensor, indices: Tensor) -> Tensor:
        """What is done to the colours of the crops, (B, 3, S, S) uint8: nothing here."""
        return crops

    def parameters(
        self, seed: Seed, epochs: Tensor, indices: Tensor, height: Tensor | int, width: Tensor | int
    ) -> tuple[Tensor, Tensor]:
        """(B, 4) int64 boxes (top, left, height, width) in pixels, and (B,) bool flips; sizes are (B,), or one."""
        tries = 1 if self.single_draw else _TRIES
        draws = uniform(seed, epochs, indices, 2 * tries + 3, CROP).to(torch.float64)
        height, width = (torch.as_tensor(side, dtype=torch.int64).reshape(-1, 1) for side in (height, width))
        area = height * width * _between(draws[:, :tries], *self.scale)
        shape = torch.exp(_between(draws[:, tries : 2 * tries], math.log(self.ratio[0]), math.log(self.ratio[1])))
        tall, wide = torch.sqrt(area / shape).round().long(), torch.sqrt(area * shape).round().long()
        fits = (tall > 0) & (tall <= height) & (wide > 0) & (wide <= width)
        if self.single_draw:
            tall, wide = (torch.minimum(s.clamp(min=1), most)[:, 0] for s, most in ((tall, height), (wide, width)))
        height, width = height[:, 0], width[:, 0]
        if self.single_draw:
            top, left = _corner(draws[:, -3], height - tall), _corner(draws[:, -2], width - wide)
        else:
            first = fits.to(torch.int8).argmax(1, keepdim=True)
            found = fits.any(1)
            central_tall, central_wide = self._central(height, width)
            tall = torch.where(found, tall.gather(1, first)[:, 0], central_tall)
            wide = torch.where(found, wide.gather(1, first)[:, 0], central_wide)
            top = torch.where(found, _corner(draws[:, -3], height - tall), (height - tall) // 2)
            left = torch.where(found, _corner(draws[:, -2], width - wide), (width - wide) // 2)
        flips = (draws[:, -1] < 0.5) & self.flip
        return torch.stack([top, left, tall, wide], dim=1), flips

    def _central(self, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """The sides of the largest boxes of an allowed shape."""
        tall, wide = height.double(), width.double()
        return (
            torch.where(wide / tall < self.ratio[0], wide / self.ratio[0], tall).round().long(),
            torch.where(wide / tall > self.ratio[1], tall * self.ratio[1], wide).round().long(),
        )


class CenterCrop:
    """Evaluation: the short side resized to `resize` (bicubic), then the central `image_size` pixels."""

    def __init__(self, image_size: int, resize: int) -> None:
        if resize < image_size:
            raise ValueError(f"resize is {resize}; expected at least image_size, {image_size} (MAE: 256 and 224)")
        self.image_size, self.resize = image_size, resize

    def batch(self, images: Tensor, seed: Seed, epochs: Tensor, indices: Tensor) -> Tensor:
        if images.shape[2] == images.shape[3] == self.resize == self.image_size:
            return images
        return torch.stack([self._centre(image) for image in images])

    def read(self, decode: Decode, sizes: Tensor, seed: Seed, epochs: Tensor, indices: Tensor) -> Tensor:
        return torch.stack([self._centre(decode(index, 1)) for index in indices.tolist()])

    def _centre(self, pixels: Tensor) -> Tensor:
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())  # Pillow's resizing is what papers evaluate with
        short = min(image.size)
        wide, tall = (int(self.resize * side / short) for side in image.size)
        if image.size != (wide, tall):
            image = image.resize((wide, tall), Image.Resampling.BICUBIC)
        left, top = round((wide - self.image_size) / 2), round((tall - self.image_size) / 2)
        image = image.crop((left, top, left + self.image_size, top + self.image_size))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def read_box(decode: Decode, index: int, box: Sequence[int], size: int, kernel: str) -> Tensor:
    """A box of an image that is decoded no larger than needed, resized; see `resize`."""
    factor = next(factor for factor in (8, 4, 2, 1) if factor == 1 or min(box[2:]) >= _GAP * factor * size)
    return resize(decode(index, factor), [side // factor for side in box], size, kernel)


def resize(image: Tensor, box: Sequence[int], size: int, kernel: str) -> Tensor:
    """A box of an image, resized on 8 bits by weights of 16: Pillow's result but for a level, seldom two.

    Args:
        image: (3, H, W) uint8.
        box: top, left, height and width in pixels, inside the image.
        size: S of the square result.
        kernel: `bicubic` or `bilinear`.

    Returns:
        (3, S, S) uint8.
    """
    top, left, height, width = box
    # Cut first, then resize: the kernel must not look past the box, as in torchvision. With the channels of a pixel
    # side by side it takes half of the time.
    cut = image[None, :, top : top + height, left : left + width].contiguous(memory_format=torch.channels_last)
    return F.interpolate(cut, (size, size), mode=kernel, antialias=True)[0]


def normalised(images: Tensor) -> Tensor:
    """(..., 3, S, S) uint8 → float32 of ImageNet's zero mean and unit deviation; float32 is normalised already."""
    if images.dtype != torch.uint8:
        return images
    return normalise_(images.to(torch.float32, memory_format=torch.contiguous_format))


def normalise_(images: Tensor) -> Tensor:
    """(..., 3, S, S) in [0, 255] → ImageNet's zero mean and unit deviation, in place."""
    mean, std = _statistics(images.device)
    return images.sub_(mean).div_(std)


@lru_cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of [0, 255], (3, 1, 1) each."""
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) * 255 for values in (MEAN, STD))
    return mean, std


def denormalise(images: Tensor) -> Tensor:
    """(..., 3, S, S) normalised → [0, 1], for pictures."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (MEAN, STD))
    return (images * std + mean).clamp(0, 1)


def _between(draws: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * draws


def _corner(draws: Tensor, room: Tensor) -> Tensor:
    """Whole positions 0…room, each equally likely."""
    return (draws * (room + 1)).long()
