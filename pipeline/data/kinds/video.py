"""Clips: some frames of a video, cut and normalised; what is random is a function of (seed, epoch, index).

Sampling follows MAE-ST (Feichtenhofer et al. 2022, arXiv:2205.09113, released code): a clip of T frames at a sampling
rate of s spans s · T frames of a video at `target_fps`, of others as many as take the same time; its frames are
evenly spaced from the span's first to its last, rounded down. B items, R clips of each, S pixels a side.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.config import ConfigError
from pipeline.data.draws import START, uniform
from pipeline.data.held import held
from pipeline.data.packed import Packed, read_arrays, read_json
from pipeline.data.pictures import decode_packed
from pipeline.data.policies import FramesAugmented
from pipeline.data.transforms import RandomCrop, denormalise, normalise_
from pipeline.data.video import read_frames

KEY = "video"  # of a batch: what an encoder is given, (B, 3, T, H, W)
IN_MEMORY = 512 * 2**20  # bytes of decoded pixels up to which a set is held in memory


class Videos:
    """Packed videos, decoded as asked, or held in memory where they are small and alike."""

    def __init__(self, folder: Path, split: str, decode_size: int, in_memory: int = IN_MEMORY) -> None:
        files = Path(folder) / "files"
        self.packed, self.decode_size = Packed(files, split), decode_size
        self.classes: list[str] = read_json(files / "classes.json", list)
        self.labels = torch.from_numpy(self.packed.labels)
        known = read_arrays(files / f"{split}.videos.npz", ("frames", "fps"))
        self.frames, self.fps = known["frames"], known["fps"]
        if self.frames.shape != self.labels.shape or self.fps.shape != self.labels.shape:
            raise ConfigError(f"{files / split}.videos.npz does not fit the index beside it; prepare the data again")
        sizes = np.column_stack([self.packed.sizes, self.frames]).astype(np.int64)
        alike = len(sizes) > 0 and bool((sizes == sizes[0]).all())
        small = alike and 3 * int(sizes.prod(1).sum()) <= in_memory
        self.pixels = held(self.packed, ("video", decode_size), self._decode_all) if small else None

    def __len__(self) -> int:
        return len(self.packed)

    def read(self, index: int, frames: Sequence[int]) -> Tensor:
        """(T, 3, H, W) uint8 of some frames of a video."""
        pixels = self.pixels[index][list(frames)] if self.pixels is not None else self._decode(index, frames)
        return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)

    def clips(self, index: int, sampling: Mapping[str, Any], shares: Sequence[float]) -> list[Tensor]:
        """Clips of a video that begin at the shares, see `clip_frames`, of one decoding: (T, 3, H, W) uint8 each."""
        length, fps = int(self.frames[index]), float(self.fps[index])
        wanted = [clip_frames(length, fps, sampling, share) for share in shares]
        return list(self.read(index, [frame for clip in wanted for frame in clip]).split(len(wanted[0])))

    def _decode_all(self) -> np.ndarray:
        return np.stack([self._decode(index, range(self.frames[index])) for index in range(len(self))])

    def _decode(self, index: int, frames: Sequence[int]) -> np.ndarray:
        return decode_packed(self.packed, index, lambda data: read_frames(data, frames, self.decode_size))


class TrainClips(Dataset[dict[str, Tensor]]):
    """Random clips of one split: random start, one random crop for all frames, half of them mirrored.

    Args:
        folder: of the prepared set.
        augment: `image_size`, `num_frames`, `sampling_rate`, `target_fps`, `decode_size` (the short side after
            decoding), `scale`, `ratio` and `flip` of the crop; where said, `policy` and `erase_ratio`, see
            `FramesAugmented`.
        repeats: R clips of each item, each with a start, a crop and an epoch number of its own.
        seed: of the run.
    """

    unit = "clips"

    def __init__(self, folder: Path, augment: Mapping[str, Any], repeats: int, seed: int, split: str = "train") -> None:
        self.videos = Videos(folder, split, augment["decode_size"])
        self.augment, self.repeats, self.seed = augment, repeats, seed
        self.labels, self.classes = self.videos.labels, self.videos.classes
        self.crop = RandomCrop(augment["image_size"], tuple(augment["scale"]), tuple(augment["ratio"]), augment["flip"])
        self.policy = FramesAugmented(augment.get("policy"), augment.get("erase_ratio", 0.0))

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, sample: tuple[int, int]) -> dict[str, Tensor]:
        """The clips of one item."""
        return self.__getitems__([sample])

    def __getitems__(self, samples: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """A batch.

        Args:
            samples: B (epoch, index) pairs.

        Returns:
            video (B · R, 3, T, S, S) float32, normalised, an item's clips one after the other; labels, epoch (that of
            the sample times R, plus the clip's number) and index, (B · R,) int64 each.
        """
        epochs, indices = torch.tensor(samples, dtype=torch.int64).unbind(1)
        epochs = (epochs[:, None] * self.repeats + torch.arange(self.repeats)).flatten()
        indices = indices.repeat_interleave(self.repeats)
        starts = uniform(self.seed, epochs, indices, 1, START).view(-1, self.repeats).tolist()
        clips = list(zip(epochs.tolist(), indices.tolist(), strict=True))
        items = indices[:: self.repeats].tolist()
        whole = [clip for item, shares in zip(items, starts, strict=True)
                 for clip in self.videos.clips(item, self.augment, shares)]  # fmt: skip
        frames = [self.policy.frames(pixels, self.seed, *which) for pixels, which in zip(whole, clips, strict=True)]
        boxes, flips = self._crops(frames, epochs, indices)
        size = self.crop.image_size
        video = torch.empty(len(clips), 3, self.augment["num_frames"], size, size)
        for clip, pixels, (top, left, height, width), flip, which in zip(
            video, frames, boxes, flips, clips, strict=True
        ):
            cut = normalise_(_resized(pixels[..., top : top + height, left : left + width], size))
            clip.copy_((cut.flip(3) if flip else cut).transpose(0, 1))
            clip.copy_(self.policy.erased(clip, self.seed, *which))
        return {"video": video, "labels": self.labels[indices], "epoch": epochs, "index": indices}

    def _crops(self, frames: list[Tensor], epochs: Tensor, indices: Tensor) -> tuple[list[list[int]], list[bool]]:
        """Boxes and flips, drawn once for all clips of a size: one at a time they cost more than a small step."""
        sizes = torch.tensor([pixels.shape[2:] for pixels in frames])
        boxes, flips = torch.empty(len(frames), 4, dtype=torch.int64), torch.empty(len(frames), dtype=torch.bool)
        for size in sizes.unique(dim=0):
            alike = (sizes == size).all(1)
            boxes[alike], flips[alike] = self.crop.parameters(self.seed, epochs[alike], indices[alike], *size.tolist())
        return boxes.tolist(), flips.tolist()


class EvalClips(Dataset[dict[str, Tensor]]):
    """Views of one split that are always the same: evenly spaced starts, and crops along the longer side.

    Args:
        folder, split: of the prepared set.
        settings: `image_size`, `resize` (the short side), `num_frames`, `sampling_rate`, `target_fps`,
            `temporal_views` and `spatial_crops`, 1 or 3; an item has their product as `repeats`.
    """

    unit = "clips"

    def __init__(self, folder: Path, split: str, settings: Mapping[str, Any]) -> None:
        if settings["spatial_crops"] not in (1, 3):
            raise ConfigError(f"spatial_crops is {settings['spatial_crops']}; expected 1, or 3 along the longer side")
        if settings["resize"] < settings["image_size"]:
            raise ConfigError(f"resize is {settings['resize']}; expected at least image_size, {settings['image_size']}")
        self.videos = Videos(folder, split, settings["resize"])
        self.settings = settings
        self.labels, self.classes = self.videos.labels, self.videos.classes
        self.repeats = settings["temporal_views"] * settings["spatial_crops"]

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, sample: tuple[int, int]) -> dict[str, Tensor]:
        """The views of one item."""
        return self.__getitems__([sample])

    def __getitems__(self, samples: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """A batch as `TrainClips` makes it, R being `repeats`; crops run fastest."""
        indices = torch.tensor([index for _, index in samples], dtype=torch.int64)
        video = torch.cat([self._views(index) for index in indices.tolist()])
        indices = indices.repeat_interleave(self.repeats)
        views = torch.arange(self.repeats).repeat(len(samples))
        return {"video": video, "labels": self.labels[indices], "epoch": views, "index": indices}

    def _views(self, index: int) -> Tensor:
        settings, size, views = self.settings, self.settings["image_size"], []
        number = settings["temporal_views"]
        starts = [0.5] if number == 1 else [view / (number - 1) for view in range(number)]
        for pixels in self.videos.clips(index, settings, starts):
            room = [side - size for side in pixels.shape[2:]]
            for crop in [0.5] if settings["spatial_crops"] == 1 else [0.0, 0.5, 1.0]:
                shares = (crop, 0.5) if room[0] > room[1] else (0.5, crop)
                top, left = (round(share * free) for share, free in zip(shares, room, strict=True))
                seen = pixels[..., top : top + size, left : left + size]
                views.append(normalise_(seen.to(torch.float32, copy=True)).transpose(0, 1))
        return torch.stack(views)


def clip_frames(length: int, fps: float, sampling: Mapping[str, Any], share: float) -> list[int]:
    """The frames of a clip.

    Args:
        length, fps: frames of the video, and how many of them a second has.
        sampling: `num_frames`, `sampling_rate` and `target_fps`; a sampling rate of 0 takes the middle of each of
            `num_frames` equal segments instead, as Something-Something is sampled.
        share: where it begins, from 0, as early as can be, to 1, as late.

    Returns:
        T positions; the last frame repeats where a video is shorter than the span.
    """
    count = sampling["num_frames"]
    if sampling["sampling_rate"] == 0:
        return [min(int((place + share) * length / count), length - 1) for place in range(count)]
    span = count * sampling["sampling_rate"] * fps / sampling["target_fps"]
    start = share * max(length - span, 0)
    places = torch.linspace(start, start + span - 1, count, dtype=torch.float64)
    return (places + 1e-9).long().clamp(0, length - 1).tolist()


def open_train(folder: Path, settings: Mapping[str, Any], seed: int) -> TrainClips:
    """The training split as a recipe sees it: its `augment`, and `repeats` clips of each item, one if not said."""
    return TrainClips(folder, settings["augment"], settings.get("repeats", 1), seed)


def first_of_each(folder: Path, settings: Mapping[str, Any], seed: int, num: int) -> dict[str, Tensor]:
    """A batch of the middle of the first validation video of each class, of `num` classes at most."""
    augment = settings["augment"]
    size = augment["image_size"]
    clips = EvalClips(folder, "val", {**augment, "resize": size, "temporal_views": 1, "spatial_crops": 1})
    firsts = [int((clips.labels == label).nonzero()[0, 0]) for label in clips.labels.unique()[:num]]
    return clips.__getitems__([(0, index) for index in firsts])


def open_eval(folder: Path, split: str, settings: Mapping[str, Any]) -> EvalClips:
    """A split as a protocol sees it."""
    return EvalClips(folder, split, settings)


def example(settings: Mapping[str, Any], batch_size: int) -> dict[str, Tensor]:
    """A batch as `open_train` makes it, of noise, always the same."""
    augment, size = settings["augment"], settings["augment"]["image_size"]
    video = torch.randn(batch_size, 3, augment["num_frames"], size, size, generator=torch.Generator().manual_seed(1))
    places = torch.arange(batch_size)
    return {"video": video, "labels": places % 4, "epoch": torch.zeros_like(places), "index": places}


def montage(rows: Mapping[str, Tensor], least: int = 64, gap: int = 4, most: int = 8) -> Image.Image:
    """Rows of (B, 3, T, H, W) normalised clips as one picture: a strip per clip and row, frames from left.

    Short strips stand beside each other, up to `most` frames.
    """
    first = next(iter(rows.values()))
    scale, beside = -(-least // first.shape[3]), max(1, most // first.shape[2])
    blocks = []
    for number in range(len(first)):
        strips = []
        for clips in rows.values():
            pixels = (denormalise(clips[number].transpose(0, 1)) * 255).round().byte().permute(0, 2, 3, 1).numpy()
            pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
            tiles = [np.pad(tile, ((gap, gap), (gap, gap), (0, 0)), constant_values=255) for tile in pixels]
            strips.append(np.concatenate(tiles, axis=1))
        blocks.append(np.pad(np.concatenate(strips), ((0, 2 * gap), (0, 4 * gap), (0, 0)), constant_values=255))
    blocks += [np.full_like(blocks[0], 255)] * (-len(blocks) % beside)
    lines = [np.concatenate(blocks[place : place + beside], axis=1) for place in range(0, len(blocks), beside)]
    return Image.fromarray(np.concatenate(lines)[: -2 * gap, : -4 * gap])


def _resized(frames: Tensor, size: int) -> Tensor:
    """(T, 3, H, W) uint8 -> (T, 3, S, S) float32 in [0, 255], bilinear."""
    return F.interpolate(frames.float(), size=(size, size), mode="bilinear", align_corners=False)
