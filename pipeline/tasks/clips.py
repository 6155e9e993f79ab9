"""Clips for the tasks of images: encoders that take them, and sets that hand them over.

A task of images then measures videos unchanged. B clips of T frames, L patches, D encoder width, R views of a video.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pipeline.config import ConfigError, models
from pipeline.nn.encoders import is_spacetime, load_encoder, model_of
from pipeline.nn.families import vit_st
from pipeline.tasks.features import apply


class Clips(Dataset[Any]):
    """A set of clips whose batches name them as the tasks of images do; an item has R of them."""

    unit = "clips"

    def __init__(self, clips: Any) -> None:
        self.clips, self.repeats, self.labels, self.classes = clips, clips.repeats, clips.labels, clips.classes

    def __len__(self) -> int:
        return len(self.clips)

    def __getitems__(self, samples: list[tuple[int, int]]) -> dict[str, Tensor]:
        batch = self.clips.__getitems__(samples)
        return {**batch, "images": batch["video"]}


class FrameAverage(nn.Module):
    """An image encoder that looks at each frame by itself; its tokens are averaged over them."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.embed_dim = encoder, encoder.embed_dim

    def forward_features(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 1 + L, D), or (B, D, h, w) where it is convolutional."""
        tokens = self.encoder.forward_features(video.transpose(1, 2).flatten(0, 1))
        return tokens.unflatten(0, (len(video), -1)).mean(dim=1)


def load_frozen(path: Path, settings: Mapping[str, Any]) -> nn.Module:
    """A saved encoder that takes clips of `num_frames` frames of `image_size`."""
    if is_spacetime(model_of(path)):
        return load_encoder(path, settings["image_size"], num_frames=settings["num_frames"])
    return FrameAverage(load_encoder(path, settings["image_size"]))


def load_spacetime(path: Path, settings: Mapping[str, Any]) -> nn.Module:
    """As `load_frozen`, to be trained: a plain ViT of images is inflated to tubelets of `tubelet` frames.

    Raises:
        ConfigError: it is neither.
    """
    model, drop_path, frames = model_of(path), settings["drop_path"], settings["num_frames"]
    if is_spacetime(model):
        return load_encoder(path, settings["image_size"], drop_path, frames)
    size = models()[model]
    if size["family"] != "vit":
        raise ConfigError(f"{path} is of family {size['family']!r}, which cannot be inflated; expected vit or vit_st")
    side = settings["image_size"]
    size = {**size, "tubelet": settings["tubelet"], "initialisation": "mae_st"}
    encoder = vit_st.build(size, (side, side), drop_path, frames)
    encoder.load_state_dict(vit_st.inflate(load_encoder(path).state_dict(), encoder))
    return encoder


@torch.no_grad()
def apply_views(model: nn.Module, clips: Clips, settings: Mapping[str, Any]) -> Tensor:
    """What a model makes of every video, averaged over its views: (N, ...)."""
    return apply(model, clips, settings).unflatten(0, (-1, clips.repeats)).mean(dim=1)  # type: ignore[arg-type]
