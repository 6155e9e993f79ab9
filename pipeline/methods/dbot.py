"""DBOT: masked distillation from a frozen teacher that is itself the student of the stage before, the first one random.

Liu et al., "Exploring Target Representations for Masked Autoencoders", ICLR 2024, arXiv:2209.03917. Each stage is a run
of its own: `dbot-1` learns from `random`, `dbot-2` from `dbot-1`; its student starts afresh.
B images, L patches, K visible patches, D encoder width, T width of the teacher.

Departures: the released code keeps the optimiser's moments and the bias of the patch embedding from one stage to the
next, as side effects; here both are fresh unless `train.inherit_optimizer` (with `train.publish_optimizer` in the
teacher's run) and `inherit_patch_bias` say otherwise. With `symmetric`, its variant for CLIP teachers, all images hide
the same number of patches, where the released generator of block-wise masks may stop short of it; colours are changed
after the crop, not before it; the warm-up reaches its peak one step later, since it begins at 0 and is that long; a
teacher of another size (196 pixels, for CLIP-L and patches of 16) sees the student's crop resized, where the released
code renders the same box of the original anew; and CLIP-L's positions are carried to that grid by the ratio of the two,
14 / 16, where the released code passes interpolation the scale 14.1 / 16.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.masking.blockwise import blockwise_mask, num_draws
from pipeline.masking.uniform import keep, mean_over, num_visible, uniform_mask
from pipeline.methods.base import Context, Draw, Method, Step
from pipeline.methods.mae import translate_mae
from pipeline.methods.maskdistill import translate_beit
from pipeline.nn.decoders import Decoder
from pipeline.nn.families.beit import mask_token_and_head, rescale
from pipeline.nn.families.vit import embed_patches, encode, encode_masked
from pipeline.nn.targets import TeacherFeatures, check_kinds, distance, normalise, widen


@dataclass(frozen=True, kw_only=True)
class DBOTOptions:
    """The numbers of dBOT; `config/recipes/dbot.yaml` gives them with their sources.

    mask_ratio: share of the patches that is hidden.
    symmetric: mask tokens in the encoder, block-wise masks and a linear head, instead of MAE's encoder and decoder.
    min_block: patches of the smallest rectangle of a block-wise mask.
    decoder_width, decoder_depth, decoder_heads, decoder_drop_path: of the decoder, where there is one.
    teacher_depth: blocks of the teacher that are used; None for all, 0 for its embedded patches.
    teacher_output: `last`, `normed` or `projected`.
    norm_target: how the teacher's features are normalised: `layer`, `unit` or `none`.
    loss, beta: distance to them (`smooth_l1`, `cosine`, `l1`, `l2`) and where smooth L1 turns linear.
    predict_class_token: the class token's output is a target too.
    inherit_patch_bias: start from the bias of the teacher's patch embedding.
    layer_scale: what the encoder's LayerScale starts from; None for what goes with the model.
    """

    mask_ratio: float
    symmetric: bool
    min_block: int
    decoder_width: int
    decoder_depth: int
    decoder_heads: int
    decoder_drop_path: float
    teacher_depth: int | None
    teacher_output: str
    norm_target: str
    loss: str
    beta: float
    predict_class_token: bool
    inherit_patch_bias: bool
    layer_scale: float | None


class DBOT(Method):
    Options = DBOTOptions

    def __init__(self, encoder: nn.Module, options: DBOTOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        num_patches = encoder.patch_embed.num_patches
        num_visible(num_patches, options.mask_ratio)  # refuses an impossible ratio early
        check_kinds(options.norm_target, options.loss)
        # Without a teacher, as where released weights are read, `resize` learns T from them.
        self.teacher = context.teacher and TeacherFeatures(
            context.teacher.encoder(encoder.patch_embed.grid_size), options.teacher_output, options.teacher_depth
        )
        width = self.teacher.width if self.teacher else encoder.embed_dim
        if options.layer_scale is not None:
            rescale(encoder, options.layer_scale)
        if options.symmetric:
            self.num_hidden = int(options.mask_ratio * num_patches)
            self.mask_token, self.head = mask_token_and_head(encoder.embed_dim, width)
        else:
            self.decoder = Decoder(encoder, options, out=width, drop_path=options.decoder_drop_path)
        if options.inherit_patch_bias and self.teacher:
            encoder.patch_embed.proj.bias.data.copy_(self.teacher.encoder.patch_embed.proj.bias)

    def resize(self, state: Mapping[str, Tensor]) -> None:
        owner, layer = (self, "head") if self.options.symmetric else (self.decoder, "pred")
        widen(owner, layer, state.get("head.weight" if self.options.symmetric else "decoder.pred.weight"), self.teacher)

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        patches = self.encoder.patch_embed
        num = num_draws(patches.grid_size) if self.options.symmetric else patches.num_patches
        return {"images": batch["images"], "noise": draw(num)}

    def forward(self, images: Tensor, noise: Tensor) -> Step:
        """One training step, seen through one mask.

        Args:
            images: (B, 3, H, W), normalised.
            noise: (B, L) uniform draws, the smallest stay visible; with `symmetric` those of a block-wise mask.

        Returns:
            loss (), prediction (B, L, T), target (B, L, T), mask (B, L), True where hidden.
        """
        target = normalise(self.teacher(images), self.options.norm_target)  # (B, 1 + L, T)
        prediction, mask = self.predict(images, noise)
        error = distance(prediction, target, self.options.loss, self.options.beta)  # (B, 1 + L)
        class_token = torch.full_like(mask[:, :1], self.options.predict_class_token)
        loss = mean_over(error, torch.cat([class_token, mask], dim=1))
        return Step(loss, prediction[:, 1:], target[:, 1:], mask)

    def predict(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The student's (B, 1 + L, T) for masked images, and the (B, L) mask."""
        if self.options.symmetric:
            grid = self.encoder.patch_embed.grid_size
            mask = blockwise_mask(noise, grid, self.num_hidden, self.options.min_block)
            return self.head(encode_masked(self.encoder, images, mask, self.mask_token)), mask
        masking = uniform_mask(noise, self.options.mask_ratio)
        visible = keep(embed_patches(self.encoder, images), masking.visible)  # (B, K, D)
        return self.decoder(encode(self.encoder, visible), masking), masking.mask

    @classmethod
    def translate(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' branch for CLIP teachers has BEiT's names, the other MAE's but for the last layer."""
        if "lm_head.weight" in state:
            return translate_beit(state)
        renamed = {name.replace("decoder_predp.", "decoder_pred."): value for name, value in state.items()}
        return translate_mae(renamed)
