"""A pretrained Vision Transformer as a backbone: any input size, maps instead of tokens.

Li et al. (ViTDet), arXiv:2203.16527, sec. 3; taps of several blocks as in Bao et al. (BEiT), arXiv:2106.08254.
B images, D width, P patch size, h = H / P and w = W / P patches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import LayerScale, resample_patch_embed
from torch import Tensor, nn

from pipeline.config import ConfigError
from pipeline.tasks.dense.attention import MapAttention


@dataclass(frozen=True, kw_only=True)
class ViTOptions:
    """How a plain ViT is run over large images.

    patch_size: to which the patch kernel is resampled; None keeps it.
    window_size: patches along a window's side in the blocks that are not in `global_blocks`; None for no windows.
    global_blocks: indices, from 0, of the blocks that see the whole map.
    relative: relative positions that start from zero: `none`, `bias` or `decomposed`.
    class_token: whether class and register tokens take part.
    layer_scale: what each branch's new LayerScale starts from; None for none.
    """

    patch_size: int | None
    window_size: int | None
    global_blocks: Sequence[int]
    relative: str
    class_token: bool
    layer_scale: float | None


class MapViT(nn.Module):
    """The blocks of a timm ViT or BEiT, giving maps.

    Args:
        encoder: pretrained; its weights are taken over and its final norm is left out, as in both papers.
        options: how it is run.
        taps: indices, from 0, of the blocks whose outputs are given.
        image_size: side of a training image in pixels; sizes tables of relative positions, limits no input.
    """

    def __init__(self, encoder: nn.Module, options: ViTOptions, *, taps: Sequence[int], image_size: int) -> None:
        super().__init__()
        depth = len(encoder.blocks)
        outside = [index for index in (*taps, *options.global_blocks) if not 0 <= index < depth]
        if outside or not taps:
            raise ConfigError(f"blocks {outside or list(taps)} are not among the encoder's, 0 to {depth - 1}")
        self.taps, self.width, self.num_blocks = tuple(taps), encoder.embed_dim, depth
        self.pretrained_grid = tuple(encoder.patch_embed.grid_size)
        self.patch_embed = encoder.patch_embed.proj
        if options.patch_size not in (None, encoder.patch_embed.patch_size[0]):
            self.patch_embed = _resample(self.patch_embed, options.patch_size)
        self.patch_size = self.patch_embed.kernel_size[0]
        self.num_prefix = encoder.num_prefix_tokens if options.class_token else 0
        first = 0 if self.num_prefix else encoder.num_prefix_tokens
        # Fixed in pretraining, trained here, as in the official fine-tuning code.
        table = encoder.pos_embed
        self.pos_embed = None if table is None else nn.Parameter(table.detach()[:, first:].clone())
        self.cls_token = encoder.cls_token if self.num_prefix else None
        self.reg_token = getattr(encoder, "reg_token", None) if self.num_prefix else None
        self.norm_pre = getattr(encoder, "norm_pre", nn.Identity())
        shared = getattr(encoder, "rel_pos_bias", None)
        self.blocks = encoder.blocks[: max(self.taps) + 1]
        for index, block in enumerate(self.blocks):
            whole = options.window_size is None or index in options.global_blocks
            block.attn = MapAttention(
                block.attn,
                window_size=None if whole else options.window_size,
                # What was learned about positions is not thrown away for something that starts from zero.
                relative=options.relative if shared is None else "bias",
                grid_size=-(-image_size // self.patch_size),
                num_prefix=self.num_prefix,
            )
            if shared is not None:
                block.attn.relative.load(shared.relative_position_bias_table, self.pretrained_grid)
            if options.layer_scale is not None and shared is None:
                block.ls1 = LayerScale(self.width, init_values=options.layer_scale)
                block.ls2 = LayerScale(self.width, init_values=options.layer_scale)
            block.forward = partial(_attend_on_map, block)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of the tapped blocks.

        Args:
            images: (B, 3, H, W), normalised, of any size; filled up with zeros to whole patches.

        Returns:
            One (B, D, h, w) per tap, in the order of the taps.
        """
        side = self.patch_size
        images = F.pad(images, (0, -images.shape[-1] % side, 0, -images.shape[-2] % side))
        patches = self.patch_embed(images)
        grid = (patches.shape[-2], patches.shape[-1])
        tokens = patches.flatten(2).transpose(1, 2)
        prefix = [part.expand(len(tokens), -1, -1) for part in (self.cls_token, self.reg_token) if part is not None]
        tokens = torch.cat([*prefix, tokens], dim=1)
        tokens = self.norm_pre(tokens if self.pos_embed is None else tokens + self._positions(grid))
        maps: dict[int, Tensor] = {}
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, grid)
            if index in self.taps:
                maps[index] = tokens[:, self.num_prefix :].transpose(1, 2).unflatten(2, grid)
        return [maps[index] for index in self.taps]

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        if grid == self.pretrained_grid:
            return self.pos_embed
        prefix, table = self.pos_embed.split([self.num_prefix, self.pos_embed.shape[1] - self.num_prefix], dim=1)
        table = table.transpose(1, 2).unflatten(2, self.pretrained_grid)
        table = F.interpolate(table.float(), size=grid, mode="bicubic", align_corners=False)
        return torch.cat([prefix, table.flatten(2).transpose(1, 2).to(prefix.dtype)], dim=1)


def _attend_on_map(block: nn.Module, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """A timm block with a `MapAttention`: (B, T + h w, D) -> the same shape, for the grid (h, w)."""
    first, second = _scales(block)
    tokens = tokens + block.drop_path1(first(block.attn(block.norm1(tokens), grid)))
    return tokens + block.drop_path2(second(block.mlp(block.norm2(tokens))))


def _scales(block: nn.Module) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """What scales a block's two branches: a ViT's LayerScale modules, or a BEiT's parameters."""
    if hasattr(block, "ls1"):
        return block.ls1, block.ls2
    return (lambda x: block.gamma_1 * x), (lambda x: block.gamma_2 * x)


def _resample(proj: nn.Conv2d, side: int) -> nn.Conv2d:
    """The patch kernel for patches of another size, by the pseudo-inverse of resizing (FlexiViT, arXiv:2212.08013)."""
    kernel = nn.Conv2d(proj.in_channels, proj.out_channels, side, stride=side, bias=proj.bias is not None)
    with torch.no_grad():
        kernel.weight.copy_(resample_patch_embed(proj.weight, [side, side]))
        if proj.bias is not None:
            kernel.bias.copy_(proj.bias)
    return kernel
