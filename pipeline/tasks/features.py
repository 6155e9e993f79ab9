"""Frozen features: what an encoder says of an image, in one vector.

B images, L patches, D encoder width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.device import get_device
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pipeline.config import ConfigError
from pipeline.data.images import Images, as_it_is
from pipeline.data.transforms import CenterCrop
from pipeline.engine.sharing import gather, share_out
from pipeline.nn.encoders import is_transformer

POOLS = {
    "class_token": lambda tokens: tokens[:, 0],
    "mean": lambda tokens: tokens[:, 1:].mean(dim=1),
}


class Part(Dataset[Any]):
    """Some images of a set; samples keep the draws they have in the whole."""

    def __init__(self, images: Any, indices: Tensor) -> None:
        self.images, self.indices = images, indices.tolist()
        self.labels = images.labels[indices]
        self.repeats = getattr(images, "repeats", 1)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, samples: list[tuple[int, int]]) -> dict[str, Tensor]:
        return self.images.__getitems__([(epoch, self.indices[index]) for epoch, index in samples])


def pool(tokens: Tensor, feature: str) -> Tensor:
    """One vector per image from (B, 1 + L, D) tokens: the class token, or the mean of the patches.

    The (B, D, h, w) map of a convolutional encoder is averaged, since that is all the class token it has.

    Raises:
        ConfigError: for another way of pooling.
    """
    if feature not in POOLS:
        raise ConfigError(f"feature is {feature!r}; available: {sorted(POOLS)}")
    return tokens.mean(dim=(2, 3)) if tokens.ndim == 4 else POOLS[feature](tokens)


def evaluation_set(folder: Path, split: str, settings: Mapping[str, Any]) -> Images:
    """A split as evaluation sees it: resized to `resize`, the centre of `image_size` kept.

    Raises:
        ConfigError: its images have no classes, as those of captioned sets may not.
    """
    images = Images(folder / "files", split, CenterCrop(settings["image_size"], settings["resize"]), seed=0)
    if not images.classes:
        raise ConfigError(f"the images of {folder} have no classes to be told apart; name a labelled set: data: ...")
    return images


def evaluation(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A trained task's settings as `apply` takes them: batches of `eval_batch_size`, as many workers as in training."""
    return {**settings, "batch_size": settings["eval_batch_size"], "num_workers": settings["train"]["num_workers"]}


@torch.no_grad()
def apply(model: nn.Module, images: Images, settings: Mapping[str, Any]) -> Tensor:
    """What a model makes of every image of a set, in order; all processes call it and share the work.

    Args:
        model: from (B, 3, H, W) to (B, ...); it is put in evaluation mode.
        images: N of them.
        settings: `batch_size` and `num_workers`.

    Returns:
        (N, ...), float32, on the CPU.
    """
    device = get_device()
    model.to(device).eval()
    batches = [[(0, int(index)) for index in part] for part in torch.arange(len(images)).split(settings["batch_size"])]
    loader = DataLoader(
        images, batch_sampler=share_out(batches), collate_fn=as_it_is, num_workers=settings["num_workers"]
    )
    repeats = getattr(images, "repeats", 1)
    return gather([model(batch["images"].to(device)).float().cpu() for batch in loader],
                  [repeats * len(batch) for batch in batches])  # fmt: skip


def extract(encoder: nn.Module, images: Images, settings: Mapping[str, Any]) -> Tensor:
    """Pooled features of every image of a set: (N, D).

    Args:
        encoder: transformer or convolutional.
        images: N of them.
        settings: `feature`, how tokens are pooled; `fresh_norm`, whether the pooled vector is normalised instead of the
            tokens; `batch_size` and `num_workers`.
    """
    fresh = settings.get("fresh_norm", False) and is_transformer(encoder)
    if fresh:
        encoder.norm = nn.Identity()

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, images: Tensor) -> Tensor:
            features = pool(self.encoder.forward_features(images), settings["feature"])
            return F.layer_norm(features, features.shape[-1:]) if fresh else features

    return apply(Features(), images, settings)
