"""A plain float32 MAE, written straight from timm's blocks: what our training step is measured against.

The same sizes, masking, loss and optimiser as `pipeline.methods.mae`, without autocast or any other care for speed.
"""

import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn


class PlainMAE(nn.Module):
    """MAE ViT-B/16 with the 8-block, 512-wide decoder, on 224 px images."""

    def __init__(self, width: int = 768, depth: int = 12, heads: int = 12, mask_ratio: float = 0.75) -> None:
        super().__init__()
        self.mask_ratio = mask_ratio
        self.patch_embed = PatchEmbed(224, 16, 3, width)
        num = self.patch_embed.num_patches
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, num + 1, width) * 0.02, requires_grad=False)
        self.blocks = nn.ModuleList([Block(width, heads, 4, qkv_bias=True) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.decoder_embed = nn.Linear(width, 512)
        self.mask_token = nn.Parameter(torch.randn(1, 1, 512) * 0.02)
        self.decoder_pos_embed = nn.Parameter(torch.randn(1, num + 1, 512) * 0.02, requires_grad=False)
        self.decoder_blocks = nn.ModuleList([Block(512, 16, 4, qkv_bias=True) for _ in range(8)])
        self.decoder_norm = nn.LayerNorm(512)
        self.decoder_pred = nn.Linear(512, 16 * 16 * 3)

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """The loss of one step on (B, 3, 224, 224) images, with (B, 196) uniform draws."""
        x = self.patch_embed(images) + self.pos_embed[:, 1:]
        num, width = x.shape[1:]
        keep = int(num * (1 - self.mask_ratio))
        order = noise.argsort(dim=1)
        restore = order.argsort(dim=1)
        x = torch.gather(x, 1, order[:, :keep, None].repeat(1, 1, width))
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([cls, x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.decoder_embed(self.norm(x))
        gaps = self.mask_token.repeat(len(x), num - keep, 1)
        patches = torch.cat([x[:, 1:], gaps], dim=1)
        patches = torch.gather(patches, 1, restore[:, :, None].repeat(1, 1, 512))
        x = torch.cat([x[:, :1], patches], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        prediction = self.decoder_pred(self.decoder_norm(x))[:, 1:]
        target = images.reshape(len(x), 3, 14, 16, 14, 16).permute(0, 2, 4, 3, 5, 1).reshape(len(x), num, -1)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6) ** 0.5
        error = ((prediction - target) ** 2).mean(-1)
        mask = (restore >= keep).float()
        return (error * mask).sum() / mask.sum()
