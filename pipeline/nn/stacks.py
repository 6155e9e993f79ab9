"""The blocks of the transformers in a model, and what runs for a while in place of their own forward pass."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn


def stacks(model: nn.Module) -> list[nn.Sequential | nn.ModuleList]:
    """The blocks of each transformer in a model, which holds them as `blocks`."""
    found = [part._modules.get("blocks") for part in model.modules()]
    return [blocks for blocks in found if isinstance(blocks, nn.Sequential | nn.ModuleList)]


def is_trained(block: nn.Module) -> bool:
    """Whether something in it is."""
    return any(parameter.requires_grad for parameter in block.parameters())


@contextmanager
def replaced(blocks: Sequence[nn.Module], by: Callable[[nn.Module], Callable[..., Any]]) -> Iterator[None]:
    """Let each block run what is made of it; afterwards it runs what it ran before."""
    before = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        block.forward = by(block)
    try:
        yield
    finally:
        for block, own in zip(blocks, before, strict=True):
            if own is None:
                del block.forward
            else:
                block.forward = own
