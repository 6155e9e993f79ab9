"""timm's ResNet, with a small stem for small images.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385. The sizes of `resnet50` are
those of torchvision, and so are its keys.
"""

from collections.abc import Mapping
from typing import Any

import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


def build(size: Mapping[str, Any], image_size: tuple[int, int], drop_path: float) -> ResNet:
    """A ResNet of the given sizes; it takes images of any size."""
    encoder = ResNet(
        BLOCKS[size["block"]],
        tuple(size["layers"]),
        num_classes=0,
        global_pool="",
        channels=tuple(size["channels"]),
        drop_path_rate=drop_path,
        zero_init_last=False,
    )
    if size["small_stem"]:
        encoder.conv1 = nn.Conv2d(3, encoder.conv1.out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(encoder.conv1.weight, mode="fan_out", nonlinearity="relu")
        encoder.maxpool = nn.Identity()
    encoder.embed_dim = encoder.num_features
    return encoder.to(memory_format=torch.channels_last)  # a fifth to a quarter faster; feature maps follow the kernels


def zero_init_last(encoder: nn.Module) -> None:
    """Let each residual block begin as its shortcut alone.

    Raises:
        ValueError: the encoder has no such blocks.
    """
    if not isinstance(encoder, ResNet):
        raise ValueError(f"zero_init_last is set, and {encoder.model_name} has no residual blocks with BatchNorm")
    for block in encoder.modules():
        if isinstance(block, BasicBlock | Bottleneck):
            block.zero_init_last()


def fit_positions(state: dict[str, Tensor], encoder: ResNet) -> dict[str, Tensor]:
    """A convolutional encoder has no positions."""
    return state


def stage_of(name: str) -> int:
    """Stage of a parameter by its name: 0 for the stem, 1 to 4."""
    for stage in range(1, 5):
        if f"layer{stage}." in name:
            return stage
    return 0


def stages(encoder: ResNet, images: Tensor) -> list[Tensor]:
    """Maps after each of the four stages, finest first."""
    maps = encoder.maxpool(encoder.act1(encoder.bn1(encoder.conv1(images))))
    found = []
    for stage in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
        maps = stage(maps)
        found.append(maps)
    return found
