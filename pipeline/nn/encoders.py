"""Encoders behind one face: named, built, saved as plain timm state dicts, and loaded for any image size.

A saved encoder is a safetensors file in timm's own key layout; its metadata names the model and the image size, where
it has one, so a task, or any other tool, needs nothing else to rebuild it. An encoder of a method's own is a family of
its own, so that planning knows what it takes and gives, and tasks can build it without the method.
"""

import inspect
import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from pipeline.config import ConfigError, family, models
from pipeline.nn.tensors import read_safetensors, save_weights

LARGEST = 2**13  # pixels of a side, or frames


def build_encoder(
    model: str, image_size: int | tuple[int, int] | None = None, drop_path: float = 0.0, num_frames: int | None = None
) -> nn.Module:
    """A named encoder, freshly initialised.

    Args:
        model: a name of `config/models/`.
        image_size: side, or height and width, in pixels; a multiple of the patch size. None where samples have none.
        drop_path: rate at the last block; rates rise linearly from 0.
        num_frames: of a clip, where the encoder takes clips; None for those of `config/models/`.

    The family's `build` gets those of these that it names.

    Returns:
        timm's module, with `model_name`, `image_size` (height, width) and `takes`, the kind of sample it is given;
        `forward_features` gives (B, 1 + L, D) tokens, or (B, D, h, w) maps where it is convolutional, and
        `embed_dim` is D.

    Raises:
        ConfigError: for a name that is not there, a size that is missing, or one that patches do not tile.
    """
    sizes = models()
    if model not in sizes:
        raise ConfigError(f"model is {model!r}; available: {sorted(sizes)}")
    size, build = sizes[model], _family(model).build
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    patch = size.get("patch_size", 1)
    if sides and any(side % patch for side in sides):
        raise ConfigError(f"image_size is {image_size}; expected a multiple of {model}'s patch size, {patch}")
    given = {"image_size": sides, "drop_path": drop_path, "num_frames": num_frames}
    wanted = inspect.signature(build).parameters
    if sides is None and "image_size" in wanted:
        raise ConfigError(f"{model} needs an image_size, and none is given; say it as augment.image_size, in pixels")
    try:
        encoder = build(size, **{name: value for name, value in given.items() if name in wanted})
    except ValueError as error:
        raise ConfigError(f"{model} cannot be built: {error}") from None
    encoder.model_name, encoder.image_size = model, sides
    encoder.takes = family(size["family"]).takes[0]
    return encoder


def is_transformer(encoder: nn.Module) -> bool:
    """Whether an encoder gives tokens rather than maps."""
    return hasattr(encoder, "patch_embed")


def is_spacetime(model: str) -> bool:
    """Whether a named encoder takes clips rather than images."""
    return family(models()[model]["family"]).takes[0] == "video"


def save_encoder(encoder: nn.Module, path: Path) -> None:
    """Write an encoder as safetensors in timm's key layout, in float32."""
    # One key alone: safetensors writes several in an order that changes from process to process.
    told = {"model": encoder.model_name, "image_size": encoder.image_size}
    if hasattr(encoder, "num_frames"):
        told["num_frames"] = encoder.num_frames
    state = encoder.state_dict()
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_weights(state, path, {"encoder": json.dumps(told, sort_keys=True)})


def load_encoder(
    path: str | Path,
    image_size: int | tuple[int, int] | None = None,
    drop_path: float = 0.0,
    num_frames: int | None = None,
) -> nn.Module:
    """Rebuild a saved encoder, for another size of images or clips if wanted; its positions are then interpolated.

    Raises:
        ConfigError: when the file is no saved encoder, with the keys that are missing or not known.
    """
    model, saved, frames, state = _read(path)
    encoder = build_encoder(model, image_size or saved, drop_path, num_frames or frames)
    try:
        missing, unknown = encoder.load_state_dict(_family(model).fit_positions(state, encoder), strict=False)
    except (RuntimeError, ValueError, KeyError) as error:  # tensors of other shapes
        raise ConfigError(f"{path} does not fit {model}: {' '.join(str(error).split())[:300]}") from None
    if missing or unknown:
        raise ConfigError(f"{path} does not fit {model}: missing {missing}, not known {unknown}")
    return encoder


def load_image_encoder(
    path: str | Path, image_size: int | tuple[int, int] | None = None, drop_path: float = 0.0
) -> nn.Module:
    """As `load_encoder`, to be given images: by its family's `of_images`, where it was made for something else."""
    model, saved, _, state = _read(path)
    of_images = getattr(_family(model), "of_images", None)
    if of_images is None:
        return load_encoder(path, image_size, drop_path)
    sides = image_size or saved
    sides = (sides, sides) if isinstance(sides, int) else sides
    encoder = of_images(models()[model], state, sides, drop_path)
    encoder.model_name, encoder.image_size, encoder.takes = model, sides, "images"
    return encoder


def model_of(path: str | Path) -> str:
    """The name of a saved encoder's model."""
    return _read(path)[0]


def _family(model: str) -> ModuleType:
    return import_module(f"pipeline.nn.families.{models()[model]['family']}")


def _read(path: str | Path) -> tuple[str, tuple[int, int] | None, int | None, dict[str, Any]]:
    """Model, height and width in pixels or None, frames of a clip or None, and tensors."""
    if not Path(path).is_file():
        raise ConfigError(f"there is no encoder {path}; run its pretraining, or `dvc pull`")
    state, metadata = read_safetensors(path)
    try:
        if "encoder" in metadata:
            told = json.loads(metadata["encoder"])
            model, sides, frames = told["model"], told["image_size"], told.get("num_frames")
        elif {"model", "height", "width"} <= set(metadata):  # as it was written before there was one key
            model, frames = metadata["model"], None
            sides = (int(metadata["height"]), int(metadata["width"]))
        else:
            raise ValueError(f"its metadata has {sorted(metadata)}")
        sizes = [size for size in (*(sides or ()), frames) if size is not None]
        if not isinstance(model, str) or any(type(size) is not int or not 0 < size <= LARGEST for size in sizes):
            raise ValueError(f"its metadata says {model!r} for {sizes}")
        image_size = None if sides is None else (sides[0], sides[1])
    except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
        raise ConfigError(f"{path} was not saved as an encoder: {error}; run its pretraining again") from None
    return model, image_size, frames, state
