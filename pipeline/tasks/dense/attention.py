"""Self-attention over a map of patches: in windows or over all of it, with relative positions that start from zero.

Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet), ECCV 2022, arXiv:2203.16527,
for windows and decomposed relative positions; Bao et al. (BEiT), ICLR 2022, arXiv:2106.08254, for the bias table.
B images, T prefix tokens, h × w patches, N = T + h w, D width, n heads, d = D / n.
"""

import torch
import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor, nn

from pipeline.config import ConfigError

RELATIVE = ("none", "bias", "decomposed")


class MapAttention(nn.Module):
    """A timm attention that knows where its tokens lie.

    Args:
        attention: whose weights are used, a ViT's or a BEiT's.
        window_size: patches along a side of a window; None for attention over the whole map.
        relative: `none`; `bias`, a table of one number per head and displacement; or `decomposed`, products of the
            query with one learned vector per vertical and one per horizontal displacement.
        grid_size: patches along a side of a training image; sizes the tables.
        num_prefix: class and register tokens in front of the patches; windows allow none.
    """

    def __init__(
        self, attention: Attention, *, window_size: int | None, relative: str, grid_size: int, num_prefix: int
    ) -> None:
        super().__init__()
        if relative not in RELATIVE:
            raise ConfigError(f"relative is {relative!r}; expected one of {list(RELATIVE)}")
        if num_prefix and (window_size is not None or relative == "decomposed"):
            raise ConfigError(
                f"{num_prefix} class or register tokens have no place in windows or decomposed relative positions; "
                "set class_token: false"
            )
        self.attention, self.window_size = attention, window_size
        side = window_size or grid_size
        self.relative: RelativeBias | DecomposedPositions | None = None
        if relative == "bias":
            self.relative = RelativeBias(side, attention.num_heads, num_prefix)
        elif relative == "decomposed":
            self.relative = DecomposedPositions(side, attention.proj.in_features // attention.num_heads)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, T + h w, D) -> the same shape, for the grid (h, w)."""
        if self.window_size is None:
            return self._attend(tokens, grid)
        side = self.window_size
        windows = split_windows(tokens.unflatten(1, grid), side)
        return join_windows(self._attend(windows, (side, side)), side, grid).flatten(1, 2)

    def _attend(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        part = self.attention
        heads = (part.num_heads, part.proj.in_features // part.num_heads)
        q, k, v = (x.unflatten(-1, heads).transpose(1, 2) for x in _qkv(part, tokens).chunk(3, dim=-1))  # (B, n, N, d)
        if hasattr(part, "q_norm"):
            q, k = part.q_norm(q), part.k_norm(k)
        bias = None if self.relative is None else self.relative(q, grid).to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=part.scale)
        out = out.transpose(1, 2).flatten(2)
        return part.proj_drop(part.proj(part.norm(out) if hasattr(part, "norm") else out))


def _qkv(attention: nn.Module, tokens: Tensor) -> Tensor:
    """Queries, keys and values of a ViT's attention, or of a BEiT's, which has no bias for keys."""
    if getattr(attention, "q_bias", None) is None:
        return attention.qkv(tokens)
    bias = torch.cat([attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias])
    return F.linear(tokens, attention.qkv.weight, bias)


class RelativeBias(nn.Module):
    """One learned number per head and displacement, from zero, added to the attention logits; three more per head
    for class to patch, patch to class and class to class."""

    def __init__(self, side: int, num_heads: int, num_prefix: int) -> None:
        super().__init__()
        self.side, self.num_prefix = side, num_prefix
        self.table = nn.Parameter(torch.zeros(num_heads, 2 * side - 1, 2 * side - 1))
        self.prefix = nn.Parameter(torch.zeros(num_heads, 3)) if num_prefix else None

    @torch.no_grad()
    def load(self, table: Tensor, grid: tuple[int, int]) -> None:
        """Start from a BEiT's shared table, resized to this one's displacements.

        Args:
            table: (displacements + 3, n), the last three for class to patch, patch to class and class to class.
            grid: rows and columns it was made for.
        """
        patches, prefix = table[:-3].T.unflatten(1, (2 * grid[0] - 1, 2 * grid[1] - 1)), table[-3:].T
        if patches.shape != self.table.shape:
            size = self.table.shape[1:]
            patches = F.interpolate(patches[None], size=size, mode="bicubic", align_corners=True)[0]
        self.table.copy_(patches)
        if self.prefix is not None:
            self.prefix.copy_(prefix)

    def forward(self, q: Tensor, grid: tuple[int, int]) -> Tensor:
        """(n, N, N), the same for all images. Displacements beyond the table take its border."""
        rows, columns = (displacements(size, q.device).clamp(1 - self.side, self.side - 1) for size in grid)
        rows, columns = rows + self.side - 1, columns + self.side - 1
        bias = self.table[:, rows[:, None, :, None], columns[None, :, None, :]].flatten(3, 4).flatten(1, 2)
        if self.prefix is None:
            return bias
        t, patches = self.num_prefix, bias.shape[-1]
        to_patch, to_class, within = (value[:, None, None] for value in self.prefix.unbind(1))
        top = torch.cat([within.expand(-1, t, t), to_patch.expand(-1, t, patches)], dim=2)
        return torch.cat([top, torch.cat([to_class.expand(-1, patches, t), bias], dim=2)], dim=1)


class DecomposedPositions(nn.Module):
    """Learned vectors for vertical and for horizontal displacements, from zero, multiplied with the query."""

    def __init__(self, side: int, head_dim: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(2 * side - 1, head_dim))
        self.columns = nn.Parameter(torch.zeros(2 * side - 1, head_dim))

    def forward(self, q: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, n, h w, h w). For another grid than the tables were made for they are resized linearly."""
        height, width = grid
        q = q.unflatten(2, grid)
        vertical = torch.einsum("bnhwd,hkd->bnhwk", q, _vectors(self.rows, height).to(q.dtype))
        horizontal = torch.einsum("bnhwd,wkd->bnhwk", q, _vectors(self.columns, width).to(q.dtype))
        return (vertical[..., :, None] + horizontal[..., None, :]).flatten(4, 5).flatten(2, 3)


def displacements(size: int, device: torch.device) -> Tensor:
    """(size, size): position of the query less that of the key."""
    positions = torch.arange(size, device=device)
    return positions[:, None] - positions[None, :]


def split_windows(tokens: Tensor, side: int) -> Tensor:
    """(B, h, w, D) -> (B windows, side², D), the map filled up with zeros at its bottom and right.

    As in ViTDet, tokens do attend to the filling of their window.
    """
    height, width = tokens.shape[1:3]
    tokens = F.pad(tokens, (0, 0, 0, -width % side, 0, -height % side))
    blocks = tokens.unflatten(2, (-1, side)).unflatten(1, (-1, side))  # (B, rows, side, columns, side, D)
    return blocks.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def join_windows(windows: Tensor, side: int, grid: tuple[int, int]) -> Tensor:
    """The inverse of `split_windows`: (B windows, side², D) -> (B, h, w, D)."""
    height, width = grid
    rows, columns = -(-height // side), -(-width // side)
    blocks = windows.unflatten(1, (side, side)).unflatten(0, (-1, rows, columns))
    return blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width]


def _vectors(table: Tensor, size: int) -> Tensor:
    """(2 side - 1, d) -> (size, size, d), one vector per query and key position."""
    if len(table) != 2 * size - 1:
        table = F.interpolate(table.T[None].float(), size=2 * size - 1, mode="linear")[0].T.to(table.dtype)
    return table[displacements(size, table.device) + size - 1]
