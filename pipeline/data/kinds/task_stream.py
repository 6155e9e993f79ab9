"""Streams of classification tasks over images: the samples of one task at a time, or of all of them together.

A sample's label is its class's place in its task. B samples of S pixels a side.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.config import ConfigError
from pipeline.data.augment import build_transform
from pipeline.data.images import Images
from pipeline.data.kinds import images
from pipeline.data.streams import order_of, read_stream
from pipeline.data.transforms import CenterCrop, Transform

KEY = "task_stream"  # of a batch: what an encoder is given, (B, 3, S, S)


class TaskSamples(Dataset[dict[str, Tensor]]):
    """Images of some tasks of a stream.

    Args:
        folder: of the prepared set.
        split: `train`, `val` or `test`.
        tasks: their places in the stream; None for all.
        transform: of the images, before their pixels are put into the task's order.
        seed: of the run.

    Raises:
        ConfigError: the stream has no such task.
    """

    unit = "images"

    def __init__(self, folder: Path, split: str, tasks: Sequence[int] | None, transform: Transform, seed: int) -> None:
        files = Path(folder) / "files"
        self.stream = read_stream(files)
        self.images = copy(_opened(files, split))
        self.images.transform, self.images.seed = transform, seed
        chosen = range(len(self.stream)) if tasks is None else tasks
        if max(chosen) >= len(self.stream):
            raise ConfigError(f"task {max(chosen) + 1} is wanted, and the stream {folder} has {len(self.stream)} tasks")
        rows = []
        for task in chosen:
            labels = torch.full((len(self.images.classes),), -1)
            labels[self.stream[task]["classes"]] = torch.arange(len(self.stream[task]["classes"]))
            own = labels[self.images.labels]
            places = (own >= 0).nonzero()[:, 0]
            rows.append(torch.stack([places, own[places], torch.full_like(places, task)]))
        self.places, self.labels, self.tasks = torch.cat(rows, dim=1)
        self.classes = [str(place) for place in range(max(len(task["classes"]) for task in self.stream))]
        pixels = transform.image_size**2
        orders = {task: self.stream[task]["permutation"] for task in chosen}
        self.orders = {
            task: torch.from_numpy(order_of(order, pixels)) for task, order in orders.items() if order is not None
        }

    def __len__(self) -> int:
        return len(self.places)

    def __getitems__(self, samples: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """A batch.

        Args:
            samples: B (epoch, index) pairs.

        Returns:
            task_stream (B, 3, S, S) float32, normalised; labels, task, epoch and index, (B,) int64 each.
        """
        epochs, indices = torch.tensor(samples, dtype=torch.int64).unbind(1)
        places = self.places[indices]
        pixels = self.images.__getitems__(list(zip(epochs.tolist(), places.tolist(), strict=True)))["images"]
        tasks = self.tasks[indices]
        if self.orders:
            orders = torch.stack([self.orders[task] for task in tasks.tolist()])
            mixed = pixels.flatten(2).gather(2, orders[:, None].expand(-1, pixels.shape[1], -1))
            pixels = mixed.view_as(pixels)
        return {KEY: pixels, "labels": self.labels[indices], "task": tasks, "epoch": epochs, "index": indices}


def open_train(folder: Path, settings: Mapping[str, Any], seed: int) -> TaskSamples:
    """Samples of `settings["task"]`, by default the first; of `split`, as they are, where that is not `train`.

    Raises:
        ConfigError: the method was told of another stream.
    """
    task, split, augment = settings.get("task", 0), settings.get("split", "train"), settings["augment"]
    size = augment["image_size"]
    transform = build_transform(augment) if split == "train" else CenterCrop(size, size)
    samples = TaskSamples(folder, split, None if task is None else [task], transform, seed)
    options, found = settings["options"], {"num_tasks": len(samples.stream), "num_classes": len(samples.classes)}
    for name, value in found.items():
        if options.get(name, value) != value:
            raise ConfigError(f"options.{name} is {options[name]}, and the stream {folder} has {value}; set it to that")
    return samples


def first_of_each(folder: Path, settings: Mapping[str, Any], seed: int, num: int) -> dict[str, Tensor]:
    """A batch of the first validation image of each class of the first task, of `num` classes at most."""
    samples = open_train(folder, {**settings, "task": 0, "split": "val"}, seed)
    firsts = [int((samples.labels == label).nonzero()[0, 0]) for label in samples.labels.unique()[:num]]
    return samples.__getitems__([(0, index) for index in firsts])


def example(settings: Mapping[str, Any], batch_size: int) -> dict[str, Tensor]:
    """A batch of one task as `open_train` makes it, of noise, always the same."""
    batch = images.example(settings, batch_size)
    labels, task = batch["index"] % settings["options"]["num_classes"], settings.get("task") or 0
    return {KEY: batch["images"], "labels": labels, "task": torch.full_like(labels, task),
            "epoch": batch["epoch"], "index": batch["index"]}  # fmt: skip


def montage(rows: Mapping[str, Tensor], least: int = 64, gap: int = 4) -> Image.Image:
    """Rows of (B, 3, S, S) normalised images as one picture."""
    return images.montage(rows, least, gap)


@lru_cache(maxsize=3)
def _opened(files: Path, split: str) -> Images:
    """The images of all tasks, which the phases of a run open again and again, with a transform to be replaced."""
    return Images(files, split, CenterCrop(1, 1), 0)
