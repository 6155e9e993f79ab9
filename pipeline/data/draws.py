"""Uniform draws that are a function of what they are for, not of when they are made.

Every random number of training is a hash of (seed, stream, epoch, index, position): the order of batches, the
number of workers or ranks and a resumption in the middle of an epoch then change nothing. The hash is
SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014), once per
level of that tuple and then as its own stream. B samples.
"""

import torch
from torch import Tensor

Seed = int | Tensor  # of all samples, or (B,) int64 of each

# One stream per use, so that a crop and a mask of the same sample do not share their draws.
MASK, CROP, AUGMENT, PARTNER, COLOUR, START, ERASE = range(7)

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


def uniform(seed: Seed, epochs: Tensor | int, indices: Tensor | int, num: int, stream: int = MASK) -> Tensor:
    """Draws of the samples `indices` in their `epochs`, on the device of `indices`.

    Args:
        seed: of the run, 0 or more; (B,) where samples have several.
        epochs: (B,) int64, or one epoch for all.
        indices: (B,) int64 positions in the data set.
        num: draws per sample.
        stream: which use the draws are for.

    Returns:
        (B, num) float32 in [0, 1), multiples of 2^-24.
    """
    positions = torch.arange(1, num + 1, dtype=torch.int64, device=torch.as_tensor(indices).device)
    state = bits(seed, epochs, indices, stream)
    draws = _mix(state[:, None] + _GOLDEN * positions)
    return _shift(draws, 40).to(torch.float32) * 2.0**-24  # 24 bits: all that a float32 below 1 can hold


def bits(seed: Seed, epochs: Tensor | int, indices: Tensor | int, stream: int = MASK) -> Tensor:
    """(B,) int64 hashes of the samples, all 64 bits in use: seeds for generators that others own."""
    if isinstance(seed, int) and seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more")
    state = torch.zeros_like(torch.atleast_1d(torch.as_tensor(indices, dtype=torch.int64)))
    for level in (seed, stream, epochs, indices):
        state = _mix(state + _GOLDEN * (torch.as_tensor(level, dtype=torch.int64, device=state.device) + 1))
    return state


def _mix(z: Tensor) -> Tensor:
    """SplitMix64's finaliser; int64 products wrap around as uint64 ones do."""
    z = (z ^ _shift(z, 30)) * _FIRST
    z = (z ^ _shift(z, 27)) * _SECOND
    return z ^ _shift(z, 31)


def _shift(z: Tensor, places: int) -> Tensor:
    """Logical right shift; torch's own copies the sign bit."""
    return (z >> places) & ((1 << (64 - places)) - 1)
