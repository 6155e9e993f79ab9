"""Which samples each step sees: the order is a function of (seed, epoch), the place in it of the samples seen.

An optimiser step takes one global batch; `accumulate` micro-batches per rank share it out. Any number of ranks and
any number of micro-batches therefore sees the same samples in the same step.
"""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from pipeline.config import ConfigError
from pipeline.data.draws import bits

ORDER = 100  # the stream of draws that shuffles, apart from those of `pipeline.data.draws`


class GlobalBatches(Sampler[list[tuple[int, int]]]):
    """Micro-batches of (epoch, index) pairs for one rank, from step `start` to step `num_steps`.

    Args:
        num_samples: size of the data set.
        batch_size: samples of one optimiser step, over all ranks and micro-batches.
        num_steps: optimiser steps of the whole training.
        accumulate: micro-batches per rank and step.
        rank, world: this process among all.
        seed: with the epoch it decides the order.

    Raises:
        ConfigError: where the batch is larger than the data set or cannot be shared out evenly.
    """

    def __init__(
        self, num_samples: int, batch_size: int, num_steps: int, accumulate: int, rank: int, world: int, seed: int
    ) -> None:
        if batch_size > num_samples:
            raise ConfigError(f"batch_size is {batch_size}, but the data set has {num_samples} samples; lower it")
        if batch_size % (accumulate * world):
            raise ConfigError(
                f"batch_size {batch_size} cannot be shared out evenly over {world} processes × {accumulate} "
                "micro-batches; change accumulate or the number of GPUs"
            )
        self.num_samples, self.batch_size, self.num_steps = num_samples, batch_size, num_steps
        self.accumulate, self.rank, self.world, self.seed = accumulate, rank, world, seed
        self.start = 0

    def __len__(self) -> int:
        return (self.num_steps - self.start) * self.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = self.num_samples // self.batch_size
        share = self.batch_size // (self.accumulate * self.world)
        order, ordered = torch.empty(0), -1
        for step in range(self.start, self.num_steps):
            epoch, place = divmod(step, per_epoch)
            if epoch != ordered:
                order, ordered = self._order(epoch), epoch
            for micro in range(self.accumulate):
                first = place * self.batch_size + (micro * self.world + self.rank) * share
                yield [(epoch, index) for index in order[first : first + share].tolist()]

    def _order(self, epoch: int) -> torch.Tensor:
        key = int(bits(self.seed, 0, epoch, ORDER)) & (2**63 - 1)
        return torch.randperm(self.num_samples, generator=torch.Generator().manual_seed(key))
