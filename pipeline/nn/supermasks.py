"""Supermasks: which of a layer's weights a task uses, learned as scores of the weights.

Edge-popup: Ramanujan et al. 2020, arXiv:1911.13299; with a mask for each task SupSup, Wortsman et al. 2020,
arXiv:2006.14769. A layer keeps the largest of its scores' absolute values.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

RULES = ("uniform", "erdos_renyi")


def layer_densities(shapes: Sequence[Sequence[int]], density: float, rule: str) -> list[float]:
    """The share of its weights that each layer keeps.

    Args:
        shapes: of the weights.
        density: of the whole network.
        rule: `uniform`, the same in each layer; or `erdos_renyi`, in proportion to the sum of a layer's sides over
            their product (Evci et al. 2020, arXiv:1911.11134), where layers that would be more than full are full.

    Raises:
        ValueError: for another rule.
    """
    if rule not in RULES:
        raise ValueError(f"density_rule is {rule!r}; available: {list(RULES)}")
    if rule == "uniform":
        return [density] * len(shapes)
    sizes, raw = [math.prod(shape) for shape in shapes], [sum(shape) / math.prod(shape) for shape in shapes]
    full: set[int] = set()
    while True:
        left = density * sum(sizes) - sum(sizes[i] for i in full)
        scale = left / sum(raw[i] * sizes[i] for i in range(len(raw)) if i not in full)
        found = [1.0 if i in full else scale * raw[i] for i in range(len(raw))]
        more = {i for i, share in enumerate(found) if share > 1}
        if not more:
            return found
        full |= more


def new_scores(shape: Sequence[int]) -> nn.Parameter:
    """Scores as they begin: uniform up to one over the root of a unit's inputs."""
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))


def popup(scores: Tensor, density: float) -> Tensor:
    """The mask of a layer's scores: 1 where one is kept, 0 elsewhere, of as many as int((1 - density) n) of n say.

    Backwards it is the identity of the scores' absolute values, so that scores whose weights are not used learn too.
    """
    sizes = scores.abs()
    kept = sizes.numel() - int((1 - density) * sizes.numel())
    mask = torch.zeros_like(sizes).flatten()
    mask[sizes.detach().flatten().topk(kept, sorted=False).indices] = 1
    return mask.view_as(sizes) + (sizes - sizes.detach())
