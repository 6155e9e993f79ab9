"""What is done to an image before an encoder sees it: random crops to train, a centre crop to evaluate.

Each transform works on a batch of equally large images in memory (`batch`) and on one decoded file (`image`),
with the same parameters either way; they are functions of (seed, epoch, index) alone. B images of H by W
pixels, S the size that comes out. All results are normalised with ImageNet's mean and standard deviation.
"""

import math
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.data.draws import CROP, uniform
from pipeline.data.resample import KERNELS, resample

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
_TRIES = 10


class Transform(Protocol):
    """What `Images` asks of a transform."""

    image_size: int

    def batch(self, images: Tensor, seed: int, epochs: Tensor, indices: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 images of samples (B,) in epochs (B,) → (B, 3, S, S) float32, normalised."""

    def image(self, image: Image.Image, seed: int, epoch: int, index: int) -> Tensor:
        """One RGB image → (3, S, S) float32, normalised."""


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

    def batch(self, images: Tensor, seed: int, epochs: Tensor, indices: Tensor) -> Tensor:
        boxes, flips = self.parameters(seed, epochs, indices, images.shape[2], images.shape[3])
        crops = resample(images, boxes, flips, self.image_size, self.interpolation)
        return _normalise(self.coloured(crops, seed, epochs, indices))

    def image(self, image: Image.Image, seed: int, epoch: int, index: int) -> Tensor:
        epochs, indices = torch.tensor([epoch]), torch.tensor([index])
        boxes, flips = self.parameters(seed, epochs, indices, image.height, image.width)
        top, left, height, width = boxes[0].tolist()
        size, kernel = (self.image_size, self.image_size), Image.Resampling[self.interpolation.upper()]
        # Cut first, then resize: the kernel must not look past the box, as in torchvision.
        image = image.crop((left, top, left + width, top + height)).resize(size, kernel)
        if flips[0]:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return _normalise(self.coloured(_as_tensor(image)[None], seed, epochs, indices))[0]

    def coloured(self, images: Tensor, seed: int, epochs: Tensor, indices: Tensor) -> Tensor:
        """What is done to the colours of the crops, (B, 3, S, S) in [0, 255]: nothing here."""
        return images

    def parameters(self, seed: int, epochs: Tensor, indices: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """(B, 4) int64 boxes (top, left, height, width) in pixels, and (B,) bool flips."""
        tries = 1 if self.single_draw else _TRIES
        draws = uniform(seed, epochs, indices, 2 * tries + 3, CROP).to(torch.float64)
        area = height * width * _between(draws[:, :tries], *self.scale)
        shape = torch.exp(_between(draws[:, tries : 2 * tries], math.log(self.ratio[0]), math.log(self.ratio[1])))
        tall, wide = torch.sqrt(area / shape).round().long(), torch.sqrt(area * shape).round().long()
        if self.single_draw:
            tall, wide = tall.clamp(1, height)[:, 0], wide.clamp(1, width)[:, 0]
            top, left = _corner(draws[:, -3], height - tall), _corner(draws[:, -2], width - wide)
        else:
            fits = (tall > 0) & (tall <= height) & (wide > 0) & (wide <= width)
            first = fits.to(torch.int8).argmax(1, keepdim=True)
            found = fits.any(1)
            central_tall, central_wide = self._central(height, width)
            tall = torch.where(found, tall.gather(1, first)[:, 0], central_tall)
            wide = torch.where(found, wide.gather(1, first)[:, 0], central_wide)
            top = torch.where(found, _corner(draws[:, -3], height - tall), (height - tall) // 2)
            left = torch.where(found, _corner(draws[:, -2], width - wide), (width - wide) // 2)
        flips = (draws[:, -1] < 0.5) & self.flip
        return torch.stack([top, left, tall, wide], dim=1), flips

    def _central(self, height: int, width: int) -> tuple[int, int]:
        if width / height < self.ratio[0]:
            return round(width / self.ratio[0]), width
        if width / height > self.ratio[1]:
            return height, round(height * self.ratio[1])
        return height, width


class CenterCrop:
    """Evaluation: the short side resized to `resize` (bicubic), then the central `image_size` pixels."""

    def __init__(self, image_size: int, resize: int) -> None:
        if resize < image_size:
            raise ValueError(f"resize is {resize}; expected at least image_size, {image_size} (MAE: 256 and 224)")
        self.image_size, self.resize = image_size, resize

    def batch(self, images: Tensor, seed: int, epochs: Tensor, indices: Tensor) -> Tensor:
        if images.shape[2] == images.shape[3] == self.resize == self.image_size:
            return _normalise(images.to(torch.float32))
        arrays = images.permute(0, 2, 3, 1).numpy()
        return torch.stack([self.image(Image.fromarray(array), seed, 0, 0) for array in arrays])

    def image(self, image: Image.Image, seed: int, epoch: int, index: int) -> Tensor:
        short = min(image.size)
        wide, tall = (int(self.resize * side / short) for side in image.size)
        if image.size != (wide, tall):
            image = image.resize((wide, tall), Image.Resampling.BICUBIC)
        left, top = round((wide - self.image_size) / 2), round((tall - self.image_size) / 2)
        image = image.crop((left, top, left + self.image_size, top + self.image_size))
        return _normalise(_as_tensor(image)[None])[0]


def _normalise(images: Tensor) -> Tensor:
    """(B, 3, S, S) in [0, 255] → ImageNet's zero mean and unit deviation."""
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (MEAN, STD))
    return (images - mean) / std


def denormalise(images: Tensor) -> Tensor:
    """(..., 3, S, S) normalised → [0, 1], for pictures."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (MEAN, STD))
    return (images * std + mean).clamp(0, 1)


def _as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).to(torch.float32)


def _between(draws: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * draws


def _corner(draws: Tensor, room: Tensor) -> Tensor:
    """Whole positions 0…room, each equally likely."""
    return (draws * (room + 1)).long()
