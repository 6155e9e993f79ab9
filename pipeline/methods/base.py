"""What the engine asks of a method, and what a method may ask of the engine."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pipeline.config import ConfigError
from pipeline.nn.patches import patchify, unpatchify

Draw = Callable[[int], Tensor]  # how many -> (B, how many) uniform numbers in [0, 1), a function of seed and sample
Open = Callable[[Mapping[str, Any]], Dataset[Any]]  # settings -> the samples that the kind opens for them


class Step(NamedTuple):
    """One training step as a method sees it.

    loss: (), to be minimised.
    prediction, target: (B, L, P), per patch; None for methods that predict no patches.
    mask: (B, L), True where hidden; None for methods that hide nothing.
    seen: (B, 3, H, W), what was encoded, where it is not the batch's images.
    parts: () each, numbers behind the loss that the log shows.
    """

    loss: Tensor
    prediction: Tensor | None = None
    target: Tensor | None = None
    mask: Tensor | None = None
    seen: Tensor | None = None
    parts: Mapping[str, Tensor] = MappingProxyType({})


class Separation(NamedTuple):
    """What a method trained to tell the images of a blend apart, from visible tokens (B, K, D) to latents (B, K, W).

    branches: one for each image, the fainter's first.
    taught: makes of the teacher's tokens the latents that the branches followed; None without a teacher.
    """

    branches: tuple[nn.Module, ...]
    taught: nn.Module | None


class Teacher(Protocol):
    """The run a method learns from, as it was published."""

    def encoder(self, grid: tuple[int, int]) -> nn.Module:
        """Its encoder for images of this many rows and columns of patches, frozen.

        Raises:
            ConfigError: it is convolutional and gives no patches.
        """

    def whole(self) -> "Method":
        """Everything it trained, frozen: decoders and heads as well."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a method may need to know beyond its own options.

    num_classes: of the labels that come with the images.
    num_steps: optimiser steps of the recipe's `train`, which without phases is the whole pretraining.
    batch_size: samples of one step over all devices.
    num_epochs: how often all images are seen in it.
    teacher: the run it learns from; there is one where the recipe says that the method has a teacher, unless released
        weights are read into it.
    """

    num_classes: int
    num_steps: int
    batch_size: int
    num_epochs: int = 1
    teacher: Teacher | None = None


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One training of a method that has several; see `Method.phases`.

    settings: the recipe as it holds here; `train` says how it trains, the rest which samples the kind opens for it.
    name: as the log has it; empty only where it is the one phase of the method.
    begin: before the first step, and again where a run resumes in the phase or after it: freezes, re-initialises, takes
        an earlier result. What it sets beside the method's state follows from settings and results.
    end: after the last step; returns the phase's result, numbers and words that JSON can say.

    All processes call both hooks, with generators seeded alike and the method on its device.
    """

    settings: Mapping[str, Any]
    name: str = ""
    begin: Callable[[], None] | None = None
    end: Callable[[], Any] | None = None


class Method(nn.Module):
    """A pretraining objective around an encoder.

    A frozen teacher, if any, is its attribute `teacher`: it is neither trained nor published with the method.

    Attributes:
        Options: the frozen dataclass of the method's own numbers.
        trains: False for a baseline that leaves its encoder as it was initialised.
        num_snapshots: how often pictures are drawn during training, beside those at its end.
    """

    Options: ClassVar[type]
    trains: ClassVar[bool] = True
    num_snapshots: ClassVar[int] = 0

    def __init__(self, encoder: nn.Module, options: Any, context: Context) -> None:
        super().__init__()
        self.encoder = encoder
        self.options = options

    def train(self, mode: bool = True) -> "Method":
        super().train(mode)
        if isinstance(teacher := getattr(self, "teacher", None), nn.Module):
            teacher.eval()  # frozen in its behaviour too
        return self

    def inputs(self, batch: Mapping[str, Tensor], draw: Draw) -> dict[str, Tensor]:
        """What `forward` takes, from a batch of data and a source of randomness.

        A batch has `images` and `labels`; `view`, a second view of each image, where the recipe says `views: 2`; and
        `partner`, another image for each, where it has a `same_class_share`.
        """
        raise NotImplementedError

    def forward(self, **inputs: Tensor) -> Step:
        """One training step."""
        raise NotImplementedError

    def phases(self, settings: Mapping[str, Any], open_samples: Open) -> Generator[Phase, Any, None]:
        """The trainings of a run, one after the other; by default one, which is the whole recipe.

        `result = yield Phase(...)` trains, and gives what the phase's `end` returned. A phase that is over is never
        repeated: a run that resumes reads its result, and the method's state as it left it. What stands between two
        yields does run again, so it follows from settings and results alone; what takes tensors, samples or time
        belongs into hooks. `begin` finds every `requires_grad` as the constructor left it.

        Args:
            settings: the recipe.
            open_samples: for hooks that look at samples, those of the phase or others.
        """
        yield Phase(settings=settings)

    def after_step(self) -> None:
        """Follow the optimiser's step, as moving averages do."""

    def exported(self) -> nn.Module:
        """The encoder that the tasks measure."""
        return self.encoder

    def separation(self) -> Separation | None:
        """Its branches for the two images of a blend; None for methods that see no blends."""
        return None

    @classmethod
    def translate(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' released state in this method's own keys; those that it does not have are reported as unused.

        By default a timm state dict of the encoder, see `with_final_norm`.
        """
        return {f"encoder.{name}": value for name, value in with_final_norm(state).items()}

    def resize(self, state: Mapping[str, Tensor]) -> None:
        """Before a translated state is read: take from it the sizes that only an absent teacher would have told."""

    @torch.no_grad()
    def pictures(self, step: Step, images: Tensor) -> dict[str, Tensor]:
        """Named rows of (B, 3, H, W) images, in the normalised space of the input, that show what was learned.

        By default what was hidden.
        """
        if step.mask is None:
            return {}
        patches = self.encoder.patch_embed
        pixels = patchify(images, patches.patch_size[0]).float()
        masked = pixels.masked_fill(step.mask[..., None], 0.0)
        return {"input": images, "masked": unpatchify(masked, patches.grid_size)}


def with_final_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a ViT that was fine-tuned on the mean of its patches, with a norm where one was pretrained.

    Its blocks end in no norm; `fc_norm`, of the pooled vector, is put there, where it normalises each token. What
    fine-tuning and the dense tasks make of such an encoder is exact, since they leave the final norm out; features of
    frozen encoders are normalised before the mean rather than after it, and its class token was never classified.
    """
    if "norm.weight" in state:
        return dict(state)
    return {name.replace("fc_norm.", "norm.") if name.startswith("fc_norm.") else name: value
            for name, value in state.items()}  # fmt: skip


def build_options(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """An options dataclass from a recipe's section, complaining about keys that are missing or not known."""
    known = [field.name for field in fields(kind)]
    missing, unknown = sorted(set(known) - set(values)), sorted(set(values) - set(known))
    if missing or unknown:
        raise ConfigError(f"options of {where}: missing {missing}, not known {unknown}; expected {known}")
    return kind(**values)
