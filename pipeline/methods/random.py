"""Random: an encoder as it was initialised, the floor every method has to rise above.

It shares initialisation and positions with MAE's encoder, so it is MAE before its first step.
"""

from dataclasses import dataclass

from pipeline.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class RandomOptions:
    """An untrained encoder has no numbers of its own."""


class Random(Method):
    Options = RandomOptions
    trains = False
