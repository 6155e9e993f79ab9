"""Space-time Vision Transformer: a plain ViT over tubelets, with separable learnable positions.

Feichtenhofer et al., "Masked Autoencoders As Spatiotemporal Learners", NeurIPS 2022, arXiv:2205.09113, §3.
B clips of T frames, t = T / tubelet steps, S = rows x columns patches of a step, L = t · S tokens (step by step, then
row by row), D width.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import calculate_drop_path_rates
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from pipeline.nn.families import vit
from pipeline.nn.families.vit import embed_patches, encode
from pipeline.nn.positions import resize_table

STD = 0.02
SPACE, TIME, CLASS = "pos_embed_spatial", "pos_embed_temporal", "pos_embed_class"
INITIALISATIONS = ("mae_st", "pyslowfast")


class Tubelets(nn.Module):
    """Cuts clips into tubelets and embeds each: (B, 3, T, H, W) -> (B, L, D)."""

    def __init__(self, size: Mapping[str, Any], image_size: tuple[int, int], num_frames: int) -> None:
        super().__init__()
        patch, self.tubelet = size["patch_size"], size["tubelet"]
        self.patch_size = (patch, patch)
        self.grid_size = (image_size[0] // patch, image_size[1] // patch)
        self.num_steps = num_frames // self.tubelet
        self.num_patches = self.num_steps * self.grid_size[0] * self.grid_size[1]
        kernel = (self.tubelet, patch, patch)
        self.proj = nn.Conv3d(3, size["width"], kernel, stride=kernel)

    def forward(self, video: Tensor) -> Tensor:
        return self.proj(video).flatten(2).transpose(1, 2)


class SpaceTimeTransformer(nn.Module):
    """A pre-norm ViT that knows of space and time only by its tubelets and positions; blocks are timm's."""

    num_prefix_tokens = 1

    def __init__(self, size: Mapping[str, Any], image_size: tuple[int, int], drop_path: float, num_frames: int) -> None:
        super().__init__()
        width = self.embed_dim = size["width"]
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.num_frames, self.position_std = num_frames, size.get("position_std", STD)
        self.patch_embed = Tubelets(size, image_size, num_frames)
        rows, columns = self.patch_embed.grid_size
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed_spatial = nn.Parameter(torch.empty(1, rows * columns, width))
        self.pos_embed_temporal = nn.Parameter(torch.empty(1, self.patch_embed.num_steps, width))
        self.pos_embed_class = nn.Parameter(torch.empty(1, 1, width))
        rates = calculate_drop_path_rates(drop_path, size["num_blocks"])
        self.blocks = nn.Sequential(
            *[Block(width, size["num_heads"], qkv_bias=True, norm_layer=norm, drop_path=rate) for rate in rates]
        )
        self.norm = norm(width)

    @property
    def pos_embed(self) -> Tensor:
        """(1, 1 + L, D), the class token's first."""
        return joined(self.pos_embed_class, self.pos_embed_spatial, self.pos_embed_temporal)

    def forward_features(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 1 + L, D), after the final norm."""
        return encode(self, embed_patches(self, video))

    forward = forward_features


def joined(class_: Tensor, space: Tensor, time: Tensor) -> Tensor:
    """Separable positions as one table: (1, 1, D), (1, S, D) and (1, t, D) -> (1, 1 + t · S, D)."""
    return torch.cat([class_, (time[:, :, None] + space[:, None]).flatten(1, 2)], dim=1)


def build(
    size: Mapping[str, Any], image_size: tuple[int, int], drop_path: float, num_frames: int | None = None
) -> SpaceTimeTransformer:
    """A space-time ViT of the given sizes.

    Args:
        size: of `config/models/vit_st.yaml`; `position_std` is the first positions' deviation, `STD` if it is not said.

    Raises:
        ValueError: tubelets do not tile the frames, or there is no such initialisation.
    """
    frames = num_frames or size["num_frames"]
    if frames % size["tubelet"]:
        raise ValueError(f"num_frames is {frames}; expected a multiple of the tubelet, {size['tubelet']}")
    encoder = SpaceTimeTransformer(size, image_size, drop_path, frames)
    initialise(encoder, size["initialisation"])
    nn.init.trunc_normal_(encoder.cls_token, std=STD)
    for table in (encoder.pos_embed_spatial, encoder.pos_embed_temporal, encoder.pos_embed_class):
        nn.init.trunc_normal_(table, std=encoder.position_std)
    return encoder


def initialise(module: nn.Module, kind: str, bias: float = STD) -> None:
    """Initial values of maps, kernels and norms.

    Args:
        kind: `mae_st`, Xavier-uniform maps (queries, keys and values each by themselves) and kernel, zero biases; or
            `pyslowfast`, normal ones with biases of `bias`. The code bases of the paper's authors differ.
        bias: of PySlowFast's maps and norms, 0.02 in the encoder and 0 in the decoder.
    """
    if kind not in INITIALISATIONS:
        raise ValueError(f"initialisation is {kind!r}; available: {list(INITIALISATIONS)}")
    xavier, bias = kind == "mae_st", 0.0 if kind == "mae_st" else bias
    for name, part in module.named_modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.constant_(part.bias, bias)
        elif isinstance(part, nn.Linear | nn.Conv3d):
            weights = part.weight.flatten(1)
            for matrix in weights.chunk(3) if name.endswith("qkv") else (weights,):
                nn.init.xavier_uniform_(matrix) if xavier else nn.init.trunc_normal_(matrix, std=STD)
            if isinstance(part, nn.Linear):  # the kernel's bias keeps PyTorch's default
                nn.init.constant_(part.bias, bias)


def fit_positions(state: dict[str, Tensor], encoder: SpaceTimeTransformer) -> dict[str, Tensor]:
    """A saved state with its tables carried to the encoder's grid: bicubic in space, linear in time."""
    space = resize_table(state[SPACE], *encoder.patch_embed.grid_size, num_prefix=0)
    time = state[TIME]
    if time.shape[1] != (steps := encoder.patch_embed.num_steps):
        time = F.interpolate(time.float().transpose(1, 2), size=steps, mode="linear").transpose(1, 2).to(time.dtype)
    return {**state, SPACE: space, TIME: time}


def inflate(state: Mapping[str, Tensor], encoder: SpaceTimeTransformer) -> dict[str, Tensor]:
    """An image ViT's state for a space-time encoder: of a clip that stands still it makes the same tokens.

    The kernel is repeated over the tubelet's frames and divided by their number; positions in time start at zero.
    """
    state, tubelets = dict(state), encoder.patch_embed
    kernel, table = state.pop("patch_embed.proj.weight"), state.pop("pos_embed")
    table = resize_table(table, *tubelets.grid_size)
    repeated = kernel[:, :, None].expand(-1, -1, tubelets.tubelet, -1, -1) / tubelets.tubelet
    return {
        **state,
        "patch_embed.proj.weight": repeated.contiguous(),
        CLASS: table[:, :1].clone(),
        SPACE: table[:, 1:].clone(),
        TIME: table.new_zeros(1, tubelets.num_steps, table.shape[2]),
    }


def deflate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A space-time encoder's state for an image ViT: the kernel summed over time, positions of space alone."""
    state = dict(state)
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].sum(dim=2)
    state["pos_embed"] = torch.cat([state.pop(CLASS), state.pop(SPACE)], dim=1)
    del state[TIME]
    return state


def of_images(
    size: Mapping[str, Any], state: Mapping[str, Tensor], image_size: tuple[int, int], drop_path: float
) -> nn.Module:
    """A saved space-time encoder as the plain ViT of a single moment, deflated."""
    encoder = vit.build(size, image_size, drop_path)
    encoder.load_state_dict(vit.fit_positions(deflate(state), encoder))
    return encoder
