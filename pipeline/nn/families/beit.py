"""timm's BEiT: relative position bias shared by all blocks, LayerScale, no absolute positions.

Bao et al., "BEiT: BERT Pre-Training of Image Transformers", ICLR 2022, arXiv:2106.08254; sizes and initialisation as
in BEiT v2's released code.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from timm.layers import resize_rel_pos_bias_table
from timm.models.beit import Beit, gen_relative_position_index
from torch import Tensor, nn

STD = 0.02


def build(size: Mapping[str, Any], image_size: tuple[int, int], drop_path: float) -> Beit:
    """A BEiT of the given sizes."""
    encoder = Beit(
        img_size=image_size,
        patch_size=size["patch_size"],
        num_classes=0,
        global_pool="token",  # keeps the final norm in front of the pooling
        embed_dim=size["width"],
        depth=size["num_blocks"],
        num_heads=size["num_heads"],
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        init_values=size["layer_scale"],
        use_abs_pos_emb=False,
        use_shared_rel_pos_bias=True,
        drop_path_rate=drop_path,
    )
    initialise(encoder)
    return encoder


def initialise(encoder: Beit) -> None:
    """Truncated normals cut at one deviation; the maps that end a branch shrink with their depth."""
    normal = partial(nn.init.trunc_normal_, std=STD, a=-STD, b=STD)
    for part in encoder.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            normal(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    normal(encoder.cls_token)
    for index, block in enumerate(encoder.blocks, start=1):
        for ending in (block.attn.proj, block.mlp.fc2):
            ending.weight.data.div_((2 * index) ** 0.5)


def rescale(encoder: nn.Module, layer_scale: float) -> None:
    """Let LayerScale start from another value.

    Raises:
        ValueError: the encoder has none.
    """
    if not any(name.endswith("gamma_1") for name, _ in encoder.named_parameters()):
        raise ValueError(f"layer_scale is {layer_scale}, and {encoder.model_name} has none; set it to null")
    for block in encoder.blocks:
        for scale in (block.gamma_1, block.gamma_2):
            nn.init.constant_(scale, layer_scale)


def mask_token_and_head(width: int, out: int) -> tuple[nn.Parameter, nn.Linear]:
    """What masked pretraining adds to an encoder: a (1, 1, `width`) token, and the map from `width` to `out` values."""
    token, head = nn.Parameter(torch.empty(1, 1, width)), nn.Linear(width, out)
    for weight in (token, head.weight):
        nn.init.trunc_normal_(weight, std=STD, a=-STD, b=STD)
    nn.init.zeros_(head.bias)
    return token, head


def fit_positions(state: dict[str, Tensor], encoder: Beit) -> dict[str, Tensor]:
    """A saved state with its table of displacements carried to the encoder's grid."""
    key = "rel_pos_bias.relative_position_bias_table"
    shared = encoder.rel_pos_bias
    table = resize_rel_pos_bias_table(
        state[key], new_window_size=shared.window_size, new_bias_shape=tuple(shared.relative_position_bias_table.shape)
    )
    return {**state, key: table}


def unshare_positions(encoder: nn.Module) -> None:
    """Give every block its own copy of the shared bias, as fine-tuning does; leave an encoder without one as it is."""
    shared = getattr(encoder, "rel_pos_bias", None)
    if shared is None:
        return
    encoder.rel_pos_bias = None
    window = tuple(shared.window_size)
    for block in encoder.blocks:
        part = block.attn
        part.window_size, part.num_relative_distance = window, len(shared.relative_position_bias_table)
        part.relative_position_bias_table = nn.Parameter(shared.relative_position_bias_table.detach().clone())
        del part.relative_position_index  # timm keeps a place for it, which no buffer may take
        part.register_buffer("relative_position_index", gen_relative_position_index(window), persistent=False)
