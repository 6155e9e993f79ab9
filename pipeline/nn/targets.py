"""Targets that a frozen teacher gives: features of the whole image, their normalisation, and distances to them.

The words are those of Peng et al., "A Unified View of Masked Image Modeling", TMLR 2023, arXiv:2210.10615: teacher,
normalisation, student, head, loss. B images, L patches, D width of the teacher.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.nn.families.vit import embed_patches, run_blocks

OUTPUTS = ("last", "normed", "projected")
NORMALISATIONS = ("none", "layer", "unit")
DISTANCES = ("smooth_l1", "cosine", "l1", "l2")


class TeacherFeatures(nn.Module):
    """What a frozen encoder says of every patch.

    Args:
        encoder: frozen.
        output: `last`, tokens after the last block; `normed`, after the final norm as well; `projected`, after the
            projection into CLIP's common space too.
        depth: of its blocks only the first so many; None for all. With 0 the tokens are embedded patches.

    Raises:
        ValueError: for another output, or a projection where there is none.
    """

    def __init__(self, encoder: nn.Module, output: str, depth: int | None) -> None:
        super().__init__()
        if output not in OUTPUTS:
            raise ValueError(f"teacher_output is {output!r}; available: {list(OUTPUTS)}")
        if output == "projected" and isinstance(encoder.head, nn.Identity):
            raise ValueError(f"teacher_output is 'projected', which {encoder.model_name} lacks; choose 'normed'")
        if depth is not None and not 0 <= depth <= len(encoder.blocks):
            raise ValueError(f"teacher_depth is {depth}; expected 0 to {len(encoder.blocks)} blocks, or none for all")
        self.encoder, self.output, self.depth = encoder, output, depth
        self.width = encoder.head.out_features if output == "projected" else encoder.embed_dim

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1 + L, D), float32, class token first; images are resized to the teacher's own size."""
        if images.shape[-2:] != self.encoder.image_size:
            images = F.interpolate(images, self.encoder.image_size, mode="bicubic", antialias=True)
        tokens = run_blocks(self.encoder, embed_patches(self.encoder, images), self.depth)
        if self.output != "last":
            tokens = self.encoder.norm(tokens)
        if self.output == "projected":
            tokens = self.encoder.head(tokens)
        return tokens.float()


def check_kinds(normalisation: str, loss: str) -> None:
    """Raises ValueError for a normalisation or a distance that there is not, before anything is trained."""
    for option, kind, kinds in (("norm_target", normalisation, NORMALISATIONS), ("loss", loss, DISTANCES)):
        if kind not in kinds:
            raise ValueError(f"{option} is {kind!r}; available: {list(kinds)}")


def widen(owner: nn.Module, layer: str, weight: Tensor | None, teacher: nn.Module | None) -> None:
    """Make a linear layer as wide as a released one, where no teacher is there that would have told its width.

    Args:
        owner, layer: of whose attributes the layer is one, and which.
        weight: (T, D), None where nothing was released for it.
    """
    own = getattr(owner, layer)
    if teacher is None and weight is not None and weight.ndim == 2 and len(weight) != own.out_features:
        setattr(owner, layer, nn.Linear(own.in_features, len(weight)))


def normalise(features: Tensor, kind: str) -> Tensor:
    """Normalise every token over its channels: (B, L, D) -> (B, L, D).

    Args:
        kind: `layer`, zero mean and unit variance (unbiased, as in dBOT's released code); `unit`, unit length; `none`.
    """
    if kind == "none":
        return features
    if kind == "unit":
        return F.normalize(features, dim=-1)
    if kind == "layer":
        variance, mean = torch.var_mean(features, dim=-1, keepdim=True)
        return (features - mean) / (variance + 1e-6).sqrt()
    raise ValueError(f"the target's normalisation is {kind!r}; available: {list(NORMALISATIONS)}")


def distance(prediction: Tensor, target: Tensor, kind: str, beta: float) -> Tensor:
    """Distance of every token from its target, in float32: (B, L, D) twice -> (B, L).

    Args:
        kind: `smooth_l1`, quadratic up to `beta` and linear beyond; `l1`; `l2`; or `cosine`, one less the cosine.
    """
    prediction = prediction.float()
    if kind == "smooth_l1":
        return F.smooth_l1_loss(prediction, target, beta=beta, reduction="none").mean(dim=-1)
    if kind == "l1":
        return (prediction - target).abs().mean(dim=-1)
    if kind == "l2":
        return (prediction - target).square().mean(dim=-1)
    if kind == "cosine":
        return 1 - F.cosine_similarity(prediction, target, dim=-1, eps=1e-6)
    raise ValueError(f"loss is {kind!r}; available: {list(DISTANCES)}")
