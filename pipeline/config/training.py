"""The section `train`, which everything that trains has: duration, batch, optimiser, schedule and loop."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.config.durations import Duration
from pipeline.config.parse import mistake
from pipeline.config.types import (
    Amount,
    BelowOne,
    Count,
    Factor,
    Flag,
    Fraction,
    Length,
    Natural,
    Positive,
    Text,
    Warmup,
)

Rates = Annotated[
    Positive | Annotated[list[Positive], Field(min_length=1)] | None,
    Field(title="a number above 0, or a list of them to be tried"),
]
Betas = Annotated[
    list[BelowOne],
    Field(min_length=2, max_length=2, title="two fractions of at least 0 and below 1, such as [0.9, 0.95]"),
]
Milestones = Annotated[list[Factor], Field(title="a list of fractions of the duration, such as [0.6, 0.8]")]

# What an optimiser cannot do without; PyTorch's and ours, and of others nothing is known here.
NEEDS = {"adamw": ("betas",), "sgd": ("momentum",), "lars": ("momentum", "trust_coefficient")}
# What belongs to a schedule.
SHAPES = {"cosine": (), "poly": ("power",), "multistep": ("milestones", "gamma")}


class Train(BaseModel):
    """How something is trained; `pipeline.engine.train` does it.

    duration, warmup: `800 epochs` or `300 steps`.
    batch_size: samples of one step over all devices. accumulate: micro-batches of a device that make a step.
    optimizer: `adamw`, `sgd`, `lars` or another of timm's; betas, momentum, eps, trust_coefficient, nesterov: its own.
    base_lr, lr: peak rate × batch / 256 (Goyal et al. 2017, arXiv:1706.02677), or as it is; one of them. Where several
        are tried, a list.
    schedule: after the warm-up, which begins at the fraction `warmup_start` of the peak: down to the rate `min_lr` by
        `cosine` or `poly` with its `power`, or `multistep` by a factor `gamma` at each of `milestones`, fractions of
        the duration.
    weight_decay: spares vectors, and names that end in one of `no_decay`. layer_decay: factor of the rate per layer.
    unscheduled: parts of the model that keep their rate. alternate: the part that takes every second step.
    drop_path: largest probability with which a block is skipped.
    clip_norm: largest norm of the gradient; null for none.
    activation_checkpointing: share of a transformer's blocks whose activations are not kept but computed again for the
        gradient: less memory, and up to a third more time at 1; 0 for none.
    compile: whether a transformer's blocks are compiled by `torch.compile`, whose results differ in the last bits; it
        takes a minute and a C++ compiler, and pays on GPUs.
    inherit_optimizer, publish_optimizer: go on with the teacher's moments; leave one's own to others.
    num_workers: of the loader. checkpoint_every, log_every: in steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    duration: Length
    warmup: Warmup
    batch_size: Count
    accumulate: Count
    optimizer: Text
    base_lr: Rates = None
    lr: Rates = None
    schedule: Literal["cosine", "multistep", "poly"] = "cosine"
    warmup_start: Fraction = 0.0
    min_lr: Amount = 0.0
    power: Positive | None = None
    milestones: Milestones | None = None
    gamma: Factor | None = None
    betas: Betas | None = None
    momentum: BelowOne | None = None
    eps: Positive | None = None
    trust_coefficient: Positive | None = None
    nesterov: Flag = False
    weight_decay: Amount
    no_decay: list[Text] = []
    layer_decay: Factor | None = None
    unscheduled: list[Text] = []
    alternate: Text | None = None
    drop_path: BelowOne = 0.0
    clip_norm: Positive | None = None
    activation_checkpointing: Fraction = 0.0
    compile: Flag = False
    inherit_optimizer: Flag = False
    publish_optimizer: Flag = False
    precision: Literal["float32", "bf16"]
    num_workers: Natural
    checkpoint_every: Count
    log_every: Count

    @model_validator(mode="after")
    def _fits(self) -> Train:
        for choice, needs in (("optimizer", NEEDS), ("schedule", SHAPES)):
            for key in needs.get(getattr(self, choice), ()):
                if getattr(self, key) is None:
                    raise mistake(choice, f"{key!r} beside it")
        if self.batch_size % self.accumulate:
            raise mistake("accumulate", f"a divisor of batch_size, {self.batch_size}")
        if (self.base_lr is None) == (self.lr is None):
            raise mistake("lr", "this or base_lr (× batch / 256), one of them")
        rates, factor = (self.lr, 1.0) if self.base_lr is None else (self.base_lr, self.batch_size / 256)
        peak = factor * (max(rates) if isinstance(rates, list) else rates or 0.0)
        if self.min_lr > peak:
            raise mistake("min_lr", f"at most the peak rate, {peak:g}")
        if (self.milestones or []) != sorted(self.milestones or []):
            raise mistake("milestones", "each after the one before")
        duration, warmup = Duration.parse(self.duration), Duration.parse(self.warmup)
        if duration.unit == warmup.unit and warmup.value > duration.value:
            raise mistake("warmup", f"at most the duration, {self.duration}")
        return self
