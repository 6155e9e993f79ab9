"""M3AE's decoder: a narrow transformer over all places of images and texts, mask tokens in those that were hidden.

Geng et al. 2022 (arXiv:2205.14204), released code.
B samples, N places of a modality, K of them visible, D encoder width.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.masking.uniform import Masking, keep
from pipeline.nn.families.vit_joint import STD, attend, build_blocks, initialise


class Stream(NamedTuple):
    """One modality of a batch.

    tokens: (B, N, D), embedded, hidden places too.
    masking: which places are hidden.
    padding: (B, N), True where there is no token.
    """

    tokens: Tensor
    masking: Masking
    padding: Tensor

    @property
    def visible(self) -> Tensor:
        """(B, K, D)."""
        return keep(self.tokens, self.masking.visible)

    @property
    def visible_padding(self) -> Tensor:
        """(B, K)."""
        return self.padding.gather(1, self.masking.visible)


class JointDecoder(nn.Module):
    """Fill the gaps of each modality with its mask token, attend over everything, map each place to its values.

    Args:
        width: D.
        options: of the method, with `decoder_width`, `decoder_depth` and `decoder_heads`.
        out: by modality, how many values a place gets.
        positions: by modality, the fixed table, (1, most places, decoder_width).
    """

    def __init__(self, width: int, options: Any, *, out: Mapping[str, int], positions: Mapping[str, Tensor]) -> None:
        super().__init__()
        inner = options.decoder_width
        self.embed = nn.Linear(width, inner)
        self.mask_tokens, self.types = (
            nn.ParameterDict({name: nn.Parameter(STD * torch.randn(1, 1, inner)) for name in out}) for _ in range(2)
        )
        for name, table in positions.items():
            self.register_buffer(f"{name}_positions", table, persistent=False)
        self.blocks = build_blocks(inner, options.decoder_depth, options.decoder_heads)
        self.norm = nn.LayerNorm(inner, eps=1e-6)
        self.heads = nn.ModuleDict({name: nn.Linear(inner, values) for name, values in out.items()})
        initialise(self)

    def forward(self, latent: Tensor, streams: Mapping[str, Stream]) -> dict[str, Tensor]:
        """Predict every place.

        Args:
            latent: (B, 1 + K of all modalities, D), class token first.
            streams: in the order of the latent's tokens.

        Returns:
            By modality, (B, N, values).
        """
        tokens = self.embed(latent)
        counts = [stream.masking.visible.shape[1] for stream in streams.values()]
        class_token, *visible = tokens.split([1, *counts], dim=1)
        whole = [class_token]
        for (name, stream), kept in zip(streams.items(), visible, strict=True):
            num_hidden = stream.padding.shape[1] - kept.shape[1]
            gaps = self.mask_tokens[name].to(kept.dtype).expand(len(kept), num_hidden, -1)
            places = keep(torch.cat([kept, gaps], dim=1), stream.masking.restore)
            positions = self.get_buffer(f"{name}_positions")[:, : places.shape[1]]
            whole.append(places + positions + self.types[name])
        padding = torch.cat([stream.padding for stream in streams.values()], dim=1)
        decoded = self.norm(attend(self.blocks, torch.cat(whole, dim=1), padding))
        parts = decoded[:, 1:].split([stream.padding.shape[1] for stream in streams.values()], dim=1)
        return {name: self.heads[name](part) for name, part in zip(streams, parts, strict=True)}
