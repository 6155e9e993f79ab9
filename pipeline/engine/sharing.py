"""Evaluation shared out over all processes: whole batches in turn, and what is made of them brought together in order.

Each batch is what it is in a single process, so any number of processes gives the same bits.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from mmengine import dist
from torch import Tensor

Batch = TypeVar("Batch")


def share_out(batches: Sequence[Batch]) -> list[Batch]:
    """The batches of this process."""
    return list(batches[dist.get_rank() :: dist.get_world_size()])


def gather(own: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """What all processes made of their batches, on the CPU of each of them.

    Args:
        own: (B, ...) for each batch of this process's share, all of one type.
        sizes: B of every batch of all processes.

    Returns:
        (N, ...), in the order of the batches.
    """
    world = dist.get_world_size()
    if world == 1:
        return torch.cat([part.cpu() for part in own])
    form = [(own[0].shape[1:], own[0].dtype) if own else None]
    dist.broadcast_object_list(form, src=0)  # a process may have no batch at all; the first one has
    (shape, dtype), device = form[0], dist.get_comm_device()
    longest = sum(sizes[0::world])
    padded = torch.zeros(longest, *shape, dtype=dtype, device=device)
    if own:
        mine = torch.cat([part.to(device) for part in own])
        padded[: len(mine)] = mine
    parts = [
        iter(part.cpu().split([*sizes[rank::world], longest - sum(sizes[rank::world])]))
        for rank, part in enumerate(dist.all_gather(padded))
    ]
    return torch.cat([next(parts[index % world]) for index in range(len(sizes))])


def gather_objects(own: Sequence[Any], count: int) -> list[Any]:
    """What all processes made of their batches, anything that can be pickled, in the order of all `count` batches."""
    parts = dist.all_gather_object(list(own))
    return [parts[index % len(parts)][index // len(parts)] for index in range(count)]
