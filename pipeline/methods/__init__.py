"""One file per pretraining objective: masking, encoder, target and loss, in computing order.

A module of this package defines one class derived from `Method`; `load_method` finds it by the module's name.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError
from pipeline.methods.base import Context, Method, build_options
from pipeline.nn.encoders import build_encoder


def load_method(name: str) -> type[Method]:
    """The method that a module of this package defines.

    Raises:
        ConfigError: for a name that is not there.
    """
    known = sorted(file.stem for file in Path(__file__).parent.glob("*.py") if file.stem not in ("__init__", "base"))
    if name not in known:
        raise ConfigError(f"method is {name!r}; available methods: {known}")
    module = import_module(f"pipeline.methods.{name}")
    own = [item for item in vars(module).values() if isinstance(item, type) and item.__module__ == module.__name__]
    return next(item for item in own if issubclass(item, Method))


def build_method(settings: Mapping[str, Any], context: Context) -> Method:
    """The method a recipe describes, freshly initialised from PyTorch's generator.

    Raises:
        ConfigError: its numbers do not fit together.
    """
    kind = load_method(settings["method"])
    augment = settings.get("augment", {})
    encoder = build_encoder(
        settings["model"],
        augment.get("image_size"),
        settings.get("train", {}).get("drop_path", 0.0),
        augment.get("num_frames"),
    )
    options = build_options(kind.Options, settings.get("options", {}), settings["method"])
    try:
        return kind(encoder, options, context)
    except ValueError as error:
        raise ConfigError(f"{settings['method']} cannot be built: {error}") from error
