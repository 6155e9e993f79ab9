"""Uniform masking: each image hides its own random subset of patches, of one size for all.

He et al. 2022 (arXiv:2111.06377) §3. B images, L patches, K visible patches.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Masking(NamedTuple):
    """One draw of masks.

    mask: (B, L), True where hidden.
    visible: (B, K), indices of the visible patches, in the order the encoder sees them.
    restore: (B, L), place of each patch in the sequence of visible, then hidden patches.
    """

    mask: Tensor
    visible: Tensor
    restore: Tensor


def num_visible(num_patches: int, mask_ratio: float) -> int:
    """K, rounded down as the authors do.

    Raises:
        ValueError: where nothing would stay visible, or nothing would be hidden.
    """
    visible = int(num_patches * (1 - mask_ratio))
    if not 0 < visible < num_patches:
        raise ValueError(
            f"mask_ratio {mask_ratio} leaves {visible} of {num_patches} patches visible; "
            f"expected at least one visible and one hidden: choose between {1 / num_patches:.3g} and "
            f"{1 - 1 / num_patches:.3g}"
        )
    return visible


def uniform_mask(noise: Tensor, mask_ratio: float) -> Masking:
    """Keep the patches with the smallest noise visible.

    Args:
        noise: (B, L) uniform draws.
        mask_ratio: share of the patches to hide.
    """
    visible = num_visible(noise.shape[1], mask_ratio)
    order = noise.argsort(dim=1)
    restore = order.argsort(dim=1)
    return Masking(mask=restore >= visible, visible=order[:, :visible], restore=restore)


def masking_of(mask: Tensor, num_hidden: int) -> Masking:
    """Masks that were made elsewhere, each hiding so many patches: (B, L), True where hidden."""
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)
    return Masking(mask=mask, visible=order[:, : mask.shape[1] - num_hidden], restore=order.argsort(dim=1))


def keep(tokens: Tensor, indices: Tensor) -> Tensor:
    """Pick tokens by index: (B, L, D) and (B, K) -> (B, K, D)."""
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.shape[2]))


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, L) values where the (B, L) mask is True, over the whole batch."""
    return (values * mask).sum() / mask.sum()
