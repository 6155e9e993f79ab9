"""Activation checkpointing: blocks whose activations are not kept but computed again when the gradient needs them.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pipeline.nn.stacks import is_trained, replaced, stacks


@contextmanager
def recomputing(model: nn.Module, share: float) -> Iterator[int]:
    """Let a share of the blocks of each transformer in a model keep nothing but their input for the backward pass.

    Results are those of keeping all: the same operations run on the same random state. Blocks that nothing is trained
    in are left as they are.

    Args:
        model: in which transformers hold their blocks as `blocks`.
        share: of the blocks, evenly spread; 0 for none, 1 for all.

    Yields:
        How many blocks that are.
    """
    chosen = [
        block
        for blocks in stacks(model)
        for index, block in enumerate(blocks)
        if int((index + 1) * share) > int(index * share) and is_trained(block)
    ]
    with replaced(chosen, lambda block: partial(_run, block, block.forward)):
        yield len(chosen)


def _run(block: nn.Module, forward: Callable[..., Any], *args: Any, **more: Any) -> Any:
    if not (torch.is_grad_enabled() and block.training):
        return forward(*args, **more)
    parameters = list(block.parameters())
    trained = [parameter.requires_grad for parameter in parameters]

    def again(*args: Any, **more: Any) -> Any:
        with _training(parameters, trained):  # a block may be frozen for one pass of several, as CL-MAE's are
            return forward(*args, **more)

    return checkpoint(again, *args, use_reentrant=False, **more)


@contextmanager
def _training(parameters: Sequence[nn.Parameter], trained: Sequence[bool]) -> Iterator[None]:
    changed = [parameter for parameter, was in zip(parameters, trained, strict=True) if parameter.requires_grad != was]
    for parameter in changed:
        parameter.requires_grad_(not parameter.requires_grad)
    try:
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(not parameter.requires_grad)
