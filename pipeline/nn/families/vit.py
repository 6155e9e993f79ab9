"""timm's Vision Transformer with MAE's initialisation and fixed positions, and ways to run a transformer by parts.

He et al. 2022 (arXiv:2111.06377), appendix A.1; Dosovitskiy et al. 2021 (arXiv:2010.11929).
B images, L patches, K of them, D width.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pipeline.nn.positions import resize_table, sincos_table


def build(size: Mapping[str, Any], image_size: tuple[int, int], drop_path: float) -> VisionTransformer:
    """A Vision Transformer of the given sizes, initialised as MAE does, with the fixed sine-cosine positions."""
    encoder = VisionTransformer(
        img_size=image_size,
        patch_size=size["patch_size"],
        num_classes=0,
        embed_dim=size["width"],
        depth=size["num_blocks"],
        num_heads=size["num_heads"],
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        drop_path_rate=drop_path,
        weight_init="skip",
    )
    initialise(encoder)
    nn.init.normal_(encoder.cls_token, std=0.02)
    grid = encoder.patch_embed.grid_size
    encoder.pos_embed = nn.Parameter(sincos_table(size["width"], *grid), requires_grad=False)
    return encoder


def fit_positions(state: dict[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """A saved state with its table of positions carried to the encoder's grid."""
    return {**state, "pos_embed": resize_table(state["pos_embed"], *encoder.patch_embed.grid_size)}


def initialise(module: nn.Module) -> None:
    """MAE's initialisation: Xavier-uniform linear maps and patch kernel, zero biases, unit LayerNorms.

    The fused query-key-value matrix is initialised as one matrix; the bias of the patch embedding keeps PyTorch's
    default. Both are side effects of the authors' code that their weights carry.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm) and part.elementwise_affine:
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Conv2d):
            nn.init.xavier_uniform_(part.weight.view(part.weight.shape[0], -1))


def embed_patches(encoder: nn.Module, images: Tensor) -> Tensor:
    """Patch tokens with their positions, without the class token: (B, 3, H, W) -> (B, L, D)."""
    return _with_positions(encoder, encoder.patch_embed(images))


def encode(encoder: nn.Module, tokens: Tensor) -> Tensor:
    """Class token in front, all blocks, final norm: (B, K, D) -> (B, 1 + K, D), for any subset of K patches."""
    return encoder.norm(run_blocks(encoder, tokens))


def run_blocks(encoder: nn.Module, tokens: Tensor, depth: int | None = None) -> Tensor:
    """Class token in front, then the first `depth` blocks or all: (B, K, D) -> (B, 1 + K, D), without the final norm.

    A shared relative position bias is added where the encoder has one; all its patches must then be there.
    """
    class_token = encoder.cls_token
    if encoder.pos_embed is not None:
        class_token = class_token + encoder.pos_embed[:, :1]
    tokens = torch.cat([class_token.expand(len(tokens), -1, -1), tokens], dim=1)
    tokens = getattr(encoder, "norm_pre", nn.Identity())(tokens)
    shared = getattr(encoder, "rel_pos_bias", None)
    arguments = {} if shared is None else {"shared_rel_pos_bias": shared()}
    for block in encoder.blocks[:depth]:
        tokens = block(tokens, **arguments)
    return tokens


def encode_masked(encoder: nn.Module, images: Tensor, mask: Tensor, mask_token: Tensor) -> Tensor:
    """Encode the whole grid with a mask token in place of each hidden patch.

    Args:
        images: (B, 3, H, W).
        mask: (B, L), True where hidden.
        mask_token: (1, 1, D); it takes the place of the patch before positions are added.

    Returns:
        (B, 1 + L, D), after the final norm.
    """
    tokens = encoder.patch_embed(images)
    tokens = torch.where(mask[..., None], mask_token.to(tokens.dtype), tokens)
    return encode(encoder, _with_positions(encoder, tokens))


def _with_positions(encoder: nn.Module, tokens: Tensor) -> Tensor:
    return tokens if encoder.pos_embed is None else tokens + encoder.pos_embed[:, encoder.num_prefix_tokens :]
