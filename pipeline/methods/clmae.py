"""CLMAE: a module learns which patches to hide, first to help the autoencoder, in the end to defeat it.

Madan et al., "CL-MAE: Curriculum-Learned Masked Autoencoders", WACV 2024, arXiv:2308.16572.
B images, L patches, K visible patches, D encoder width, P pixel values per patch; m probabilities to stay visible.

Departures: the released code updates the autoencoder first and then the module on the updated one, with two backward
passes; here both losses of a batch are computed with the same weights and share one update, since neither moves the
other's parameters. It has one AdamW for both, and with the PyTorch of its day (below 2: gradients are zeroed, not
dropped) either update also decays the half that is idle and carries it on by its moments, so that all decays twice per
batch. Here each half moves by its own gradient alone, which is what that code does with later versions and does not
depend on an accident of the library; `train.alternate: module` brings the old behaviour back. The Kullback-Leibler term
is a mean over images with the weight that the code's sum has at 256 images, so that it does not depend on the batch,
and its target is 1 - mask_ratio rather than always 0.25.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from pipeline.masking.uniform import Masking, keep, mean_over, uniform_mask
from pipeline.methods.base import Context, Draw, Step
from pipeline.methods.mae import MAE, translate_mae
from pipeline.nn.families.vit import embed_patches, encode, initialise


@dataclass(frozen=True, kw_only=True)
class CLMAEOptions:
    """The numbers of CL-MAE; `config/recipes/clmae.yaml` gives them with their sources.

    mask_ratio, norm_pixels, decoder_width, decoder_depth, decoder_heads: as MAE's.
    module_depth, module_heads: blocks of the masking module and their heads; its width is the encoder's.
    gauss_weight, gauss_deviation: of the term that pushes probabilities away from one half.
    kl_weight: of the divergence between the mean probability and the share that stays visible.
    diversity_weight, diversity_scale: of the term that keeps the masks of a batch apart.
    curriculum_start, curriculum_end: factor of the reconstruction error in the module's loss; 1 helps, -1 defeats.
    num_levels: constant pieces of the way between them; None for as many as the training has epochs.
    """

    mask_ratio: float
    norm_pixels: bool
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    module_depth: int
    module_heads: int
    gauss_weight: float
    gauss_deviation: float
    kl_weight: float
    diversity_weight: float
    diversity_scale: float
    curriculum_start: float
    curriculum_end: float
    num_levels: int | None


class MaskingModule(nn.Module):
    """Transformer blocks over all patches; the class token is mapped to one probability per patch.

    Args:
        width: D.
        num_patches: L; the module is tied to one image size.
        depth, num_heads: its own sizes.
    """

    def __init__(self, width: int, num_patches: int, depth: int, num_heads: int) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-5)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.Sequential(*[Block(width, num_heads, qkv_bias=True, norm_layer=norm) for _ in range(depth)])
        self.norm = norm(width)
        self.head = nn.Linear(width, num_patches)
        initialise(self)
        nn.init.normal_(self.cls_token, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, D) embedded patches with positions -> (B, L) probabilities to stay visible, float32."""
        class_token = self.cls_token.to(tokens.dtype).expand(len(tokens), -1, -1)
        tokens = self.blocks(torch.cat([class_token, tokens], dim=1))
        with torch.autocast(tokens.device.type, enabled=False):  # in bfloat16 many probabilities would be equal
            return self.head(self.norm(tokens[:, 0].float())).sigmoid()


class CLMAE(MAE):
    Options = CLMAEOptions
    num_snapshots = 4

    def __init__(self, encoder: nn.Module, options: CLMAEOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        num_patches = encoder.patch_embed.num_patches
        self.module = MaskingModule(encoder.embed_dim, num_patches, options.module_depth, options.module_heads)
        self.num_steps, self.num_levels = context.num_steps, options.num_levels or context.num_epochs
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def check_mask_kind(self) -> None:
        """Masks are learned."""

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        return {"images": batch["images"]}

    def forward(self, images: Tensor) -> Step:
        """One training step: the autoencoder on masks that the module makes, and the module on what they led to.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            loss (), the sum of both; prediction (B, L, P), target (B, L, P), mask (B, L), True where hidden, of the
            autoencoder's pass.
        """
        tokens = embed_patches(self.encoder, images)  # (B, L, D)
        target = self.target(images)
        visible = self.module(tokens.detach())  # m
        masking = uniform_mask(-visible.detach(), self.options.mask_ratio)
        latent = encode(self.encoder, keep(tokens, masking.visible))
        prediction = self.decoder(latent, masking)[:, 1:]
        error = F.mse_loss(prediction.float(), target, reduction="none").mean(dim=2)
        loss = mean_over(error, masking.mask)
        terms = self.module_terms(tokens.detach(), visible, masking, target)
        factor = self.curriculum_factor()
        options = self.options
        module_loss = (
            factor * terms["soft_pixels"]
            + options.gauss_weight * terms["gauss"]
            + options.kl_weight * terms["divergence"]
            + options.diversity_weight * terms["diversity"]
        )
        parts = {"pixels": loss, "curriculum": factor, **terms}
        parts = {name: value.detach() for name, value in parts.items()}
        return Step(loss + module_loss, prediction, target, masking.mask, parts=parts)

    def module_terms(self, tokens: Tensor, visible: Tensor, masking: Masking, target: Tensor) -> dict[str, Tensor]:
        """The four terms of the module's loss; gradients reach nothing but the module.

        Args:
            tokens: (B, L, D), embedded patches.
            visible: (B, L), the module's probabilities, which carry its gradient.
            masking: the hard masks made of them.
            target: (B, L, P).
        """
        options = self.options
        order = masking.restore.argsort(dim=1)  # all patches, the likeliest visible first
        everything = Masking(mask=torch.zeros_like(masking.mask), visible=order, restore=masking.restore)
        with frozen(self.encoder, self.decoder):
            latent = encode(self.encoder, keep(tokens * visible[..., None].to(tokens.dtype), order))
            prediction = self.decoder(latent, everything)[:, 1:]
        error = F.mse_loss(prediction.float(), target, reduction="none").mean(dim=2)
        peak = options.gauss_deviation * math.sqrt(2 * math.pi)  # the code divides by the normaliser
        share = visible.mean(dim=1).clamp(1e-6, 1 - 1e-6)
        kept = 1 - options.mask_ratio
        divergence = share * (share / kept).log() + (1 - share) * ((1 - share) / (1 - kept)).log()
        pairs = torch.pdist(visible)
        return {
            "soft_pixels": ((1 - visible) * error).sum() / (1 - visible).sum(),
            "gauss": peak * torch.exp(-((visible - 0.5) ** 2) / (2 * options.gauss_deviation**2)).mean(),
            "divergence": divergence.mean(),
            "diversity": torch.exp(-options.diversity_scale * pairs).mean() if len(pairs) else visible.new_zeros(()),
        }

    def curriculum_factor(self) -> Tensor:
        """Factor of the reconstruction error now, (); it changes from level to level and leaves out the middle."""
        levels = self.num_levels
        level = (self.step * levels // max(1, self.num_steps)).clamp(max=levels - 1)
        way = (level + (level >= levels / 2)).double() / levels
        factor = self.options.curriculum_start + way * (self.options.curriculum_end - self.options.curriculum_start)
        return factor.float()

    @torch.no_grad()
    def after_step(self) -> None:
        self.step += 1

    @classmethod
    def translate(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' names: MAE's, and `masking_net` for the module."""
        renamed = {}
        for name, value in translate_mae(state).items():
            name = name.replace("encoder.masking_net.", "module.")
            name = name.replace("module.mlp_head.0.", "module.norm.").replace("module.mlp_head.1.", "module.head.")
            renamed[name] = value
        return renamed


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """No gradient for the parameters of these modules from what is computed inside."""
    trained = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
