"""Vision Transformer whose blocks read images and text alike: M3AE's encoder, as it stands on images alone.

Geng et al., "Multimodal Masked Autoencoders Learn Transferable Representations", 2022, arXiv:2205.14204, released code.
The words' table belongs to the method: no task of images needs it. B images, L patches, N tokens of both modalities,
D width.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from timm.layers import PatchEmbed, calculate_drop_path_rates
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from pipeline.nn.families.vit import embed_patches, encode
from pipeline.nn.families.vit import initialise as initialise_maps
from pipeline.nn.positions import resize_table, sincos_table

STD = 0.02
TABLE = "pos_embed_image"


class JointTransformer(nn.Module):
    """A pre-norm ViT with fixed sine-cosine positions and an embedding that says "image"; blocks are timm's."""

    num_prefix_tokens = 1

    def __init__(self, size: Mapping[str, Any], image_size: tuple[int, int], drop_path: float) -> None:
        super().__init__()
        width = self.embed_dim = size["width"]
        self.patch_embed = PatchEmbed(image_size, size["patch_size"], embed_dim=width)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        # Named so that layer-wise decay and a dense task's backbone take both for positions.
        self.pos_embed_image = nn.Parameter(
            sincos_table(width, *self.patch_embed.grid_size, num_prefix=0), requires_grad=False
        )
        self.pos_embed_type = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = build_blocks(width, size["num_blocks"], size["num_heads"], drop_path)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    @property
    def pos_embed(self) -> Tensor:
        """(1, 1 + L, D): nothing for the class token, then positions with the image's type."""
        return torch.cat([torch.zeros_like(self.pos_embed_type), self.pos_embed_image + self.pos_embed_type], dim=1)

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1 + L, D), after the final norm."""
        return encode(self, embed_patches(self, images))

    forward = forward_features

    def encode_joint(self, tokens: Tensor, padding: Tensor | None) -> Tensor:
        """Class token in front, all blocks, final norm, padded tokens seen by none.

        Args:
            tokens: (B, N, D), embedded patches and words.
            padding: (B, N), True where there is no token; None where there are all.

        Returns:
            (B, 1 + N, D); what stands in padded places means nothing.
        """
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return self.norm(attend(self.blocks, tokens, padding))


def build(size: Mapping[str, Any], image_size: tuple[int, int], drop_path: float) -> JointTransformer:
    """A joint encoder of the given sizes, initialised as MAE is, its patch bias at zero."""
    encoder = JointTransformer(size, image_size, drop_path)
    initialise(encoder)
    return encoder


def initialise(module: nn.Module) -> None:
    """MAE's maps and norms with zero biases everywhere; tokens and types normal, with a deviation of 0.02."""
    initialise_maps(module)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.zeros_(part.bias)
    for parameter in module.parameters(recurse=False):
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=STD)


def build_blocks(width: int, depth: int, num_heads: int, drop_path: float = 0.0) -> nn.Sequential:
    """Pre-norm blocks with Flax's GELU, the approximation by tanh."""
    gelu, norm = partial(nn.GELU, approximate="tanh"), partial(nn.LayerNorm, eps=1e-6)
    return nn.Sequential(*[
        Block(width, num_heads, qkv_bias=True, norm_layer=norm, act_layer=gelu, drop_path=rate)
        for rate in calculate_drop_path_rates(drop_path, depth)
    ])  # fmt: skip


def attend(blocks: nn.Sequential, tokens: Tensor, padding: Tensor | None) -> Tensor:
    """Run blocks on a class token and N others, of which (B, N) padded ones are keys to none."""
    if padding is None:
        return blocks(tokens)
    there = torch.cat([padding.new_ones(len(padding), 1), ~padding], dim=1)[:, None, None]  # (B, 1, 1, 1 + N)
    for block in blocks:
        tokens = block(tokens, attn_mask=there)
    return tokens


def sincos_line(width: int, length: int) -> Tensor:
    """Fixed positions of a text, sines then cosines at frequencies 10000^(-2k / width): (1, length, width)."""
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)[None].float()


def fit_positions(state: dict[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """A saved state with its table of positions carried to the encoder's grid."""
    return {**state, TABLE: resize_table(state[TABLE], *encoder.patch_embed.grid_size, num_prefix=0)}
