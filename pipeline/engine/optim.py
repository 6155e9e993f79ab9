"""Parameter groups, the optimiser that settings name, and LARS.

Weight decay spares vectors (biases and norms) but not class and mask tokens, which are three-dimensional, as in
MAE's pretraining. Layer-wise decay follows Bao et al. 2022 (BEiT, arXiv:2106.08254): the rate of block i of n is
multiplied by decay^(n + 1 - i'), where embeddings are layer 0, block i is layer i + 1 and the rest layer n + 1.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.config import ConfigError
from pipeline.nn.tensors import read_pickle

# Embeddings keep their scale in fine-tuning: no decay for the class token and the position table.
TOKENS = ("cls_token", "pos_embed")


def param_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    layer_decay: float | None = None,
    no_decay: Iterable[str] = (),
    layer_of: Callable[[str], int] | None = None,
    num_layers: int | None = None,
) -> list[dict[str, Any]]:
    """Groups of equal rate and decay that hold each trainable parameter exactly once.

    Args:
        model: anything with named parameters.
        lr: rate of the last layer.
        weight_decay: of everything but vectors and names that end in one of `no_decay`.
        layer_decay: factor per layer from the last to the first; None for one rate.
        layer_of: from a parameter's name to its layer; by default a ViT's (`vit_layer`).
        num_layers: blocks of the encoder, needed with `layer_decay`.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    exempt = tuple(no_decay)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = 0.0 if parameter.ndim <= 1 or (exempt and name.endswith(exempt)) else weight_decay
        rate = lr
        if layer_decay is not None:
            assert num_layers is not None
            layer = (layer_of or (lambda name: vit_layer(name, num_layers)))(name)
            rate = lr * layer_decay ** (num_layers + 1 - layer)
        group = groups.setdefault((rate, decay), {"params": [], "lr": rate, "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


def vit_layer(name: str, num_layers: int) -> int:
    """Layer of a parameter of a model that holds a timm ViT: 0 for embeddings, i + 1 for block i, else n + 1."""
    if block := re.search(r"(?:^|\.)blocks\.(\d+)\.", name):
        return int(block[1]) + 1
    if re.search(r"(?:^|\.)(cls_token|pos_embed|patch_embed\.)", name):
        return 0
    return num_layers + 1


def build_optimizer(
    model: nn.Module,
    lr: float | Sequence[float],
    train: Mapping[str, Any],
    *,
    parts: Sequence[nn.Module] | None = None,
    **grouping: Any,
) -> Optimizer:
    """The optimiser that a section `train` of settings names.

    Args:
        model: what it trains.
        lr: peak rate, or one for each of `parts`.
        train: `optimizer`: `adamw`, `sgd` (PyTorch's), `lars` (ours) or any other of timm's; `weight_decay`,
            `layer_decay`, and what the optimiser takes of `OPTIONS`. SGD decays everything, as MoCo does, and LARS
            itself spares vectors; from the others' decay vectors are spared as in MAE, and names that end in one of
            its `no_decay`. With `alternate` AdamW is `Alternating`; of SGD, parts that `unscheduled` names keep their
            rate.
        parts: of the model, which are trained alone; None for all of it.
        grouping: `no_decay`, `layer_of` and `num_layers` of `param_groups`.

    Raises:
        ConfigError: for another optimiser, or where rates and parts are not as many.
    """
    kind, layer_decay = optimizer_class(train["optimizer"]), train.get("layer_decay")
    rates = [lr] if isinstance(lr, float | int) else list(lr)
    if len(rates) != len(parts or [model]):
        raise ConfigError(f"train has {len(rates)} rates, {rates}, for {len(parts or [model])} parts of the model")
    grouping["no_decay"] = (*grouping.get("no_decay", ()), *train.get("no_decay", ()))
    constant = [p for name in train.get("unscheduled", ()) for p in _part(model, name, "unscheduled")]
    kept = {id(parameter) for parameter in constant}
    groups: list[dict[str, Any]] = []
    for part, rate in zip(parts or [model], rates, strict=True):
        if kind in WHOLE and layer_decay is None:
            trained = [p for p in part.parameters() if p.requires_grad and id(p) not in kept]
            groups.append({"params": trained, "lr": rate, "weight_decay": train["weight_decay"]})
        else:
            groups += param_groups(part, rate, train["weight_decay"], layer_decay, **grouping)
    if constant:
        groups.append({"params": constant, "lr": max(rates), "weight_decay": train["weight_decay"], "constant": True})
    known = inspect.signature(kind).parameters
    options = {name: train[name] for name in OPTIONS if train.get(name) is not None and name in known}
    if "fused" in known:  # one kernel for all parameters: a few thousand small ones are a tenth of a small model's step
        options["fused"] = True
    if "betas" in options:
        options["betas"] = tuple(options["betas"])
    if name := train.get("alternate"):
        return Alternating(groups, _part(model, name, "alternate"), lr=max(rates), **options)
    return kind(groups, lr=max(rates), **options)


def optimizer_class(name: str) -> Callable[..., Optimizer]:
    """PyTorch's, timm's or our optimiser of this name."""
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    import timm.optim  # it takes seconds, which a run of PyTorch's own need not wait

    try:
        return timm.optim.get_optimizer_class(name)
    except ValueError:
        raise ConfigError(
            f"train.optimizer is {name!r}; available: {sorted(OPTIMIZERS)} and those of timm.optim.list_optimizers()"
        ) from None


def _part(model: nn.Module, name: str, option: str) -> list[nn.Parameter]:
    """The trainable parameters of one part of a model."""
    parts = dict(model.named_children())
    found = [parameter for parameter in parts[name].parameters() if parameter.requires_grad] if name in parts else []
    if not found:
        raise ConfigError(f"train.{option} names {name!r}; parts of {type(model).__name__}: {sorted(parts)}")
    return found


class Alternating(torch.optim.AdamW):
    """AdamW that takes two steps for one: each half moves while the other half's gradients are zeros.

    Zeros are no absence: decay and moments go on, as with PyTorch below 2, whose `zero_grad` left them behind.

    Args:
        params: parameters or groups.
        second: the half that is stepped after the rest.
        settings: AdamW's.
    """

    def __init__(self, params: Any, second: Iterable[nn.Parameter], **settings: Any) -> None:
        super().__init__(params, **settings)
        self.second = {id(parameter) for parameter in second}

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:
        assert closure is None
        gradients = [(p, p.grad) for group in self.param_groups for p in group["params"]]
        for turn in (False, True):
            for parameter, gradient in gradients:
                idle = (id(parameter) in self.second) != turn
                # In the very first step the second half has not had a gradient yet.
                rest = torch.zeros_like(parameter) if gradient is not None and parameter in self.state else None
                parameter.grad = rest if idle else gradient
            super().step()
        for parameter, gradient in gradients:
            parameter.grad = gradient


def inherit_state(optimizer: Optimizer, teacher: Path | None) -> None:
    """Go on with the moments that the teacher's training ended with; rates and decay stay as they are.

    Raises:
        ConfigError: the teacher did not publish them, or trained other parameters.
    """
    path = teacher and teacher.with_name("optimizer.pt")
    if path is None or not path.is_file():
        raise ConfigError(
            f"train.inherit_optimizer is set, and there is no {path}; the teacher's run has to set "
            "train.publish_optimizer: true"
        )
    saved = read_pickle(path)
    own = optimizer.state_dict()
    try:
        sizes = [[len(group["params"]) for group in groups["param_groups"]] for groups in (saved, own)]
        if sizes[0] != sizes[1]:
            raise ConfigError(
                f"{path} has groups of {sizes[0]} parameters; expected {sizes[1]}: the same method and model"
            )
        optimizer.load_state_dict({"state": saved["state"], "param_groups": own["param_groups"]})
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no state of an optimiser ({error}); run that pretraining again") from None


def resnet_layer(name: str) -> int:
    """Layer of a parameter of a model that holds a ResNet as `encoder`: 0 for the stem, 1 to 4 for stages, else 5."""
    if stage := re.search(r"(?:^|\.)encoder\.layer(\d)\.", name):
        return int(stage[1])
    return 0 if re.search(r"(?:^|\.)encoder\.(conv1|bn1)\.", name) else 5


def layers_of(encoder: nn.Module) -> dict[str, Any]:
    """The arguments of `param_groups` that follow from an encoder: how many layers it has and how they are told."""
    if hasattr(encoder, "blocks"):
        return {"num_layers": len(encoder.blocks)}
    return {"num_layers": 4, "layer_of": resnet_layer}


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling: SGD with momentum whose step is in proportion to each matrix's norm.

    You et al. 2017 (arXiv:1708.03888), in the form of MoCo v3 and MAE: vectors are neither scaled nor decayed, and
    the momentum buffer gathers scaled gradients, to which the rate is applied last.

    Args:
        params: parameters or groups.
        lr: rate.
        momentum: of the buffer.
        weight_decay: added to the gradient of matrices.
        trust_coefficient: ratio of a step's norm to its matrix's norm at a rate of 1.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = parameter.grad
                if parameter.ndim > 1:
                    update = update.add(parameter, alpha=group["weight_decay"])
                    weight, gradient = parameter.norm(), update.norm()
                    scale = group["trust_coefficient"] * weight / gradient
                    update = update * torch.where((weight > 0) & (gradient > 0), scale, 1.0)
                state = self.state[parameter]
                buffer = state.setdefault("momentum_buffer", torch.zeros_like(parameter))
                buffer.mul_(group["momentum"]).add_(update)
                parameter.add_(buffer, alpha=-group["lr"])


# Mathematics that others have: PyTorch's. timm's `sgd` has Nesterov momentum, its `lars` scales and decays vectors too.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "lars": LARS}
WHOLE = (torch.optim.SGD, LARS)  # take all parameters as one group
OPTIONS = ("betas", "momentum", "eps", "trust_coefficient", "nesterov")
