"""MAE: hide most patches, encode the rest, paint the hidden ones back.

He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377.
B images, L patches, K visible patches, D encoder width, P pixel values per patch.

Departures: none from the authors' released code. The paper's ablations use un-normalised pixels, its main results
and the released weights normalised ones; `norm_pixels` chooses.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.masking.uniform import keep, mean_over, num_visible, uniform_mask
from pipeline.methods.base import Context, Draw, Method, Step
from pipeline.nn.decoders import Decoder
from pipeline.nn.encoders import embed_patches, encode
from pipeline.nn.patches import patchify, unpatchify


@dataclass(frozen=True, kw_only=True)
class MAEOptions:
    """The numbers of MAE itself; `config/recipes/mae.yaml` gives them with their sources.

    mask_ratio: share of the patches that is hidden.
    norm_pixels: standardise each target patch by its own mean and variance.
    decoder_width, decoder_depth, decoder_heads: sizes of the decoder.
    """

    mask_ratio: float
    norm_pixels: bool
    decoder_width: int
    decoder_depth: int
    decoder_heads: int


class MAE(Method):
    Options = MAEOptions

    def __init__(self, encoder: nn.Module, options: MAEOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        num_visible(encoder.patch_embed.num_patches, options.mask_ratio)  # refuses an impossible ratio early
        self.patch_size = encoder.patch_embed.patch_size[0]
        self.decoder = Decoder(
            encoder_width=encoder.embed_dim,
            width=options.decoder_width,
            depth=options.decoder_depth,
            num_heads=options.decoder_heads,
            grid=encoder.patch_embed.grid_size,
            out=3 * self.patch_size**2,
        )

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        return {"images": batch["images"], "noise": draw(self.encoder.patch_embed.num_patches)}

    def forward(self, images: Tensor, noise: Tensor) -> Step:
        """One training step, seen through one mask.

        Args:
            images: (B, 3, H, W), normalised.
            noise: (B, L) uniform draws; the patches with the smallest values stay visible.

        Returns:
            loss (), prediction (B, L, P), target (B, L, P), mask (B, L), True where hidden.
        """
        masking = uniform_mask(noise, self.options.mask_ratio)
        visible = keep(embed_patches(self.encoder, images), masking.visible)  # (B, K, D)
        latent = encode(self.encoder, visible)  # (B, 1 + K, D)
        prediction = self.decoder(latent, masking)[:, 1:]  # (B, L, P); the class token paints nothing
        target = self.target(images)
        # In float32 under autocast too: the difference of two nearly equal numbers is what matters.
        error = F.mse_loss(prediction.float(), target, reduction="none").mean(dim=2)  # (B, L)
        return Step(mean_over(error, masking.mask), prediction, target, masking.mask)

    def target(self, images: Tensor) -> Tensor:
        """What the hidden patches are to become: (B, 3, H, W) -> (B, L, P)."""
        pixels = patchify(images, self.patch_size).float()
        if not self.options.norm_pixels:
            return pixels
        variance, mean = torch.var_mean(pixels, dim=2, keepdim=True)  # unbiased: divided by P - 1
        return (pixels - mean) / (variance + 1e-6).sqrt()

    @torch.no_grad()
    def pictures(self, step: Step, images: Tensor) -> dict[str, Tensor]:
        """Input, what was visible, and the reconstruction with the visible patches pasted in."""
        pixels = patchify(images, self.patch_size).float()
        painted = step.prediction.float()
        if self.options.norm_pixels:  # bring each patch back to its own mean and contrast
            variance, mean = torch.var_mean(pixels, dim=2, keepdim=True)
            painted = painted * (variance + 1e-6).sqrt() + mean
        hidden = step.mask[..., None]
        rows = {
            "input": pixels,
            "masked": pixels.masked_fill(hidden, 0.0),
            "reconstruction": torch.where(hidden, painted, pixels),
        }
        return {name: unpatchify(row, self.encoder.patch_embed.grid_size) for name, row in rows.items()}
