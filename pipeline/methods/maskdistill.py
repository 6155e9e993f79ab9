"""MaskDistill: predict a teacher's normalised features at hidden patches; masked image modelling in five parts.

Peng et al., "A Unified View of Masked Image Modeling", TMLR 2023, arXiv:2210.10615. A method is a teacher T, a
normalisation N, a student S, a head H and a loss; the loss compares H(S(masked image)) with N(T(image)) where patches
are hidden. B images, L patches, D encoder width, T width of the teacher.

Departures: no code was released, and sources disagree; what follows is a choice and an option. The teacher's features
are those of its last block, without norm and projection (`teacher_output`); smooth L1 turns linear at 2 (`beta`; others
read 1); the positions are BEiT v2's bias shared by all blocks (another `model` has others); the share of the largest
crop is 0.2 as in BEiT v2 (`augment.scale`); the teacher sees the student's crop resized to its own grid rather than one
rendered anew; CLIP's own pixel statistics are used, folded into its patch kernel (`pipeline.nn.families.clip`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.masking.blockwise import blockwise_mask, num_draws
from pipeline.masking.uniform import mean_over, num_visible
from pipeline.methods.base import Context, Draw, Method, Step
from pipeline.nn.families.beit import mask_token_and_head
from pipeline.nn.families.vit import encode_masked
from pipeline.nn.targets import TeacherFeatures, check_kinds, distance, normalise, widen


@dataclass(frozen=True, kw_only=True)
class MaskDistillOptions:
    """The five parts; `config/recipes/maskdistill.yaml` gives the numbers with their sources.

    mask_kind: `block` or `uniform`.
    mask_ratio: share of the patches that is hidden, the same number in every image.
    min_block: patches of the smallest rectangle of a block-wise mask.
    teacher_output: T, features of the teacher: `last`, `normed` or `projected`.
    norm_target: N: `layer`, `unit` or `none`.
    loss, beta: `smooth_l1`, `l1`, `l2` or `cosine`, and where smooth L1 turns linear.
    """

    mask_kind: str
    mask_ratio: float
    min_block: int
    teacher_output: str
    norm_target: str
    loss: str
    beta: float


class MaskDistill(Method):
    Options = MaskDistillOptions

    def __init__(self, encoder: nn.Module, options: MaskDistillOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        patches = encoder.patch_embed
        self.num_hidden = int(options.mask_ratio * patches.num_patches)
        num_visible(patches.num_patches, options.mask_ratio)  # refuses an impossible ratio early
        check_kinds(options.norm_target, options.loss)
        # Without a teacher, as where released weights are read, `resize` learns T from them.
        self.teacher = context.teacher and TeacherFeatures(
            context.teacher.encoder(patches.grid_size), options.teacher_output, None
        )
        width = self.teacher.width if self.teacher else encoder.embed_dim
        self.mask_token, self.head = mask_token_and_head(encoder.embed_dim, width)

    def resize(self, state: Mapping[str, Tensor]) -> None:
        widen(self, "head", state.get("head.weight"), self.teacher)

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        return {"images": batch["images"], "noise": draw(num_draws(self.encoder.patch_embed.grid_size))}

    def forward(self, images: Tensor, noise: Tensor) -> Step:
        """One training step, seen through one mask.

        Args:
            images: (B, 3, H, W), normalised.
            noise: (B, 4 · 64 + L) uniform draws, see `blockwise_mask`; a uniform mask uses the last L.

        Returns:
            loss (), prediction (B, L, T), target (B, L, T), mask (B, L), True where hidden.
        """
        mask = self.mask(noise)
        target = normalise(self.teacher(images), self.options.norm_target)[:, 1:]  # N(T(x))
        latent = encode_masked(self.encoder, images, mask, self.mask_token)[:, 1:]  # S(masked x); no class token
        prediction = self.head(latent)  # H
        error = distance(prediction, target, self.options.loss, self.options.beta)  # (B, L)
        return Step(mean_over(error, mask), prediction, target, mask)

    def mask(self, noise: Tensor) -> Tensor:
        """(B, L), True where hidden, `num_hidden` in every image."""
        patches = self.encoder.patch_embed
        if self.options.mask_kind == "block":
            return blockwise_mask(noise, patches.grid_size, self.num_hidden, self.options.min_block)
        rank = noise[:, -patches.num_patches :].argsort(dim=1).argsort(dim=1)
        return rank >= patches.num_patches - self.num_hidden

    @classmethod
    def translate(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """BEiT v2's layout."""
        return translate_beit(state)


def translate_beit(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state in the layout of BEiT v2's released code, which is timm's but for the names of two parts, in ours."""
    own = {"mask_token": "mask_token", "lm_head.weight": "head.weight", "lm_head.bias": "head.bias"}
    return {own.get(name, f"encoder.{name}"): value for name, value in state.items()}
