"""Parameter groups, the optimiser a recipe names, and LARS.

Weight decay spares vectors (biases and norms) but not class and mask tokens, which are three-dimensional, as in
MAE's pretraining. Layer-wise decay follows Bao et al. 2022 (BEiT, arXiv:2106.08254): the rate of block i of n is
multiplied by decay^(n + 1 - i'), where embeddings are layer 0, block i is layer i + 1 and the rest layer n + 1.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.config import ConfigError

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


def build_optimizer(model: nn.Module, lr: float, train: Mapping[str, Any]) -> Optimizer:
    """The optimiser of a recipe's `train` section.

    Args:
        model: what it trains.
        lr: peak rate.
        train: `optimizer`, `adamw` with `betas` or `sgd` with `momentum`, and `weight_decay`. AdamW spares vectors
            from decay as MAE does, and names that end in one of `no_decay`; its `eps` is 1e-8 where none is given, and
            with `alternate` it is `Alternating`. SGD decays everything as MoCo does; parts that
            `unscheduled` names keep their rate.

    Raises:
        ConfigError: for another optimiser.
    """
    if train["optimizer"] == "adamw":
        groups = param_groups(model, lr, train["weight_decay"], no_decay=train.get("no_decay", ()))
        settings = {"lr": lr, "betas": tuple(train["betas"]), "eps": train.get("eps", 1e-8)}
        if part := train.get("alternate"):
            return Alternating(groups, _part(model, part, "alternate"), **settings)
        return torch.optim.AdamW(groups, **settings)
    if train["optimizer"] == "sgd":
        constant = [p for part in train.get("unscheduled", ()) for p in _part(model, part, "unscheduled")]
        known = {id(parameter) for parameter in constant}
        groups = [{"params": [p for p in model.parameters() if p.requires_grad and id(p) not in known]}]
        groups += [{"params": constant, "constant": True}] if constant else []
        return torch.optim.SGD(groups, lr=lr, momentum=train["momentum"], weight_decay=train["weight_decay"])
    raise ConfigError(f"train.optimizer is {train['optimizer']!r}; available: ['adamw', 'sgd']")


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
    saved = torch.load(path, map_location="cpu", weights_only=True)
    own = optimizer.state_dict()
    sizes = [[len(group["params"]) for group in groups["param_groups"]] for groups in (saved, own)]
    if sizes[0] != sizes[1]:
        raise ConfigError(f"{path} has groups of {sizes[0]} parameters; expected {sizes[1]}: the same method and model")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": own["param_groups"]})


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
