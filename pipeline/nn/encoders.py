"""Encoders behind one face: named, built, saved as plain timm state dicts, and loaded for any image size.

A saved encoder is a safetensors file in timm's own key layout; its metadata names the model and the image size,
so a task, or any other tool, needs nothing else to rebuild it.
"""

from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from pipeline.config import ConfigError, models
from pipeline.nn import beit, clip, resnet, vit, vit_st

FAMILIES = {"vit": vit, "beit": beit, "clip": clip, "resnet": resnet, "vit_st": vit_st}


def build_encoder(
    model: str, image_size: int | tuple[int, int], drop_path: float = 0.0, num_frames: int | None = None
) -> nn.Module:
    """A named encoder, freshly initialised.

    Args:
        model: a name of `config/models.yaml`.
        image_size: side, or height and width, in pixels; a multiple of the patch size.
        drop_path: rate at the last block; rates rise linearly from 0.
        num_frames: of a clip, where the encoder takes clips; None for those of `config/models.yaml`.

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
    more = {"num_frames": num_frames} if is_spacetime(model) else {}
    try:
        encoder = FAMILIES[size["family"]].build(size, (height, width), drop_path, **more)
    except ValueError as error:
        raise ConfigError(f"{model} cannot be built: {error}") from None
    encoder.model_name, encoder.image_size = model, (height, width)
    return encoder


def is_transformer(encoder: nn.Module) -> bool:
    """Whether an encoder gives tokens rather than maps."""
    return hasattr(encoder, "patch_embed")


def is_spacetime(model: str) -> bool:
    """Whether a named encoder takes clips rather than images."""
    return models()[model]["family"] == "vit_st"


def save_encoder(encoder: nn.Module, path: Path) -> None:
    """Write an encoder as safetensors in timm's key layout, in float32."""
    height, width = encoder.image_size
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    metadata = {"model": encoder.model_name, "height": str(height), "width": str(width)}
    if is_spacetime(encoder.model_name):
        metadata["frames"] = str(encoder.num_frames)
    save_file(state, path, metadata=metadata)


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
    metadata, state = _read(path)
    saved = (int(metadata["height"]), int(metadata["width"]))
    frames = num_frames or int(metadata.get("frames", 0)) or None
    encoder = build_encoder(metadata["model"], image_size or saved, drop_path, frames)
    family = FAMILIES[models()[metadata["model"]]["family"]]
    missing, unknown = encoder.load_state_dict(family.fit_positions(state, encoder), strict=False)
    if missing or unknown:
        raise ConfigError(f"{path} does not fit {metadata['model']}: missing {missing}, not known {unknown}")
    return encoder


def model_of(path: str | Path) -> str:
    """The name of a saved encoder's model."""
    return _read(path)[0]["model"]


def _read(path: str | Path) -> tuple[dict[str, str], dict[str, Any]]:
    if not Path(path).is_file():
        raise ConfigError(f"there is no encoder {path}; run its pretraining, or `dvc pull`")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if not {"model", "height", "width"} <= set(metadata):
            raise ConfigError(f"{path} was not saved as an encoder: its metadata has {sorted(metadata)}")
        return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
