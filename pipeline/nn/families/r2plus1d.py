"""(2+1)D ResNet: each convolution of k frames and k × k pixels is one of space followed by one of time.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018, arXiv:1711.11248; blocks
of He et al. 2016 (arXiv:1512.03385). Between the two stand a norm and a rectifier. B clips of T frames, C channels, D
width of the last stage, t · h · w places of its maps.

Departures: between the two are as many channels as come out, not as many as give the weights of a whole convolution.
"""

from collections.abc import Mapping
from typing import Any

import torch
from timm.layers import DropPath, calculate_drop_path_rates
from torch import Tensor, nn

EXPANSION = {"basic": 1, "bottleneck": 4}


class SpaceTimeConv(nn.Sequential):
    """k × k pixels, norm, rectifier, then k frames: (B, C, T, H, W) -> (B, C', T', H', W')."""

    def __init__(
        self, inside: int, outside: int, kernel: int = 3, space: int = 1, time: int = 1, depth: int = 3
    ) -> None:
        super().__init__()
        self.spatial = nn.Conv3d(
            inside, outside, (1, kernel, kernel), (1, space, space), (0, kernel // 2, kernel // 2), bias=False
        )
        self.norm = nn.BatchNorm3d(outside)
        self.act = nn.ReLU(inplace=True)
        self.temporal = nn.Conv3d(outside, outside, (depth, 1, 1), (time, 1, 1), (depth // 2, 0, 0), bias=False)


class Block(nn.Module):
    """A residual block, `basic` (two (2+1)D convolutions) or `bottleneck` (one between two of single pixels)."""

    def __init__(self, kind: str, inside: int, width: int, space: int, time: int, drop_path: float) -> None:
        super().__init__()
        outside = width * EXPANSION[kind]
        if kind == "basic":
            self.conv1, self.conv2 = SpaceTimeConv(inside, width, space=space, time=time), SpaceTimeConv(width, width)
            self.conv3 = None
        else:
            self.conv1 = nn.Conv3d(inside, width, 1, bias=False)
            self.conv2 = SpaceTimeConv(width, width, space=space, time=time)
            self.conv3 = nn.Conv3d(width, outside, 1, bias=False)
            self.bn3 = nn.BatchNorm3d(outside)
        self.bn1, self.bn2 = nn.BatchNorm3d(width), nn.BatchNorm3d(width)
        self.act, self.drop_path = nn.ReLU(inplace=True), DropPath(drop_path)
        self.downsample = None
        if (inside, space, time) != (outside, 1, 1):
            self.downsample = nn.Sequential(
                nn.Conv3d(inside, outside, 1, (time, space, space), bias=False), nn.BatchNorm3d(outside)
            )

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(self.act(self.bn1(self.conv1(maps)))))
        if self.conv3 is not None:
            inner = self.bn3(self.conv3(self.act(inner)))
        return self.act((maps if self.downsample is None else self.downsample(maps)) + self.drop_path(inner))


class R2Plus1D(nn.Module):
    """Stem and four stages; it takes clips of any size.

    Args:
        size: `block`, `layers` and `channels` of the stages, `stem_kernel`, `space_strides` and `time_strides` of stem
            and stages, `pooled_stem`.
        drop_path: rate at the last block; rates rise linearly from 0.
        num_channels: of the clips.
    """

    def __init__(self, size: Mapping[str, Any], drop_path: float = 0.0, num_channels: int = 3) -> None:
        super().__init__()
        first, kind = size["channels"][0], size["block"]
        space, time = size["space_strides"], size["time_strides"]
        self.stem = nn.Sequential(
            SpaceTimeConv(num_channels, first, size["stem_kernel"], space[0], time[0]),
            nn.BatchNorm3d(first),
            nn.ReLU(inplace=True),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)) if size["pooled_stem"] else nn.Identity(),
        )
        rates = iter(calculate_drop_path_rates(drop_path, sum(size["layers"])))
        inside = first
        for number, (depth, width) in enumerate(zip(size["layers"], size["channels"], strict=True), 1):
            blocks = []
            for place in range(depth):
                strides = (1, 1) if place else (space[number], time[number])
                blocks.append(Block(kind, inside, width, *strides, next(rates)))
                inside = width * EXPANSION[kind]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.embed_dim, self.norm = inside, nn.Identity()  # where a Transformer has its final norm
        for part in self.modules():
            if isinstance(part, nn.Conv3d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def stages(self, video: Tensor, last: int = 4) -> list[Tensor]:
        """Maps after the stages up to the last wanted, finest first: (B, C, T, H, W) -> (B, C', t, h, w) each."""
        maps, found = self.stem(video), []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4)[:last]:
            maps = stage(maps)
            found.append(maps)
        return found

    def forward_features(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, 1 + t · h · w, D): the mean over the last maps, then every place of them."""
        places = self.stages(video)[-1].flatten(2).transpose(1, 2)
        return torch.cat([places.mean(dim=1, keepdim=True), places], dim=1)

    forward = forward_features


def build(size: Mapping[str, Any], drop_path: float, num_frames: int | None) -> R2Plus1D:
    """A (2+1)D ResNet of the given sizes, for clips of RGB; the number of frames is only remembered."""
    encoder = R2Plus1D(size, drop_path)
    encoder.num_frames = num_frames or size["num_frames"]
    return encoder


def fit_positions(state: dict[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """A convolutional encoder has no positions."""
    return state
