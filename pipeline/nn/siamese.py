"""Parts of Siamese networks: projectors, pooled features, batches shuffled over devices, a queue of keys.

He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020, arXiv:1911.05722. B images of
one device, N of all devices, D encoder width, C projected width, Q keys of the queue.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import all_gather, broadcast, get_rank, get_world_size, is_initialized


def pooled(encoder: nn.Module, images: Tensor) -> Tensor:
    """One vector per image: the mean of a map, or a transformer's class token: (B, 3, H, W) -> (B, D)."""
    features = encoder.forward_features(images)
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features[:, 0]


def mlp(widths: Sequence[int], *, norm: bool, last_norm: bool = False) -> nn.Sequential:
    """Linear maps with ReLU between them, from the first width to the last.

    Args:
        widths: of the input, between the maps, and of the output.
        norm: BatchNorm in front of each ReLU.
        last_norm: BatchNorm without affine parameters after the last map.
    """
    layers: list[nn.Module] = []
    for index, (width, after) in enumerate(pairwise(widths)):
        ends = index == len(widths) - 2
        layers.append(nn.Linear(width, after))
        if not ends:
            layers += [nn.BatchNorm1d(after), nn.ReLU()] if norm else [nn.ReLU()]
        elif last_norm:
            layers.append(nn.BatchNorm1d(after, affine=False))
    return nn.Sequential(*layers)


def contrast(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """InfoNCE: tell each query's key from the keys of the queue.

    Args:
        queries, keys: (B, C), unit vectors.
        queue: (Q, C), unit vectors.

    Returns:
        (), mean over the batch.
    """
    positive = (queries * keys).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, queries @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


@torch.no_grad()
def gather(tensor: Tensor) -> Tensor:
    """The tensors of all devices, by rank: (B, ...) -> (N, ...)."""
    if not is_initialized():
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(get_world_size())]
    all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


@torch.no_grad()
def shuffled(model: nn.Module, images: Tensor) -> Tensor:
    """Apply a model to images exchanged between devices, and bring the results back.

    BatchNorm would otherwise tell a query's key from others by the batch it was normalised with.
    """
    if not is_initialized() or get_world_size() == 1:
        return model(images)
    everything = gather(images)
    order = torch.randperm(len(everything), device=images.device)
    broadcast(order, src=0)
    mine = slice(get_rank() * len(images), (get_rank() + 1) * len(images))
    results = gather(model(everything[order[mine]]))
    return results[order.argsort()[mine]]
