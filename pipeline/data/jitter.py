"""Colour jitter, grey and blur, each image with numbers of its own: MoCo v2's augmentation.

Chen et al., "Improved Baselines with Momentum Contrastive Learning", 2020, arXiv:2003.04297. The operations are
torchvision's ColorJitter, whose four changes come in random order, and RandomGrayscale, then a Gaussian blur, on 8 bits
as there: brightness, contrast, saturation and grey are Pillow's bits, hue and blur are OpenCV's. B images of S by S
pixels.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from pipeline.data.draws import COLOUR, Seed, uniform
from pipeline.data.operations import Pixels, brightness, color, contrast, desaturate
from pipeline.data.transforms import RandomCrop

BLUR = (0.1, 2.0)  # deviations in pixels


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
        self.strengths = np.array([brightness, contrast, saturation, hue])
        self.jitter_share, self.grey_share, self.blur_share = jitter_share, grey_share, blur_share

    def coloured(self, crops: Tensor, seed: Seed, epochs: Tensor, indices: Tensor) -> Tensor:
        """The same, changed."""
        draws = uniform(seed, epochs, indices, 12, COLOUR).numpy().astype(np.float64)
        images = crops.permute(0, 2, 3, 1).numpy().copy(order="C")
        for image, row in zip(images, draws, strict=True):
            image[:] = self._change(image, row)
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def _change(self, pixels: Pixels, draws: np.ndarray) -> Pixels:
        """By draws from [0, 1): four amounts, their places in the order, three choices, the blur's deviation."""
        if draws[8] < self.jitter_share:
            amounts = (2 * draws[:4] - 1) * self.strengths
            for kind in draws[4:8].argsort():
                if self.strengths[kind]:
                    pixels = CHANGES[kind](pixels, amounts[kind])
        if draws[9] < self.grey_share:
            pixels = desaturate(pixels, 1.0)
        if draws[10] < self.blur_share:
            pixels = blur(pixels, BLUR[0] + (BLUR[1] - BLUR[0]) * draws[11])
        return pixels


def turn(pixels: Pixels, amount: float) -> Pixels:
    """Hues turned by a share of the colour circle, which is 256 steps here and 255 in Pillow."""
    colours = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL)
    steps = int(amount * 255) % 256  # cut off, as torchvision does
    colours[..., 0] += np.uint8(steps)
    return cv2.cvtColor(colours, cv2.COLOR_HSV2RGB_FULL)


def blur(pixels: Pixels, deviation: float) -> Pixels:
    """Gaussian blur by a deviation in pixels, the border extended; Pillow's is three means that come near it."""
    return cv2.GaussianBlur(pixels, (0, 0), deviation, borderType=cv2.BORDER_REPLICATE)


# In the order of the strengths; each takes an amount around 0.
CHANGES = (
    lambda pixels, amount: brightness(pixels, 1 + amount),
    lambda pixels, amount: contrast(pixels, 1 + amount),
    lambda pixels, amount: color(pixels, 1 + amount),
    turn,
)
