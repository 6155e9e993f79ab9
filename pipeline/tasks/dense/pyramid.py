"""Maps of several strides from any encoder, for heads that were made for convolutional pyramids.

From a plain ViT, for detection the simple feature pyramid of Li et al. (ViTDet), arXiv:2203.16527, sec. 3, made of the
last map alone, and for segmentation the rescaled taps of Bao et al. (BEiT), arXiv:2106.08254, one block per level.
From a ResNet its stages, for detection joined by a feature pyramid network (Lin et al. 2017, arXiv:1612.03144).
B images, D width, C channels of a level.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from timm.models.resnet import ResNet
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from pipeline.config import ConfigError
from pipeline.engine.optim import layers_of
from pipeline.nn.encoders import is_transformer
from pipeline.nn.families.resnet import stages
from pipeline.tasks.dense.backbone import MapViT, ViTOptions

Norm = Callable[[int], nn.Module]


@dataclass(frozen=True, kw_only=True)
class PyramidOptions:
    """Levels over a backbone.

    scales: size of each level's map relative to the ViT's: 4, 2, 1, or a fraction such as 0.5; finest first.
    taps: block of each level, from 0; None for the last block in every level. Of a ResNet the stages, None for all;
        its scales are its own.
    channels: of every level after its convolutions; None leaves the rescaled maps as they are.
    extra_levels: further levels, each every second pixel of the one before.
    """

    scales: Sequence[float]
    taps: Sequence[int] | None
    channels: int | None
    extra_levels: int


class Pyramid(nn.Module):
    """A ViT with rescaled maps.

    Attributes: `channels`, of each level; `strides`, in pixels of the input, of each level; `layers`, for
    `param_groups`.
    """

    def __init__(self, vit: MapViT, options: PyramidOptions, *, shrink: bool, norm: Norm) -> None:
        super().__init__()
        self.vit, self.extra_levels, self.layers = vit, options.extra_levels, {"num_layers": vit.num_blocks}
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
        return _finished(levels, self.extra_levels)


class ConvPyramid(nn.Module):
    """A ResNet's stages; attributes as those of `Pyramid`."""

    def __init__(self, encoder: ResNet, options: PyramidOptions) -> None:
        super().__init__()
        self.taps = list(range(4)) if options.taps is None else list(options.taps)
        if not self.taps or any(tap not in range(4) for tap in self.taps):
            raise ConfigError(f"taps is {self.taps}; a ResNet has the stages 0 to 3")
        for stage in range(max(self.taps) + 1, 4):  # nobody reads it, and DDP would wait for its gradients
            setattr(encoder, f"layer{stage + 1}", nn.Identity())
        self.encoder, self.extra_levels, self.layers = encoder, options.extra_levels, layers_of(encoder)
        if torch.distributed.is_initialized() and torch.cuda.is_available():
            self.encoder = nn.SyncBatchNorm.convert_sync_batchnorm(encoder)  # a device has few images
        infos = [encoder.feature_info[1 + tap] for tap in self.taps]
        shrunk = 1 if isinstance(encoder.maxpool, nn.Identity) else 4  # by the stem
        widths, self.strides = [info["num_chs"] for info in infos], [shrunk * 2**tap for tap in self.taps]
        self.fpn = None if options.channels is None else FeaturePyramidNetwork(widths, options.channels)
        self.channels = widths if options.channels is None else [options.channels] * len(widths)
        self.channels = self.channels + self.channels[-1:] * options.extra_levels
        self.strides += [self.strides[-1] * 2**level for level in range(1, options.extra_levels + 1)]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> one (B, C, H / stride, W / stride) per level, in float32."""
        maps = stages(self.encoder, images)
        levels = [maps[tap] for tap in self.taps]
        if self.fpn is not None:
            levels = list(self.fpn(OrderedDict(zip(map(str, self.taps), levels, strict=True))).values())
        return _finished(levels, self.extra_levels)


def _finished(levels: list[Tensor], extra_levels: int) -> tuple[Tensor, ...]:
    for _ in range(extra_levels):
        levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
    # mmcv's RoIAlign knows no bfloat16, and reads what a LayerNorm leaves transposed as if it were contiguous.
    return tuple(level.float().contiguous() for level in levels)


def pyramid(
    encoder: nn.Module,
    vit: ViTOptions,
    options: PyramidOptions,
    *,
    image_size: int,
    shrink: bool,
    norm: Norm = LayerNorm2d,
) -> Pyramid | ConvPyramid:
    """The backbone of a dense task on a pretrained encoder.

    Args:
        encoder: pretrained.
        vit: how the ViT is run.
        options: levels.
        image_size: side of a training image in pixels.
        shrink: halve the width with each doubling of the map.
        norm: makes the norm of a number of channels.
    """
    if not is_transformer(encoder):
        return ConvPyramid(encoder, options)
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
