"""Encoders behind one face: timm's Vision Transformer with MAE's initialisation, saved as a plain state dict.

A saved encoder is a safetensors file in timm's own key layout; its metadata names the model and the image size,
so a task, or any other tool, needs nothing else to rebuild it.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from pipeline.config import ConfigError, models
from pipeline.nn.positions import resize_table, sincos_table


def build_encoder(model: str, image_size: int | tuple[int, int], drop_path: float = 0.0) -> VisionTransformer:
    """A named Vision Transformer, initialised as MAE does, with the fixed sine-cosine positions.

    Args:
        model: a name of `config/models.yaml`.
        image_size: side, or height and width, in pixels; a multiple of the patch size.
        drop_path: rate at the last block; rates rise linearly from 0.

    Raises:
        ConfigError: for a name that is not there or a size that patches do not tile.
    """
    sizes = models()
    if model not in sizes:
        raise ConfigError(f"model is {model!r}; available: {sorted(sizes)}")
    size = sizes[model]
    patch = size["patch_size"]
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height % patch or width % patch:
        raise ConfigError(f"image_size is {image_size}; expected a multiple of {model}'s patch size, {patch}")
    encoder = VisionTransformer(
        img_size=(height, width),
        patch_size=patch,
        num_classes=0,
        embed_dim=size["width"],
        depth=size["num_blocks"],
        num_heads=size["num_heads"],
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        drop_path_rate=drop_path,
        weight_init="skip",
    )
    encoder.model_name = model
    initialise(encoder)
    nn.init.normal_(encoder.cls_token, std=0.02)
    encoder.pos_embed = nn.Parameter(sincos_table(size["width"], height // patch, width // patch), requires_grad=False)
    return encoder


def initialise(module: nn.Module) -> None:
    """MAE's initialisation: Xavier-uniform linear maps and patch kernel, zero biases, unit LayerNorms.

    The fused query-key-value matrix is initialised as one matrix; the bias of the patch embedding keeps PyTorch's
    default. Both are side effects of the authors' code that their weights carry.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm) and part.elementwise_affine:
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Conv2d):
            nn.init.xavier_uniform_(part.weight.view(part.weight.shape[0], -1))


def embed_patches(encoder: VisionTransformer, images: Tensor) -> Tensor:
    """Patch tokens with their positions, without the class token: (B, 3, H, W) -> (B, L, D)."""
    return encoder.patch_embed(images) + encoder.pos_embed[:, encoder.num_prefix_tokens :]


def encode(encoder: VisionTransformer, tokens: Tensor) -> Tensor:
    """Class token in front, all blocks, final norm: (B, K, D) -> (B, 1 + K, D), for any subset of K patches."""
    class_token = encoder.cls_token + encoder.pos_embed[:, : encoder.num_prefix_tokens]
    tokens = torch.cat([class_token.expand(len(tokens), -1, -1), tokens], dim=1)
    return encoder.norm(encoder.blocks(tokens))


def save_encoder(encoder: VisionTransformer, path: Path) -> None:
    """Write an encoder as safetensors in timm's key layout, in float32."""
    height, width = encoder.patch_embed.img_size
    state = {name: tensor.detach().float().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    save_file(state, path, metadata={"model": encoder.model_name, "height": str(height), "width": str(width)})


def load_encoder(
    path: str | Path, image_size: int | tuple[int, int] | None = None, drop_path: float = 0.0
) -> VisionTransformer:
    """Rebuild a saved encoder, for another image size if wanted; its positions are then interpolated.

    Raises:
        ConfigError: when the file is no saved encoder, with the keys that are missing or not known.
    """
    metadata, state = _read(path)
    encoder = build_encoder(
        metadata["model"], image_size or (int(metadata["height"]), int(metadata["width"])), drop_path
    )
    state["pos_embed"] = resize_table(state["pos_embed"], *encoder.patch_embed.grid_size)
    missing, unknown = encoder.load_state_dict(state, strict=False)
    if missing or unknown:
        raise ConfigError(f"{path} does not fit {metadata['model']}: missing {missing}, not known {unknown}")
    return encoder


def _read(path: str | Path) -> tuple[dict[str, str], dict[str, Any]]:
    if not Path(path).is_file():
        raise ConfigError(f"there is no encoder {path}; run its pretraining, or `dvc pull`")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if not {"model", "height", "width"} <= set(metadata):
            raise ConfigError(f"{path} was not saved as an encoder: its metadata has {sorted(metadata)}")
        return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
