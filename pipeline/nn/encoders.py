"""Encoders behind one face: named, built, saved as plain timm state dicts, and loaded for any image size.

A saved encoder is a safetensors file in timm's own key layout; its metadata names the model and the image size,
so a task, or any other tool, needs nothing else to rebuild it.
"""

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from pipeline.config import ConfigError, models


def build_encoder(model: str, image_size: int | tuple[int, int], drop_path: float = 0.0) -> nn.Module:
    """A named encoder, freshly initialised.

    Args:
        model: a name of `config/models/`.
        image_size: side, or height and width, in pixels; a multiple of the patch size.
        drop_path: rate at the last block; rates rise linearly from 0.

    Returns:
        timm's module, with `model_name` and `image_size` (height, width); `forward_features` gives (B, 1 + L, D)
        tokens, or (B, D, h, w) maps where it is convolutional, and `embed_dim` is D.

    Raises:
        ConfigError: for a name that is not there or a size that patches do not tile.
    """
    sizes = models()
    if model not in sizes:
        raise ConfigError(f"model is {model!r}; available: {sorted(sizes)}")
    size = sizes[model]
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    patch = size.get("patch_size", 1)
    if height % patch or width % patch:
        raise ConfigError(f"image_size is {image_size}; expected a multiple of {model}'s patch size, {patch}")
    encoder = _family(model).build(size, (height, width), drop_path)
    encoder.model_name, encoder.image_size = model, (height, width)
    return encoder


def is_transformer(encoder: nn.Module) -> bool:
    """Whether an encoder gives tokens rather than maps."""
    return hasattr(encoder, "patch_embed")


def save_encoder(encoder: nn.Module, path: Path) -> None:
    """Write an encoder as safetensors in timm's key layout, in float32."""
    # One key alone: safetensors writes several in an order that changes from process to process.
    told = json.dumps({"model": encoder.model_name, "image_size": list(encoder.image_size)}, sort_keys=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file(state, path, metadata={"encoder": told})


def load_encoder(
    path: str | Path, image_size: int | tuple[int, int] | None = None, drop_path: float = 0.0
) -> nn.Module:
    """Rebuild a saved encoder, for another image size if wanted; its positions are then interpolated.

    Raises:
        ConfigError: when the file is no saved encoder, with the keys that are missing or not known.
    """
    model, saved, state = _read(path)
    encoder = build_encoder(model, image_size or saved, drop_path)
    family = _family(model)
    missing, unknown = encoder.load_state_dict(family.fit_positions(state, encoder), strict=False)
    if missing or unknown:
        raise ConfigError(f"{path} does not fit {model}: missing {missing}, not known {unknown}")
    return encoder


def model_of(path: str | Path) -> str:
    """The name of a saved encoder's model."""
    return _read(path)[0]


def _family(model: str) -> ModuleType:
    return import_module(f"pipeline.nn.families.{models()[model]['family']}")


def _read(path: str | Path) -> tuple[str, tuple[int, int], dict[str, Any]]:
    """Model, height and width in pixels, and tensors."""
    if not Path(path).is_file():
        raise ConfigError(f"there is no encoder {path}; run its pretraining, or `dvc pull`")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if "encoder" in metadata:
            told = json.loads(metadata["encoder"])
            model, (height, width) = told["model"], told["image_size"]
        elif {"model", "height", "width"} <= set(metadata):  # as it was written before there was one key
            model, height, width = metadata["model"], int(metadata["height"]), int(metadata["width"])
        else:
            raise ConfigError(f"{path} was not saved as an encoder: its metadata has {sorted(metadata)}")
        return model, (height, width), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
