"""A packed classification set as a data set for training: samples are asked for by (epoch, index).

Small sets of equally large images are decoded once and transformed a batch at a time; large ones are read,
decoded and transformed image by image in the loader's workers.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.data.packed import Packed
from pipeline.data.pictures import decode
from pipeline.data.transforms import Transform

IN_MEMORY = 512 * 2**20  # bytes of decoded pixels up to which a set is held in memory


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
    """

    def __init__(self, folder: Path, split: str, transform: Transform, seed: int, in_memory: int = IN_MEMORY) -> None:
        self.packed = Packed(folder, split)
        self.transform, self.seed = transform, seed
        self.classes: list[str] = json.loads((Path(folder) / "classes.json").read_text())
        self.labels = torch.from_numpy(self.packed.labels)
        self.pixels = self._decode_all() if self._is_small(in_memory) else None

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
            images (B, 3, S, S) float32, normalised; labels, epoch and index, (B,) int64 each.
        """
        epochs, indices = torch.tensor(samples, dtype=torch.int64).unbind(1)
        if self.pixels is not None:
            images = self.transform.batch(self.pixels[indices], self.seed, epochs, indices)
        else:
            images = torch.stack([self._read(*sample) for sample in samples])
        return {"images": images, "labels": self.labels[indices], "epoch": epochs, "index": indices}

    def _read(self, epoch: int, index: int) -> Tensor:
        try:
            image = decode(self.packed.read(index))
        except ValueError as error:
            key = self.packed.keys[index]
            raise ValueError(
                f"{key} of {self.packed.folder} cannot be decoded ({error}); prepare the data again"
            ) from None
        return self.transform.image(image, self.seed, epoch, index)

    def _is_small(self, limit: int) -> bool:
        sizes = self.packed.sizes
        alike = len(sizes) > 0 and bool((sizes == sizes[0]).all()) and sizes[0].min() > 0
        return alike and 3 * int(sizes.astype(np.int64).prod(1).sum()) <= limit

    def _decode_all(self) -> Tensor:
        arrays = [np.asarray(decode(self.packed.read(position))) for position in range(len(self))]
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    """Collate function for sets that make whole batches themselves."""
    return batch
