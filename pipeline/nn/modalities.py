"""What a clip is besides RGB: a network for each modality, and decoders back to clips.

B clips of T frames, S pixels a side; F mel bands and A frames of a spectrogram; D width of an embedding.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.resnet import ResNet
from torch import Tensor, nn

from pipeline.nn.families.r2plus1d import R2Plus1D
from pipeline.nn.families.resnet import BLOCKS

CHANNELS = {"rgb": 3, "grey": 1, "flow": 2, "sound": 1}
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class SoundNet(ResNet):
    """A 2-D ResNet on (B, 1, F, A) spectrograms, as deep and wide as the (2+1)D one of the same sizes."""

    def __init__(self, size: Mapping[str, Any]) -> None:
        super().__init__(
            BLOCKS[size["block"]], tuple(size["layers"]), num_classes=0, global_pool="", in_chans=1,
            channels=tuple(size["channels"]), zero_init_last=False,
        )  # fmt: skip
        if not size["pooled_stem"]:
            self.conv1 = nn.Conv2d(1, self.conv1.out_channels, size["stem_kernel"], 2, 1, bias=False)
            self.maxpool = nn.Identity()

    def stages(self, sound: Tensor, last: int = 4) -> list[Tensor]:
        """Maps after the stages up to the last wanted, finest first."""
        maps, found = self.maxpool(self.act1(self.bn1(self.conv1(sound)))), []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4)[:last]:
            maps = stage(maps)
            found.append(maps)
        return found


def build_network(modality: str, size: Mapping[str, Any]) -> nn.Module:
    """A network of `stages` for a modality: 2-D for sound, (2+1)D for all others."""
    return SoundNet(size) if modality == "sound" else R2Plus1D(size, num_channels=CHANNELS[modality])


def grey(video: Tensor) -> Tensor:
    """(B, 3, T, S, S) -> (B, 1, T, S, S)."""
    return (video * video.new_tensor(LUMA).view(3, 1, 1, 1)).sum(dim=1, keepdim=True)


def reduced(samples: Tensor, frames: int, size: int) -> Tensor:
    """What a decoder is to give: clips (B, C, frames, size, size), sound (B, 1, 1, size, size)."""
    if samples.ndim == 4:
        return F.adaptive_avg_pool2d(samples, size)[:, :, None]
    return F.adaptive_avg_pool3d(samples, (frames, size, size))


class ClipDecoder(nn.Module):
    """From an embedding to a small clip: transposed (2+1)D convolutions, each of which doubles its sides.

    Args:
        embed_dim: D.
        width: channels inside.
        channels: C that come out.
        frames, size: of what comes out; its side is 2^depth times a whole number. Time doubles while it can.
        depth: convolutions.

    Raises:
        ValueError: the sides cannot be halved that often.
    """

    def __init__(self, embed_dim: int, width: int, channels: int, frames: int, size: int, depth: int) -> None:
        super().__init__()
        if size % 2**depth:
            raise ValueError(f"target_size is {size}; expected a multiple of {2**depth}, decoder_depth being {depth}")
        doublings = min(depth, (frames & -frames).bit_length() - 1)
        self.shape = (width, frames >> doublings, size >> depth, size >> depth)
        self.seed = nn.Linear(embed_dim, int(torch.tensor(self.shape).prod()))
        layers: list[nn.Module] = []
        for place in range(depth):
            in_time = ((4, 1, 1), (2, 1, 1), (1, 0, 0)) if place < doublings else ((1, 1, 1), 1, 0)
            layers += [
                nn.BatchNorm3d(width),
                nn.ReLU(inplace=True),
                nn.ConvTranspose3d(width, width, (1, 4, 4), (1, 2, 2), (0, 1, 1), bias=False),
                nn.ConvTranspose3d(width, width, *in_time, bias=False),
            ]
        self.layers = nn.Sequential(
            *layers, nn.BatchNorm3d(width), nn.ReLU(inplace=True), nn.Conv3d(width, channels, 1)
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, D) -> (B, C, frames, size, size)."""
        return self.layers(self.seed(embedding).unflatten(1, self.shape))
