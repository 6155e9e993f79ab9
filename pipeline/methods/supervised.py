"""Supervised: the labels themselves as the objective, from scratch; the baseline of MAE's Table 3.

He et al. 2022 (arXiv:2111.06377), appendix A.2 and Table 11. B images, C classes, D encoder width.

Departures: the class token, rather than the mean of the patch tokens, is classified, because it is what linear
probing reads from every encoder; those of `pipeline.nn.mixing`.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pipeline.methods.base import Context, Draw, Method, Step
from pipeline.nn.mixing import NUM_DRAWS, Mixing


@dataclass(frozen=True, kw_only=True)
class SupervisedOptions:
    """Regularisation; `config/recipes/supervised.yaml` gives the numbers with their sources.

    mixup, cutmix: parameters of their Beta distributions; 0 switches one off.
    label_smoothing: share of the label's weight spread over all classes.
    ema_momentum: share of the moving average of the weights kept per step; 0 switches it off.
    """

    mixup: float
    cutmix: float
    label_smoothing: float
    ema_momentum: float


class Supervised(Method):
    Options = SupervisedOptions

    def __init__(self, encoder: nn.Module, options: SupervisedOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        self.num_classes = context.num_classes
        self.head = nn.Linear(encoder.embed_dim, context.num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.average = copy.deepcopy(encoder).requires_grad_(False) if options.ema_momentum else None
        self.mix = None
        if options.mixup or options.cutmix:
            self.mix = Mixing(options.mixup, options.cutmix, options.label_smoothing, context.num_classes)

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        inputs = {"samples": batch[self.encoder.takes], "labels": batch["labels"]}
        return inputs if self.mix is None else {**inputs, "index": batch["index"], "draws": draw(NUM_DRAWS)}

    def forward(
        self, samples: Tensor, labels: Tensor, index: Tensor | None = None, draws: Tensor | None = None
    ) -> Step:
        """One training step.

        Args:
            samples: (B, 3, H, W), or (B, 3, T, H, W) of clips, whose frames are mixed alike; normalised.
            labels: (B,), class indices.
            index, draws: where samples are mixed, see `Mixing`.

        Returns:
            loss (); nothing is hidden.
        """
        if self.mix is not None:
            samples, labels = self.mix(samples, labels, index, draws)  # labels become (B, C) distributions
        logits = self.head(self.encoder.forward_features(samples)[:, 0]).float()
        smoothing = self.options.label_smoothing if self.mix is None else 0.0  # mixing has smoothed them already
        return Step(cross_entropy(logits, labels, label_smoothing=smoothing))

    @torch.no_grad()
    def after_step(self) -> None:
        if self.average is not None:
            follow = get_ema_multi_avg_fn(self.options.ema_momentum)
            follow(list(self.average.parameters()), list(self.encoder.parameters()), None)

    def exported(self) -> nn.Module:
        return self.encoder if self.average is None else self.average
