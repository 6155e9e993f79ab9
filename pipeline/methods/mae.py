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

from pipeline.masking.blockwise import blockwise_mask, num_draws
from pipeline.masking.grid import grid_mask
from pipeline.masking.uniform import Masking, keep, masking_of, mean_over, num_visible, uniform_mask
from pipeline.methods.base import Context, Draw, Method, Step, with_final_norm
from pipeline.nn.decoders import Decoder
from pipeline.nn.families.vit import embed_patches, encode
from pipeline.nn.patches import patchify, unpatchify

MASK_KINDS = ("uniform", "block", "grid")
MIN_BLOCK = 16  # patches of a block-wise mask's smallest rectangle, as in BEiT


@dataclass(frozen=True, kw_only=True)
class MAEOptions:
    """The numbers of MAE itself; `config/recipes/mae.yaml` gives them with their sources.

    mask_ratio: share of the patches that is hidden.
    mask_kind: which ones: `uniform`, random ones; `block`, rectangles; `grid`, all but one of every square.
    norm_pixels: standardise each target patch by its own mean and variance.
    decoder_width, decoder_depth, decoder_heads: sizes of the decoder.
    """

    mask_ratio: float
    mask_kind: str
    norm_pixels: bool
    decoder_width: int
    decoder_depth: int
    decoder_heads: int


class MAE(Method):
    Options = MAEOptions

    def __init__(self, encoder: nn.Module, options: MAEOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        num_visible(encoder.patch_embed.num_patches, options.mask_ratio)  # refuses an impossible ratio early
        self.check_mask_kind()
        self.patch_size = encoder.patch_embed.patch_size[0]
        self.decoder = Decoder(encoder, options, out=3 * self.patch_size**2)

    def check_mask_kind(self) -> None:
        """Raises ValueError for a kind of mask that there is not, or a ratio it cannot have."""
        if self.options.mask_kind not in MASK_KINDS:
            raise ValueError(f"mask_kind is {self.options.mask_kind!r}; available: {list(MASK_KINDS)}")
        if self.options.mask_kind == "grid":
            grid_mask(*self.encoder.patch_embed.grid_size, self.options.mask_ratio)

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        patches = self.encoder.patch_embed
        block = self.options.mask_kind == "block"
        return {
            "images": batch["images"],
            "noise": draw(num_draws(patches.grid_size) if block else patches.num_patches),
        }

    def forward(self, images: Tensor, noise: Tensor) -> Step:
        """One training step, seen through one mask.

        Args:
            images: (B, 3, H, W), normalised.
            noise: (B, L) uniform draws; the patches with the smallest values stay visible. Block-wise masks take
                those of `blockwise_mask`, grid-wise ones none.

        Returns:
            loss (), prediction (B, L, P), target (B, L, P), mask (B, L), True where hidden.
        """
        masking = self.hide(noise)
        visible = keep(embed_patches(self.encoder, images), masking.visible)  # (B, K, D)
        latent = encode(self.encoder, visible)  # (B, 1 + K, D)
        prediction = self.decoder(latent, masking)[:, 1:]  # (B, L, P); the class token paints nothing
        target = self.target(images)
        # In float32 under autocast too: the difference of two nearly equal numbers is what matters.
        error = F.mse_loss(prediction.float(), target, reduction="none").mean(dim=2)  # (B, L)
        return Step(mean_over(error, masking.mask), prediction, target, masking.mask)

    def hide(self, noise: Tensor) -> Masking:
        """Which patches are hidden, from the step's draws."""
        patches, options = self.encoder.patch_embed, self.options
        if options.mask_kind == "uniform":
            return uniform_mask(noise, options.mask_ratio)
        if options.mask_kind == "block":
            num_hidden = patches.num_patches - num_visible(patches.num_patches, options.mask_ratio)
            return masking_of(blockwise_mask(noise, patches.grid_size, num_hidden, MIN_BLOCK), num_hidden)
        mask = grid_mask(*patches.grid_size, options.mask_ratio)
        return masking_of(mask.to(noise.device).expand(len(noise), -1), int(mask.sum()))

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

    @classmethod
    def translate(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' names: the encoder's are timm's, the decoder's begin with `decoder_`."""
        return translate_mae(state)


def translate_mae(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state in the layout of MAE's released code, which its descendants share, in ours."""
    renamed = {}
    for name, value in with_final_norm(state).items():
        decoders = name == "mask_token" or name.startswith("decoder_")
        renamed[f"decoder.{name.removeprefix('decoder_')}" if decoders else f"encoder.{name}"] = value
    return renamed
