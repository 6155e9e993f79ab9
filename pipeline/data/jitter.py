"""Colour jitter, grey and blur of a batch at once, each image with numbers of its own: MoCo v2's augmentation.

Chen et al., "Improved Baselines with Momentum Contrastive Learning", 2020, arXiv:2003.04297. The operations are
torchvision's ColorJitter, whose four changes come in random order, and RandomGrayscale, then a Gaussian blur.
They are applied to the crop, and the blur's weights add up to one at the border, where Pillow extends the edge.
B images of S by S pixels.
"""

import torch
from torch import Tensor

from pipeline.data.draws import COLOUR, Seed, uniform
from pipeline.data.transforms import RandomCrop, normalise_

BLUR = (0.1, 2.0)  # deviations in pixels
GREY = (0.2989, 0.587, 0.114)  # torchvision's weights of red, green and blue


class JitteredCrop(RandomCrop):
    """`RandomCrop`, then colours.

    Args:
        image_size, scale, ratio, flip, interpolation: as `RandomCrop`.
        brightness, contrast, saturation: factors are uniform between 1 - x and 1 + x.
        hue: the shift is uniform between -x and x turns of the colour circle.
        jitter_share, grey_share, blur_share: of the images to which each is done.
    """

    def __init__(
        self,
        image_size: int,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        flip: bool,
        brightness: float,
        contrast: float,
        saturation: float,
        hue: float,
        jitter_share: float,
        grey_share: float,
        blur_share: float,
        interpolation: str = "bicubic",
    ) -> None:
        super().__init__(image_size, scale, ratio, flip, interpolation=interpolation)
        self.strengths = (brightness, contrast, saturation, hue)
        self.jitter_share, self.grey_share, self.blur_share = jitter_share, grey_share, blur_share

    def coloured(self, crops: Tensor, seed: Seed, epochs: Tensor, indices: Tensor) -> Tensor:
        """The same, changed and normalised, float32."""
        draws = uniform(seed, epochs, indices, 12, COLOUR)
        images = crops.to(torch.float32, memory_format=torch.contiguous_format) / 255
        images = self._jittered(images, draws[:, :4], draws[:, 4:8].argsort(dim=1), draws[:, 8] < self.jitter_share)
        images = _where(draws[:, 9] < self.grey_share, grey(images).expand_as(images), images)
        blurred = draws[:, 10] < self.blur_share
        if blurred.any():
            images = _where(blurred, blur(images, BLUR[0] + (BLUR[1] - BLUR[0]) * draws[:, 11]), images)
        return normalise_(images * 255)

    def _jittered(self, images: Tensor, draws: Tensor, order: Tensor, chosen: Tensor) -> Tensor:
        """The four changes, in each image's own order, to those that are chosen."""
        amounts = (2 * draws - 1) * torch.tensor(self.strengths)
        for position in range(4):
            for kind, change in enumerate((brighten, contrast, saturate, turn)):
                now = chosen & (order[:, position] == kind)
                if self.strengths[kind] and now.any():
                    images = _where(now, change(images, amounts[:, kind]), images)
        return images


def brighten(images: Tensor, amounts: Tensor) -> Tensor:
    """(B, 3, S, S) in [0, 1] and (B,) -> the same, times 1 + amount."""
    return (images * (1 + amounts)[:, None, None, None]).clamp(0, 1)


def contrast(images: Tensor, amounts: Tensor) -> Tensor:
    """Away from the mean of the grey image."""
    return _blend(images, grey(images).mean(dim=(1, 2, 3), keepdim=True), amounts)


def saturate(images: Tensor, amounts: Tensor) -> Tensor:
    """Away from the grey image."""
    return _blend(images, grey(images), amounts)


def turn(images: Tensor, amounts: Tensor) -> Tensor:
    """Turn hues by a share of the colour circle, as torchvision's `adjust_hue`, which has one amount for a batch.

    Smith, "Color Gamut Transform Pairs", SIGGRAPH 1978: a channel is the value less the chroma times a trapezium of
    the hue, here in sixths of the circle; red, green and blue see it from 5, 3 and 1 sixths on.
    """
    red, green, blue = images.unbind(dim=1)
    value = images.amax(dim=1)
    chroma = value - images.amin(dim=1)
    divisor = torch.where(chroma > 0, chroma, 1.0)  # greys have no hue, and keep none
    hue = torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    hue = torch.where(value == red, (green - blue) / divisor, hue) + 6 * amounts[:, None, None]
    seen = (hue[:, None] + torch.tensor([5.0, 3.0, 1.0])[:, None, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(seen, 4 - seen).clamp(0, 1)


def grey(images: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, 1, S, S)."""
    return (images * torch.tensor(GREY)[:, None, None]).sum(dim=1, keepdim=True)


def blur(images: Tensor, deviations: Tensor) -> Tensor:
    """Gaussian blur, each image by its own deviation in pixels; beyond the border there is nothing."""
    position = torch.arange(images.shape[-1], dtype=torch.float32)
    distance = position[:, None] - position
    weights = torch.exp(-(distance**2) / (2 * deviations[:, None, None] ** 2))
    weights = (weights / weights.sum(dim=2, keepdim=True))[:, None]  # (B, 1, S, S)
    return weights @ images @ weights.transpose(2, 3)


def _blend(images: Tensor, other: Tensor, amounts: Tensor) -> Tensor:
    factor = (1 + amounts)[:, None, None, None]
    return (factor * images + (1 - factor) * other).clamp(0, 1)


def _where(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(chosen[:, None, None, None], yes, no)
