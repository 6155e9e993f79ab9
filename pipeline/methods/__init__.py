"""One file per pretraining objective: masking, encoder, target and loss, in computing order.

A module of this package defines one class derived from `Method`; `load_method` finds it by the module's name.
"""

from importlib import import_module

from pipeline.config import ConfigError, available_methods
from pipeline.methods.base import Method


def load_method(name: str) -> type[Method]:
    """The method that a module of this package defines.

    Raises:
        ConfigError: for a name that is not there.
    """
    if name not in available_methods():
        raise ConfigError(f"method is {name!r}; available methods: {available_methods()}")
    module = import_module(f"pipeline.methods.{name}")
    own = [item for item in vars(module).values() if isinstance(item, type) and item.__module__ == module.__name__]
    return next(item for item in own if issubclass(item, Method))
