"""Clips with their optical flow and sound: those of the kind `video`, cut from the same frames and by the same box.

What is random is a function of (seed, epoch, index). B clips of T frames, S pixels a side, F mel bands and A frames of
a spectrogram.
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
from pipeline.data.flow import unpack
from pipeline.data.kinds import video
from pipeline.data.kinds.video import Videos, clip_frames
from pipeline.data.packed import Packed, read_json
from pipeline.data.resample import axis_weights
from pipeline.data.transforms import MEAN, STD, RandomCrop

KEY = "video"  # of a batch: what an encoder is given, (B, 3, T, S, S)
BANDS = 16  # of the example's sound


class Clips(Dataset[dict[str, Tensor]]):
    """Random clips of one split: random start, one random crop for all frames and their flow, half of them mirrored.

    Args:
        folder: of the prepared set.
        augment: as of `pipeline.data.kinds.video.TrainClips`, but for policy and erasing.
        sound_frames: A, to which the spectrogram of a clip is brought.
        seed: of the run.
    """

    unit = "clips"

    def __init__(
        self, folder: Path, augment: Mapping[str, Any], sound_frames: int, seed: int, split: str = "train"
    ) -> None:
        files = Path(folder) / "files"
        self.videos = Videos(folder, split, augment["decode_size"])
        self.flow, self.sound = Packed(files, f"{split}-flow"), Packed(files, f"{split}-sound")
        if not self.videos.packed.keys == self.flow.keys == self.sound.keys:
            raise ConfigError(f"{files / split}-flow or -sound does not fit the videos; prepare the data again")
        self.told = read_json(files / "modalities.json", dict)
        self.augment, self.sound_frames, self.seed = augment, sound_frames, seed
        self.labels, self.classes = self.videos.labels, self.videos.classes
        self.crop = RandomCrop(augment["image_size"], tuple(augment["scale"]), tuple(augment["ratio"]), augment["flip"])

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, sample: tuple[int, int]) -> dict[str, Tensor]:
        """One sample: as a batch, without its first dimension."""
        return {name: values[0] for name, values in self.__getitems__([sample]).items()}

    def __getitems__(self, samples: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """A batch.

        Args:
            samples: B (epoch, index) pairs.

        Returns:
            video (B, 3, T, S, S), normalised as ImageNet is; flow (B, 2, T, S, S), pixels of the clip over the set's
            deviation; sound (B, 1, F, A), log-mel over the set's deviation,
            zeros where `heard` (B,) bool is False; labels, epoch and index, (B,) int64 each.
        """
        epochs, indices = torch.tensor(samples, dtype=torch.int64).unbind(1)
        shares = uniform(self.seed, epochs, indices, 1, START)[:, 0].tolist()
        pixels, flows, sounds = [], [], []
        for index, share in zip(indices.tolist(), shares, strict=True):
            length, fps = int(self.videos.frames[index]), float(self.videos.fps[index])
            frames = clip_frames(length, fps, self.augment, share)
            pixels.append(self.videos.read(index, frames))
            flows.append(self._flow(index, frames, length))
            sounds.append(self._sound(index, frames, fps))
        boxes, flips = self._boxes(epochs, indices, pixels)
        seen = _cut(pixels, boxes, flips, self.crop.image_size)
        mean, std = (torch.tensor(values).view(3, 1, 1, 1) * 255 for values in (MEAN, STD))
        heard = torch.from_numpy(self.sound.sizes[indices.numpy(), 0] > 0)
        return {"video": (seen - mean) / std, "flow": self._moved(flows, pixels, boxes, flips),
                "sound": torch.stack(sounds), "heard": heard, "labels": self.labels[indices],
                "epoch": epochs, "index": indices}  # fmt: skip

    def _boxes(self, epochs: Tensor, indices: Tensor, pixels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(B, 4) and (B,), see `RandomCrop.parameters`."""
        sizes = [tuple(part.shape[2:]) for part in pixels]
        if len(set(sizes)) == 1:
            return self.crop.parameters(self.seed, epochs, indices, *sizes[0])
        each = [
            self.crop.parameters(self.seed, epochs[place : place + 1], indices[place : place + 1], *size)
            for place, size in enumerate(sizes)
        ]
        boxes, flips = zip(*each, strict=True)
        return torch.cat(boxes), torch.cat(flips)

    def _moved(self, flows: Sequence[Tensor], pixels: Sequence[Tensor], boxes: Tensor, flips: Tensor) -> Tensor:
        """(B, 2, T, S, S): the same boxes of the flow, in pixels of the clip over the set's deviation."""
        decoded, kept = (torch.tensor([part.shape[2:] for part in parts]).repeat(1, 2) for parts in (pixels, flows))
        scaled = boxes * (kept / decoded)
        moved = _cut(flows, scaled, flips, self.crop.image_size)
        zoom = self.crop.image_size / scaled[:, [3, 2]]  # across, down
        zoom[:, 0] *= 1 - 2 * flips.float()  # what went right goes left in a mirror
        return moved * zoom.view(-1, 2, 1, 1, 1)

    def _flow(self, index: int, frames: Sequence[int], length: int) -> Tensor:
        """(T, 2, h, w), in pixels as they are kept over the set's deviation; the last frame's is that before it."""
        height, width = map(int, self.flow.sizes[index])
        steps = self._unpacked(self.flow, index, (length - 1, 2, height, width), np.int8)
        chosen = torch.from_numpy(steps[np.minimum(frames, length - 2)].astype(np.float32))
        return chosen * (self.told["flow"]["step"] / self.told["flow"]["deviation"])

    def _sound(self, index: int, frames: Sequence[int], fps: float) -> Tensor:
        """(1, F, A): what is heard while the frames are seen."""
        told = self.told["sound"]
        bands, number = map(int, self.sound.sizes[index])
        if not bands:
            return torch.zeros(1, told["bands"], self.sound_frames)
        whole = torch.from_numpy(self._unpacked(self.sound, index, (bands, number), np.float16).astype(np.float32))
        first, last = (round(frame / fps / told["hop"]) for frame in (frames[0], frames[-1] + 1))
        first = min(first, number - 1)
        part = (whole[None, :, first : max(last, first + 1)] - told["mean"]) / told["deviation"]
        return F.interpolate(part, size=self.sound_frames, mode="linear", align_corners=False)

    def _unpacked(self, packed: Packed, index: int, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        try:
            return unpack(packed.read(index), shape, dtype)
        except ValueError as error:
            name = f"{packed.keys[index]} in {packed.folder}, {packed.split}"
            raise ConfigError(f"{name} is damaged: {error}; prepare the data again") from None


def open_train(folder: Path, settings: Mapping[str, Any], seed: int) -> Clips:
    """The training split as a recipe sees it: its `augment` and `sound_frames`."""
    return Clips(folder, settings["augment"], settings["sound_frames"], seed)


def first_of_each(folder: Path, settings: Mapping[str, Any], seed: int, num: int) -> dict[str, Tensor]:
    """A batch of the first validation video of each class, of `num` classes at most, uncut."""
    whole = {**settings["augment"], "scale": [1.0, 1.0], "ratio": [1.0, 1.0], "flip": False}
    clips = Clips(folder, whole, settings["sound_frames"], seed, "val")
    firsts = [int((clips.labels == label).nonzero()[0, 0]) for label in clips.labels.unique()[:num]]
    return clips.__getitems__([(0, index) for index in firsts])


def example(settings: Mapping[str, Any], batch_size: int) -> dict[str, Tensor]:
    """A batch as `open_train` makes it, of noise, always the same; one clip of it is silent."""
    generator = torch.Generator().manual_seed(3)
    batch = video.example(settings, batch_size)
    flow = torch.randn(batch_size, 2, *batch["video"].shape[2:], generator=generator)
    sound = torch.randn(batch_size, 1, BANDS, settings["sound_frames"], generator=generator)
    heard = torch.arange(batch_size) != 1
    return {**batch, "flow": flow, "sound": sound * heard.view(-1, 1, 1, 1), "heard": heard}


def montage(rows: Mapping[str, Tensor]) -> Image.Image:
    """Rows of (B, 3, T, S, S) normalised clips as one picture."""
    return video.montage(rows)


def _cut(parts: Sequence[Tensor], boxes: Tensor, flips: Tensor, size: int) -> Tensor:
    """A box of each of B (T, C, H, W), resized and mirrored: (B, C, T, S, S) float32."""
    if len({part.shape for part in parts}) > 1:
        each = zip(parts, boxes.split(1), flips.split(1), strict=True)
        return torch.cat([_cut([part], box, flip, size) for part, box, flip in each])
    whole = torch.stack(list(parts)).float().transpose(1, 2)  # (B, C, T, H, W)
    top, left, height, width = boxes.float().unbind(1)
    start, extent = torch.where(flips, left + width, left), torch.where(flips, -width, width)
    rows = axis_weights(top, height, whole.shape[3], size, "bilinear")  # (B, S, H)
    columns = axis_weights(start, extent, whole.shape[4], size, "bilinear").transpose(1, 2)  # (B, W, S)
    return rows[:, None, None] @ (whole @ columns[:, None, None])
