"""Maps of several strides from a plain ViT, for heads that were made for convolutional pyramids.

Detection: the simple feature pyramid of Li et al. (ViTDet), arXiv:2203.16527, sec. 3, from the last map alone.
Segmentation: the rescaled taps of Bao et al. (BEiT), arXiv:2106.08254, one block per level.
B images, D width, C channels of a level.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from timm.layers import LayerNorm2d
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pipeline.config import ConfigError
from pipeline.tasks.dense.backbone import MapViT, ViTOptions

Norm = Callable[[int], nn.Module]


@dataclass(frozen=True, kw_only=True)
class PyramidOptions:
    """Levels over a backbone.

    scales: size of each level's map relative to the ViT's: 4, 2, 1, or a fraction such as 0.5; finest first.
    taps: block of each level, from 0; None for the last block in every level.
    channels: of every level after its convolutions; None leaves the rescaled maps as they are.
    extra_levels: further levels, each every second pixel of the one before.
    """

    scales: Sequence[float]
    taps: Sequence[int] | None
    channels: int | None
    extra_levels: int


class Pyramid(nn.Module):
    """A ViT with rescaled maps.

    Attributes: `channels`, of each level; `strides`, in pixels of the input, of each level.
    """

    def __init__(self, vit: MapViT, options: PyramidOptions, *, shrink: bool, norm: Norm) -> None:
        super().__init__()
        self.vit, self.extra_levels = vit, options.extra_levels
        # ViTDet halves the width with each doubling of the map, BEiT keeps it.
        self.rescale = nn.ModuleList(rescale(vit.width, scale, shrink=shrink, norm=norm) for scale in options.scales)
        channels = [_width_after(vit.width, scale, shrink) for scale in options.scales]
        self.project = nn.ModuleList(
            nn.Identity() if options.channels is None else _project(width, options.channels, norm) for width in channels
        )
        strides = [vit.patch_size / scale for scale in options.scales]
        if any(stride != round(stride) for stride in strides):
            raise ConfigError(f"scales {list(options.scales)} give strides {strides} with patches of {vit.patch_size}")
        self.channels = channels if options.channels is None else [options.channels] * len(channels)
        self.channels += self.channels[-1:] * options.extra_levels
        self.strides = [round(stride) for stride in strides]
        self.strides += [self.strides[-1] * 2**level for level in range(1, options.extra_levels + 1)]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> one (B, C, H / stride, W / stride) per level, in float32."""
        maps = self.vit(images)
        maps = maps * len(self.rescale) if len(maps) == 1 else maps
        levels = [project(scale(x)) for x, scale, project in zip(maps, self.rescale, self.project, strict=True)]
        for _ in range(self.extra_levels):
            levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        # mmcv's RoIAlign knows no bfloat16, and reads what a LayerNorm leaves transposed as if it were contiguous.
        return tuple(level.float().contiguous() for level in levels)


def pyramid(
    encoder: VisionTransformer,
    vit: ViTOptions,
    options: PyramidOptions,
    *,
    image_size: int,
    shrink: bool,
    norm: Norm = LayerNorm2d,
) -> Pyramid:
    """The backbone of a dense task on a pretrained encoder.

    A convolutional encoder will give its stages here, without rescaling: the heads ask for `channels`, `strides` and
    the maps, and for nothing of a ViT.

    Args:
        encoder: pretrained.
        vit: how the ViT is run.
        options: levels.
        image_size: side of a training image in pixels.
        shrink: halve the width with each doubling of the map.
        norm: makes the norm of a number of channels.
    """
    taps = options.taps if options.taps is not None else [len(encoder.blocks) - 1]
    if len(taps) not in (1, len(options.scales)):
        raise ConfigError(f"{len(taps)} taps for {len(options.scales)} scales; expected as many, or one for all")
    maps = MapViT(encoder, vit, taps=taps, image_size=image_size)
    return Pyramid(maps, options, shrink=shrink, norm=norm)


def rescale(width: int, scale: float, *, shrink: bool, norm: Norm) -> nn.Module:
    """From a map of `width` channels to one `scale` times as large."""
    half, quarter = (width // 2, width // 4) if shrink else (width, width)
    if scale == 4:
        return nn.Sequential(
            nn.ConvTranspose2d(width, half, 2, stride=2),
            norm(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2),
        )
    if scale == 2:
        return nn.ConvTranspose2d(width, half, 2, stride=2)
    if scale == 1:
        return nn.Identity()
    if scale < 1 and (1 / scale).is_integer():
        return nn.MaxPool2d(round(1 / scale))
    raise ConfigError(f"a scale is {scale}; expected 4, 2, 1 or one over a whole number, such as 0.5")


def _width_after(width: int, scale: float, shrink: bool) -> int:
    return width // round(scale) if shrink and scale > 1 else width


def _project(width: int, channels: int, norm: Norm) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width, channels, 1, bias=False),
        norm(channels),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        norm(channels),
    )
