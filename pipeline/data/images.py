"""A packed classification set as a data set for training: samples are asked for by (epoch, index).

Small sets of equally large images are decoded once and transformed a batch at a time; large ones are read,
decoded and transformed image by image in the loader's workers.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.config import ConfigError
from pipeline.data.draws import PARTNER, uniform
from pipeline.data.held import held
from pipeline.data.packed import Packed, read_json
from pipeline.data.pictures import decode_packed, decode_pixels
from pipeline.data.transforms import Transform, normalised

IN_MEMORY = 512 * 2**20  # bytes of decoded pixels up to which a set is held in memory
VIEW = 2**20  # between the seeds of two views of one image


class Images(Dataset[dict[str, Tensor]]):
    """Labelled images of one split.

    `loader = DataLoader(images, sampler of (epoch, index) pairs, collate_fn=as_it_is)`: the set itself makes
    batches.

    Args:
        folder: holds the packs, such as `data/digits/files`.
        split: `train` or `val`.
        transform: from `pipeline.data.transforms`.
        seed: of the run; with epoch and index it decides all that is random.
        in_memory: bytes up to which the decoded set is kept.
        views: of each image, independently transformed; the second comes as `view`.
        same_class_share: give each image a `partner`, this share of them from its own class; None for no partners.
        raw: give 8-bit pixels where the transform does, for a model that normalises them on its device.

    Raises:
        ConfigError: partners of the same class are wanted, and a class has only one image.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        transform: Transform,
        seed: int,
        in_memory: int = IN_MEMORY,
        *,
        views: int = 1,
        same_class_share: float | None = None,
        raw: bool = False,
    ) -> None:
        self.packed = Packed(folder, split)
        self.transform, self.seed, self.views, self.same_class_share = transform, seed, views, same_class_share
        self.raw = raw
        self.classes: list[str] = read_json(Path(folder) / "classes.json", list)
        self.labels = torch.from_numpy(self.packed.labels)
        self.pixels = held(self.packed, "image", self._decode_all) if self._is_small(in_memory) else None
        self.by_class = self._by_class() if same_class_share else None

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, sample: tuple[int, int]) -> dict[str, Tensor]:
        """One sample: as a batch, without its first dimension."""
        return {name: values[0] for name, values in self.__getitems__([sample]).items()}

    def __getitems__(self, samples: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """A batch.

        Args:
            samples: (epoch, index) pairs.

        Returns:
            images (B, 3, S, S) float32, normalised, or uint8; labels, epoch and index, (B,) int64 each; where wanted
            view and partner, like images.
        """
        epochs, indices = torch.tensor(samples, dtype=torch.int64).unbind(1)
        seeds = [self.seed, self.seed + VIEW][: self.views]
        batch = dict(zip(("images", "view"), self._views(epochs, indices, seeds), strict=False))
        batch |= {"labels": self.labels[indices], "epoch": epochs, "index": indices}
        if self.same_class_share is not None:
            (batch["partner"],) = self._views(epochs, self.partners(epochs, indices), [self.seed + VIEW])
        return batch

    def partners(self, epochs: Tensor, indices: Tensor) -> Tensor:
        """(B,) indices of the images that go with (B,) others: another of the same class, or any."""
        draws = uniform(self.seed, epochs, indices, 2, PARTNER).to(torch.float64)
        anyone = (draws[:, 1] * len(self)).long()
        if self.by_class is None:
            return anyone
        order, place, first, count = self.by_class
        labels = self.labels[indices]
        # One of the others: as many steps around the class as are drawn, from the image itself.
        steps = 1 + (draws[:, 1] * (count[labels] - 1)).long()
        akin = order[first[labels] + (place[indices] + steps) % count[labels]]
        return torch.where(draws[:, 0] < self.same_class_share, akin, anyone)

    def _by_class(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Indices ordered by class, each image's place in its class, and each class's beginning and size."""
        count = torch.bincount(self.labels, minlength=len(self.classes))
        if (count == 1).any():
            lonely = [name for name, images in zip(self.classes, count.tolist(), strict=True) if images == 1]
            raise ConfigError(
                f"same_class_share is {self.same_class_share}, and {len(lonely)} classes of {self.packed.folder} have "
                f"one image only ({', '.join(lonely[:5])}); expected at least two of each, or a share of 0"
            )
        order = self.labels.argsort(stable=True)
        first = count.cumsum(0) - count
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order)) - first[self.labels[order]]
        return order, place, first, count

    def _views(self, epochs: Tensor, indices: Tensor, seeds: Sequence[int]) -> list[Tensor]:
        """The images by each of the seeds; all that is made of one file comes of one decoding where sizes allow."""
        if self.pixels is not None:
            views = [self.transform.batch(self.pixels[indices], seed, epochs, indices) for seed in seeds]
        else:
            several = torch.tensor(seeds).repeat(len(indices)) if len(seeds) > 1 else seeds[0]
            epochs, indices = (column.repeat_interleave(len(seeds)) for column in (epochs, indices))
            sizes = torch.from_numpy(self.packed.sizes[indices.numpy()])
            read = self.transform.read(lru_cache(1)(self._decode), sizes, several, epochs, indices)
            views = [read[place :: len(seeds)] for place in range(len(seeds))]
        return views if self.raw else [normalised(images) for images in views]

    def _read(self, index: int, factor: int = 1) -> Tensor:
        """(3, H, W) uint8, the channels of a pixel side by side in memory."""
        pixels = decode_packed(self.packed, index, partial(decode_pixels, factor=factor))
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def _decode(self, index: int, factor: int) -> Tensor:
        """(3, H, W) uint8, of the size that the index says, divided by the factor."""
        image = self._read(index, factor)
        sides = self.packed.sizes[index].tolist()
        if list(image.shape[1:]) != [-(-side // factor) for side in sides]:
            found = tuple(side * factor for side in image.shape[1:])
            raise ConfigError(f"{self.packed.keys[index]} of {self.packed.split} in {self.packed.folder} has {found} "
                              f"pixels, and the index says {tuple(sides)}; prepare the data again")  # fmt: skip
        return image

    def _is_small(self, limit: int) -> bool:
        sizes = self.packed.sizes
        alike = len(sizes) > 0 and bool((sizes == sizes[0]).all()) and sizes[0].min() > 0
        return alike and 3 * len(sizes) * int(sizes[0, 0]) * int(sizes[0, 1]) <= limit

    def _decode_all(self) -> Tensor:
        return torch.stack([self._read(position) for position in range(len(self))]).contiguous()


def as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    """Collate function for sets that make whole batches themselves."""
    return batch
