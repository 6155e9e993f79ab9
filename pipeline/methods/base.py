"""What the engine asks of a method, and what a method may ask of the engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.config import ConfigError

Draw = Callable[[int], Tensor]  # how many -> (B, how many) uniform numbers in [0, 1), a function of seed and sample


class Step(NamedTuple):
    """One training step as a method sees it.

    loss: (), to be minimised.
    prediction, target: (B, L, P), per patch; None for methods that predict no patches.
    mask: (B, L), True where hidden; None for methods that hide nothing.
    """

    loss: Tensor
    prediction: Tensor | None = None
    target: Tensor | None = None
    mask: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a method may need to know beyond its own options.

    num_classes: of the labels that come with the images.
    num_steps: optimiser steps of the whole pretraining.
    teacher: the frozen encoder of the run it learns from, where the study names one.
    """

    num_classes: int
    num_steps: int
    teacher: nn.Module | None = None


class Method(nn.Module):
    """A pretraining objective around an encoder.

    Attributes:
        Options: the frozen dataclass of the method's own numbers.
        trains: False for a baseline that leaves its encoder as it was initialised.
    """

    Options: ClassVar[type]
    trains: ClassVar[bool] = True

    def __init__(self, encoder: nn.Module, options: Any, context: Context) -> None:
        super().__init__()
        self.encoder = encoder
        self.options = options

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """What `forward` takes, from a batch of data (`images`, `labels`) and a source of randomness."""
        raise NotImplementedError

    def forward(self, **inputs: Tensor) -> Step:
        """One training step."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Follow the optimiser's step, as moving averages do."""

    def exported(self) -> nn.Module:
        """The encoder that the tasks measure."""
        return self.encoder

    @torch.no_grad()
    def pictures(self, step: Step, images: Tensor) -> dict[str, Tensor]:
        """Named rows of (B, 3, H, W) images, in the normalised space of the input, that show what was learned."""
        return {}


def build_options(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """An options dataclass from a recipe's section, complaining about keys that are missing or not known."""
    known = [field.name for field in fields(kind)]
    missing, unknown = sorted(set(known) - set(values)), sorted(set(values) - set(known))
    if missing or unknown:
        raise ConfigError(f"options of {where}: missing {missing}, not known {unknown}; expected {known}")
    return kind(**values)
