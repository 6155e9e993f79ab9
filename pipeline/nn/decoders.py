"""MAE's decoder: a few narrow Transformer blocks over visible tokens and mask tokens.

He et al. 2022 (arXiv:2111.06377) §3. B images, L patches, K visible, D encoder width, P output values per patch.
"""

from functools import partial
from typing import Any

import torch
from timm.layers import calculate_drop_path_rates
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from pipeline.masking.uniform import Masking
from pipeline.nn.families.vit import initialise
from pipeline.nn.positions import sincos_table


class Decoder(nn.Module):
    """Fill the gaps with mask tokens, attend over everything, map each patch to its values.

    Args:
        encoder: gives D, and the rows and columns of patches.
        options: of a method, with `decoder_width`, `decoder_depth` and `decoder_heads`.
        out: P.
        drop_path: rate at the last block; rates rise linearly from 0.
    """

    def __init__(self, encoder: nn.Module, options: Any, *, out: int, drop_path: float = 0.0) -> None:
        super().__init__()
        width = options.decoder_width
        rows, columns = encoder.patch_embed.grid_size
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.embed = nn.Linear(encoder.embed_dim, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(sincos_table(width, rows, columns), requires_grad=False)
        rates = calculate_drop_path_rates(drop_path, options.decoder_depth)
        self.blocks = nn.Sequential(
            *[Block(width, options.decoder_heads, qkv_bias=True, norm_layer=norm, drop_path=rate) for rate in rates]
        )
        self.norm = norm(width)
        self.pred = nn.Linear(width, out)
        initialise(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, latent: Tensor, masking: Masking) -> Tensor:
        """Predict every patch from the visible ones.

        Args:
            latent: (B, 1 + K, D), class token first.
            masking: which patches the latent's tokens are.

        Returns:
            (B, 1 + L, P), class token first.
        """
        return self.decode(self.embed(latent), masking)

    def decode(self, tokens: Tensor, masking: Masking) -> Tensor:
        """Predict every patch from visible tokens of the decoder's width: (B, 1 + K, width) -> (B, 1 + L, P)."""
        class_token, visible = tokens[:, :1], tokens[:, 1:]
        num_hidden = masking.mask.shape[1] - visible.shape[1]
        gaps = self.mask_token.to(visible.dtype).expand(len(visible), num_hidden, -1)
        shuffled = torch.cat([visible, gaps], dim=1)
        patches = shuffled.gather(1, masking.restore[..., None].expand(-1, -1, shuffled.shape[2]))
        tokens = torch.cat([class_token, patches], dim=1) + self.pos_embed
        return self.pred(self.norm(self.blocks(tokens)))
