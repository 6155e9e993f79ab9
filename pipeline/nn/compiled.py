"""Compiled blocks: kernels of their own for the blocks of a model's transformers, by `torch.compile`.

Blocks of one kind share what is compiled, which so takes a minute and not one for each; what stands between them, where
methods choose, mask and draw, runs as it is written.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pipeline.nn.stacks import replaced, stacks

# Kernels that one piece of code has: of encoder and decoder, trained and not, and with `drop_path` one for each block.
MOST = 128


@contextmanager
def compiling(model: nn.Module, wanted: bool = True) -> Iterator[int]:
    """Let the blocks of each transformer in a model run compiled.

    Results are those of running them as they are but for the last bits: sums are taken in another order. Random numbers
    are the same.

    Args:
        model: in which transformers hold their blocks as `blocks`.
        wanted: False leaves them as they are.

    Yields:
        How many blocks that are.
    """
    if not wanted:
        yield 0  # without the import that asking for a limit takes
        return
    blocks = [block for each in stacks(model) for block in each]
    with (
        torch._dynamo.config.patch(recompile_limit=MOST),
        replaced(blocks, lambda block: torch.compile(block.forward, dynamic=False, options={"fallback_random": True})),
    ):
        yield len(blocks)
