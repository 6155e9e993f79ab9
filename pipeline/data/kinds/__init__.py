"""Kinds of samples, one module each, found by its name.

A kind has `KEY`, the name in a batch of what an encoder is given; `open_train`, the training split as a recipe sees it;
`first_of_each`, what is shown of a run; `example`, a batch of noise for the contract suite; and `montage`.
"""

from importlib import import_module
from types import ModuleType


def load_kind(name: str) -> ModuleType:
    """The module of a kind."""
    return import_module(f"pipeline.data.kinds.{name}")
