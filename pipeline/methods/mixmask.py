"""MixMask: fill the masked part of a view with another image, and let it answer to both, by the area each has.

Vishniakov, Xing and Shen, "MixMask: Revisiting Masking Strategy for Siamese ConvNets", BMVC 2024, arXiv:2210.11456; on
MoCo v2 (Chen et al. 2020, arXiv:2003.04297), SimSiam (Chen and He 2021, arXiv:2011.10566) or BYOL (Grill et al. 2020,
arXiv:2006.07733). B images, D encoder width, C projected width, S cells along a side of the mask, Q keys of the queue.

Departures: `own_share` is the share of the mask that keeps an image's own pixels for both kinds of masks; in the
released code the same number means the opposite for discrete ones. SimSiam and BYOL are named in the paper but absent
from the code: their mixed view passes the predictor, the targets are the clean second view's, and the clean loss is
the mean of both directions. SimSiam's own code synchronises BatchNorm over devices, begins each residual branch at zero
and keeps the predictor's rate constant: `sync_norms`, `zero_init_last` and `train.unscheduled: [predictor]` say so. The
momentum encoder is moved after each step rather than before the next one.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import is_initialized
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pipeline.masking.filling import check, enlarge, filling_mask, num_draws
from pipeline.methods.base import Context, Draw, Method, Step
from pipeline.nn.families.resnet import zero_init_last
from pipeline.nn.siamese import contrast, gather, mlp, pooled, shuffled


@dataclass(frozen=True, kw_only=True)
class MixMaskOptions:
    """The numbers of MixMask and of its base; `config/recipes/mixmask.yaml` gives them with their sources.

    base: `moco`, `simsiam` or `byol`.
    fill: what masked pixels become: `partner`'s, `zeros` (erased), or `none` for the base alone.
    mask_kind, grid_size, own_share: `block` or `discrete` cells, S, and the share of them that stays.
    soft_distance: weigh the two images of a mixed view by area; otherwise each by one half.
    unmix: add the loss of a view blended as in Un-Mix (Shen et al. 2022, arXiv:2003.05438); partners are random then.
    projector_width, projector_out, predictor_width: C is `projector_out`; the predictor exists without queue only.
    queue_size: Q, a multiple of the batch size; `moco` only.
    momentum: share of the momentum encoder kept per step; `moco` and `byol`.
    temperature: of the logits; `moco` only.
    sync_norms: BatchNorm over the images of all GPUs, not over each one's own.
    zero_init_last: begin the last BatchNorm of each residual block at zero (Goyal et al. 2017, arXiv:1706.02677).
    """

    base: str
    fill: str
    mask_kind: str
    grid_size: int
    own_share: float
    soft_distance: bool
    unmix: bool
    projector_width: int
    projector_out: int
    predictor_width: int
    queue_size: int
    momentum: float
    temperature: float
    sync_norms: bool
    zero_init_last: bool


class Tower(nn.Module):
    """An encoder with its projector: (B, 3, H, W) -> (B, C)."""

    def __init__(self, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector

    def forward(self, images: Tensor) -> Tensor:
        return self.projector(pooled(self.encoder, images))


class MixMask(Method):
    Options = MixMaskOptions

    def __init__(self, encoder: nn.Module, options: MixMaskOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        check(options.mask_kind, options.grid_size, options.own_share)
        if options.zero_init_last:
            zero_init_last(encoder)
        self.contrastive = options.base == "moco"
        if self.contrastive and context.batch_size and options.queue_size % context.batch_size:
            raise ValueError(
                f"queue_size is {options.queue_size} and batch_size {context.batch_size}; expected a multiple of the "
                f"batch size, such as {max(1, options.queue_size // context.batch_size) * context.batch_size}"
            )
        width, hidden, out = encoder.embed_dim, options.projector_width, options.projector_out
        if self.contrastive:
            self.projector = mlp([width, hidden, out], norm=False)
            self.register_buffer("queue", F.normalize(torch.randn(options.queue_size, out), dim=1))
            self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
            self.register_buffer("fresh", torch.empty(0, out), persistent=False)  # keys of the step so far
        else:
            depth = [hidden, hidden] if options.base == "simsiam" else [hidden]
            self.projector = mlp([width, *depth, out], norm=True, last_norm=options.base == "simsiam")
            self.predictor = mlp([out, options.predictor_width, out], norm=True)
        self.key = None
        if options.base != "simsiam":
            self.key = copy.deepcopy(Tower(encoder, self.projector)).requires_grad_(False)
        if options.sync_norms and is_initialized() and torch.cuda.is_available():
            nn.SyncBatchNorm.convert_sync_batchnorm(self)  # in place: the method itself is no norm

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        num = num_draws(self.options.mask_kind, self.options.grid_size)
        draws = draw(num + 5)  # the first sample's decide for the batch, the last of each order the partners
        return {"images": batch["images"], "view": batch["view"], "noise": draws[0], "order": draws[:, -1]}

    def forward(self, images: Tensor, view: Tensor, noise: Tensor, order: Tensor) -> Step:
        """One training step on two views of each image.

        Args:
            images, view: (B, 3, H, W) each, normalised; queries and keys.
            noise: (`num_draws` + 5,) uniform draws: the batch's mask, four of Un-Mix, and the first of `order`.
            order: (B,) uniform draws that rank the images as partners, with Un-Mix; otherwise they are reversed.

        Returns:
            loss (); seen (B, 3, H, W), the mixed view.
        """
        options = self.options
        positions = torch.arange(len(images), device=images.device)
        partner = order.argsort() if options.unmix else positions.flip(0)
        loss, targets = self.clean(images, view)
        parts = {"clean": loss}
        mixed = None
        if options.unmix:
            blended, weight = unmix(images, noise[-5:-1])
            parts["unmix"] = self.mixed(blended, weight, positions.flip(0), targets)
            loss = loss + parts["unmix"]
        if options.fill != "none":
            own = filling_mask(noise[:-5], options.mask_kind, options.grid_size, options.own_share)
            own = enlarge(own, *images.shape[-2:])
            filling = images[partner] if options.fill == "partner" else torch.zeros_like(images)
            mixed = torch.where(own, images, filling)
            weight = own.float().mean() if options.soft_distance else 0.5
            if options.fill == "zeros":  # an erased view answers to its own image alone
                weight = 1.0
            parts["mixed"] = self.mixed(mixed, weight, partner, targets)
            parts["own_area"] = own.float().mean()
            loss = loss + parts["mixed"]
        if self.contrastive and self.training:
            self.fresh = torch.cat([self.fresh, gather(targets)])
        return Step(loss, seen=mixed, parts={name: value.detach() for name, value in parts.items()})

    def mixed(self, images: Tensor, weight: Tensor | float, partner: Tensor, targets: Tensor) -> Tensor:
        """Loss of mixed views, each against its own image and against the one it was filled from.

        Args:
            images: (B, 3, H, W); image i was filled from image `partner[i]`.
            weight: (), share of the loss that is its own image's.
            partner: (B,) permutation.
            targets: (B, C), of the clean second views.
        """
        answer = self.answer(images)
        # Image i is in the mixture of the image whose partner it is.
        return weight * self.distance(answer, targets) + (1 - weight) * self.distance(
            answer[partner.argsort()], targets
        )

    def clean(self, images: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        """The base's own loss, (), symmetric where it is so, and its targets of the second views, (B, C)."""
        if self.contrastive:
            targets = self.keys(view)
            return self.distance(self.answer(images), targets), targets
        projected = [self.project(images), self.project(view)]
        if self.key is None:  # no second encoder: each view is the other's target
            first, second = (unit(projection.detach()) for projection in projected)
        else:
            first, second = self.keys(images), self.keys(view)
        answers = [unit(self.predictor(projection)) for projection in projected]
        return (self.distance(answers[0], second) + self.distance(answers[1], first)) / 2, second

    def answer(self, images: Tensor) -> Tensor:
        """What is compared with targets, unit vectors: (B, 3, H, W) -> (B, C)."""
        projected = self.project(images)
        return unit(projected if self.contrastive else self.predictor(projected))

    def project(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C)."""
        return self.projector(pooled(self.encoder, images))

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """Unit vectors of the momentum encoder: (B, 3, H, W) -> (B, C)."""
        return unit(shuffled(self.key, images))

    def distance(self, answer: Tensor, targets: Tensor) -> Tensor:
        """The base's distance between unit vectors: (B, C) twice -> ()."""
        if self.contrastive:
            return contrast(answer, targets, self.queue.clone(), self.options.temperature)
        negative_cosine = -(answer * targets).sum(dim=1).mean()
        return negative_cosine if self.options.base == "simsiam" else 2 + 2 * negative_cosine

    @torch.no_grad()
    def after_step(self) -> None:
        if self.key is not None:
            current = [*self.encoder.parameters(), *self.projector.parameters()]
            get_ema_multi_avg_fn(self.options.momentum)(list(self.key.parameters()), current, None)
        if self.contrastive:
            places = (self.pointer + torch.arange(len(self.fresh), device=self.pointer.device)) % len(self.queue)
            self.queue[places] = self.fresh
            self.pointer.copy_((self.pointer + len(self.fresh)) % len(self.queue))
            self.fresh = self.fresh[:0]

    @torch.no_grad()
    def pictures(self, step: Step, images: Tensor) -> dict[str, Tensor]:
        """Each image and the view that was mixed of it and its partner."""
        return {} if step.seen is None else {"input": images, "mixed": step.seen}

    @classmethod
    def translate(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """MoCo's names, which the authors keep: towers `encoder_q` and `encoder_k` whose `fc` is the projector."""
        renamed = {}
        for name, value in state.items():
            tower, _, part = name.removeprefix("module.").partition(".")
            if tower in ("encoder_q", "encoder_k"):
                part = f"projector.{part[3:]}" if part.startswith("fc.") else f"encoder.{part}"
                renamed[part if tower == "encoder_q" else f"key.{part}"] = value
            elif tower == "queue":
                renamed["queue"] = value.T
            elif tower == "queue_ptr":
                renamed["pointer"] = value.squeeze()
            else:
                renamed[name] = value
        return renamed


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1 in float32: (B, C) -> (B, C)."""
    return F.normalize(vectors.float(), dim=1)


def unmix(images: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Un-Mix's view: half of the time a blend with the reversed batch, otherwise a rectangle from it.

    Args:
        images: (B, 3, H, W).
        draws: (4,) uniform: share, which kind, centre.

    Returns:
        (B, 3, H, W), and the share of each image that is its own, ().
    """
    share, other = draws[0], images.flip(0)
    height, width = images.shape[-2:]
    side = (1 - share).sqrt()
    spans = []
    for size, centre in ((height, draws[2]), (width, draws[3])):
        half, middle = (side * size).long() // 2, (centre * size).long()
        position = torch.arange(size, device=images.device)
        spans.append((position >= middle - half) & (position < middle + half))
    inside = spans[0][:, None] & spans[1][None, :]
    blended, cut = share * images + (1 - share) * other, torch.where(inside, other, images)
    blends = draws[1] < 0.5  # left on the device, hence both are made
    return torch.where(blends, blended, cut), torch.where(blends, share, 1 - inside.float().mean())
