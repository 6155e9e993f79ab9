"""The image tower of CLIP in timm's layout, for weights that are read.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, arXiv:2103.00020.

CLIP was trained on pixels normalised by statistics of its own. They are folded into the patch kernel, which is linear:
this encoder takes images normalised as everything here is, and computes what CLIP would of the same picture.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from timm.layers import QuickGELU
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pipeline.nn.positions import resize_table

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def build(size: Mapping[str, Any], image_size: tuple[int, int], drop_path: float) -> VisionTransformer:
    """CLIP's image tower of the given sizes; `head` is its projection."""
    encoder = VisionTransformer(
        img_size=image_size,
        patch_size=size["patch_size"],
        num_classes=size["projection"],
        embed_dim=size["width"],
        depth=size["num_blocks"],
        num_heads=size["num_heads"],
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        act_layer=QuickGELU,
        pre_norm=True,
        drop_path_rate=drop_path,
    )
    kernel = encoder.patch_embed.proj
    kernel.bias = nn.Parameter(torch.zeros(kernel.out_channels))  # CLIP has none; folding makes one
    encoder.head.bias = None
    return encoder


def fit_positions(state: dict[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """A saved state with its table of positions carried to the encoder's grid."""
    return {**state, "pos_embed": resize_table(state["pos_embed"], *encoder.patch_embed.grid_size)}


def fold_statistics(kernel: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The patch kernel for images normalised by ImageNet's statistics, from one for CLIP's.

    Args:
        kernel: (D, 3, p, p).
        bias: (D,).
    """
    (mean, std), (own_mean, own_std) = (tuple(torch.tensor(values, dtype=torch.float64) for values in statistics)
                                        for statistics in (IMAGENET, CLIP))  # fmt: skip
    wide = kernel.double()
    offset = ((mean - own_mean) / own_std)[None, :, None, None]
    shift = (wide * offset).sum(dim=(1, 2, 3)) + (0.0 if bias is None else bias.double())
    return (wide * (std / own_std)[None, :, None, None]).to(kernel.dtype), shift.to(kernel.dtype)
