"""IMAE: tell two blended images apart; a shared decoder paints both from the visible patches of their mixture.

Zhang and Shen, "i-MAE: Are Latent Representations in Masked Autoencoders Linearly Separable?", CVPR Workshops 2024,
arXiv:2210.11470. B images, L patches, K visible patches, D encoder width, W decoder width, P pixel values per patch.

Departures: the released code feeds the teacher the mixture, for both branches, so that distillation cannot separate the
images; here `teacher_input` chooses, `source` (what names and shapes suggest was meant) or `mixture`. Its probability
that partners share a class is fixed at 1; here it is the recipe's `same_class_share`. The blend's weight is drawn for
each image; the code draws one for all images of a device. Targets are raw pixels, as in the code, though its command
asks for normalised ones.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.masking.uniform import Masking, keep, mean_over, num_visible, uniform_mask
from pipeline.methods.base import Context, Draw, Method, Separation, Step
from pipeline.methods.mae import translate_mae
from pipeline.nn.decoders import Decoder
from pipeline.nn.families.vit import embed_patches, encode, initialise
from pipeline.nn.patches import patchify, unpatchify


@dataclass(frozen=True, kw_only=True)
class IMAEOptions:
    """The numbers of i-MAE; `config/recipes/imae.yaml` gives them with their sources.

    mask_ratio: share of the patches that is hidden.
    mix_weight: share of the first image in the blend; None draws it uniformly for each image at every step.
    num_branches: 2 paints both images; 1, as in the paper's first version, the fainter one only.
    distill_weight: of the distance between the branches and the teacher's latents; 0 switches distillation off.
    teacher_input: `source`, the teacher sees each image alone; `mixture`, it sees the blend.
    start_from_teacher: begin with the teacher's weights, both branches with copies of one; otherwise with two of their
        own.
    decoder_width, decoder_depth, decoder_heads: sizes of the decoder; the width is the teacher's.
    """

    mask_ratio: float
    mix_weight: float | None
    num_branches: int
    distill_weight: float
    teacher_input: str
    start_from_teacher: bool
    decoder_width: int
    decoder_depth: int
    decoder_heads: int


class IMAE(Method):
    Options = IMAEOptions

    def __init__(self, encoder: nn.Module, options: IMAEOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        num_visible(encoder.patch_embed.num_patches, options.mask_ratio)  # refuses an impossible ratio early
        self.patch_size = encoder.patch_embed.patch_size[0]
        self.decoder = Decoder(encoder, options, out=3 * self.patch_size**2)
        self.teacher = None
        if context.teacher is not None:  # there is none where released weights are read
            teacher = context.teacher.whole()
            self._check(teacher)
            if options.start_from_teacher:
                encoder.load_state_dict(teacher.encoder.state_dict())
                self.decoder.load_state_dict(teacher.decoder.state_dict())
            self.teacher = nn.ModuleDict({"encoder": teacher.encoder, "embed": teacher.decoder.embed})
        # The fainter image's branch, then the other's: what leads from the encoder into the shared decoder.
        self.branches = nn.ModuleList(copy.deepcopy(self.decoder.embed) for _ in range(options.num_branches))
        if not (options.start_from_teacher and self.teacher):
            initialise(self.branches)  # apart from each other
        self.decoder.embed = nn.Identity()

    def _check(self, teacher: Method) -> None:
        theirs, ours = teacher.decoder.embed.out_features, self.options.decoder_width
        if theirs != ours:
            raise ValueError(f"decoder_width is {ours}, and the teacher's decoder has {theirs}; latents of equal width "
                             "are compared: choose the teacher's")  # fmt: skip
        grids = [part.patch_embed.grid_size for part in (teacher.encoder, self.encoder)]
        if grids[0] != grids[1]:
            raise ValueError(f"the teacher cuts images into {grids[0]} patches, this encoder into {grids[1]}; expected "
                             "the same: choose the teacher's model and image size")  # fmt: skip
        names = [part.model_name for part in (teacher.encoder, self.encoder)]
        if self.options.start_from_teacher and names[0] != names[1]:
            raise ValueError(f"start_from_teacher is set, and the teacher is a {names[0]}, this encoder a {names[1]}")
        depths = [len(part.decoder.blocks) for part in (teacher, self)]
        if self.options.start_from_teacher and depths[0] != depths[1]:
            raise ValueError(f"decoder_depth is {depths[1]}, and start_from_teacher takes the teacher's {depths[0]}")

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        num = self.encoder.patch_embed.num_patches
        draws = draw(num + 1)
        fixed = self.options.mix_weight
        weight = draws[:, num] if fixed is None else torch.full_like(draws[:, num], fixed)
        return {
            "images": batch["images"],
            "partner": batch["partner"],
            "noise": draws[:, :num],
            "weight": weight,
        }

    def forward(self, images: Tensor, partner: Tensor, noise: Tensor, weight: Tensor) -> Step:
        """One training step on blended pairs, seen through one mask.

        Args:
            images, partner: (B, 3, H, W) each, normalised.
            noise: (B, L) uniform draws; the patches with the smallest values stay visible.
            weight: (B,), share of `images` in the blend, or one for all.

        Returns:
            loss (); prediction and target (B, L, P or 2 P), the fainter image first; mask (B, L), True where hidden;
            seen (B, 3, H, W), the blend.
        """
        weight = weight.view(-1, 1, 1, 1)
        mixture = weight * images + (1 - weight) * partner
        first = weight <= 1 - weight  # of equals the first counts as the fainter
        fainter, stronger = torch.where(first, images, partner), torch.where(first, partner, images)
        sources = (fainter, stronger)[: len(self.branches)]
        masking = uniform_mask(noise, self.options.mask_ratio)
        latent = encode(self.encoder, keep(embed_patches(self.encoder, mixture), masking.visible))  # (B, 1 + K, D)
        loss, parts, predictions, targets = latent.new_zeros((), dtype=torch.float32), {}, [], []
        for name, branch, source in zip(("fainter", "stronger"), self.branches, sources, strict=False):
            own = branch(latent)  # (B, 1 + K, W)
            prediction = self.decoder.decode(own, masking)[:, 1:]  # (B, L, P)
            target = patchify(source, self.patch_size).float()
            error = F.mse_loss(prediction.float(), target, reduction="none").mean(dim=2)
            parts[f"{name}_pixels"] = mean_over(error, masking.mask)
            loss = loss + parts[f"{name}_pixels"]
            if self.options.distill_weight and self.teacher is not None:
                taught = self.taught(source if self.options.teacher_input == "source" else mixture, masking)
                parts[f"{name}_latents"] = F.mse_loss(own.float(), taught)
                loss = loss + self.options.distill_weight * parts[f"{name}_latents"]
            predictions.append(prediction)
            targets.append(target)
        parts = {name: value.detach() for name, value in parts.items()}
        return Step(loss, torch.cat(predictions, 2), torch.cat(targets, 2), masking.mask, mixture, parts)

    def separation(self) -> Separation:
        return Separation(tuple(self.branches), None if self.teacher is None else self.teacher["embed"])

    @torch.no_grad()
    def taught(self, images: Tensor, masking: Masking) -> Tensor:
        """The teacher's latents of the same visible patches, as its decoder takes them: (B, 1 + K, W), float32."""
        encoder = self.teacher["encoder"]
        return self.teacher["embed"](encode(encoder, keep(embed_patches(encoder, images), masking.visible))).float()

    @torch.no_grad()
    def pictures(self, step: Step, images: Tensor) -> dict[str, Tensor]:
        """The blend, what of it was visible, and each image above its reconstruction around the visible patches."""
        grid = self.encoder.patch_embed.grid_size
        seen = patchify(step.seen, self.patch_size).float()
        hidden = step.mask[..., None]
        rows = {"mixture": seen, "masked": seen.masked_fill(hidden, 0.0)}
        size = seen.shape[2]
        for index, name in enumerate(("fainter", "stronger")[: len(self.branches)]):
            part = slice(index * size, (index + 1) * size)
            rows[f"{name} image"] = step.target[..., part]
            rows[f"{name} reconstruction"] = torch.where(hidden, step.prediction[..., part].float(), seen)
        return {name: unpatchify(row, grid) for name, row in rows.items()}

    @classmethod
    def translate(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' names: MAE's, and a `decoder_embed` for each branch, or one, as MAE has it, for both."""
        branches = {"decoder_embed1.": [0], "decoder_embed2.": [1]}
        if "decoder_embed1.weight" not in state:
            branches = {"decoder_embed.": [0, 1]}
        own = {
            name.replace(theirs, f"branches.{index}."): value
            for name, value in state.items()
            for theirs, indices in branches.items()
            if name.startswith(theirs)
            for index in indices
        }
        rest = {name: value for name, value in state.items() if not name.startswith(tuple(branches))}
        return translate_mae(rest) | own
