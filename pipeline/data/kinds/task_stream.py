"""Streams of classification tasks over images or texts: the samples of one task at a time, or of all of them together.

A sample's label is its class's place in its task. Which of the two they are is what the prepared set holds; texts come
as the frozen vectors of their words. B samples, of S pixels a side, or of T words in vectors of W.
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

from pipeline.config import ConfigError, models
from pipeline.data.augment import build_transform
from pipeline.data.images import Images
from pipeline.data.kinds import images
from pipeline.data.kinds.text import Texts
from pipeline.data.streams import order_of, read_stream
from pipeline.data.transforms import CenterCrop, Transform
from pipeline.data.word_vectors import NAME, read_vectors

KEY = "task_stream"  # of a batch: what an encoder is given, (B, 3, S, S) or (B, T, W)


class TextVectors(Dataset[dict[str, Tensor]]):
    """Texts of a split as the vectors of their first words, each with its one class.

    Args:
        folder: of the prepared set.
        split: `train`, `val` or `test`.
        length: T.
    """

    unit = "texts"

    def __init__(self, folder: Path, split: str, length: int) -> None:
        self.texts, self.vectors = (
            Texts(folder, split, {"context": 0, "length": length}),
            read_vectors(folder / "files"),
        )
        self.classes, self.labels = self.texts.classes, torch.from_numpy(self.texts.arrays.labels).long()

    def __len__(self) -> int:
        return len(self.texts)

    def __getitems__(self, samples: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """A batch of texts, (B, T, W) float32, 0 where there is no word."""
        words = self.texts.__getitems__(samples)["text"][:, 0]
        return {"texts": torch.from_numpy(self.vectors[words.numpy()])}


class TaskSamples(Dataset[dict[str, Tensor]]):
    """Samples of some tasks of a stream.

    Args:
        folder: of the prepared set.
        everything: samples of all tasks, with `labels` and `classes`.
        tasks: their places in the stream; None for all.
        num_pixels: of an image; None for texts.

    Raises:
        ConfigError: the stream has no such task.
    """

    def __init__(
        self, folder: Path, everything: Images | TextVectors, tasks: Sequence[int] | None, num_pixels: int | None
    ) -> None:
        self.stream, self.everything = read_stream(Path(folder) / "files"), everything
        self.unit = getattr(everything, "unit", "images")
        chosen = range(len(self.stream)) if tasks is None else tasks
        if max(chosen) >= len(self.stream):
            raise ConfigError(f"task {max(chosen) + 1} is wanted, and the stream {folder} has {len(self.stream)} tasks")
        rows = []
        for task in chosen:
            labels = torch.full((len(everything.classes),), -1)
            labels[self.stream[task]["classes"]] = torch.arange(len(self.stream[task]["classes"]))
            own = labels[everything.labels]
            places = (own >= 0).nonzero()[:, 0]
            rows.append(torch.stack([places, own[places], torch.full_like(places, task)]))
        self.places, self.labels, self.tasks = torch.cat(rows, dim=1)
        self.classes = [str(place) for place in range(max(len(task["classes"]) for task in self.stream))]
        orders = {task: self.stream[task]["permutation"] for task in chosen}
        self.orders = {
            task: torch.from_numpy(order_of(order, num_pixels or 0))
            for task, order in orders.items()
            if order is not None
        }

    def __len__(self) -> int:
        return len(self.places)

    def __getitems__(self, samples: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """A batch.

        Args:
            samples: B (epoch, index) pairs.

        Returns:
            task_stream (B, 3, S, S) float32, normalised, or (B, T, W) float32; labels, task, epoch and index, (B,)
            int64 each.
        """
        epochs, indices = torch.tensor(samples, dtype=torch.int64).unbind(1)
        places = self.places[indices]
        found = self.everything.__getitems__(list(zip(epochs.tolist(), places.tolist(), strict=True)))[self.unit]
        tasks = self.tasks[indices]
        if self.orders:
            orders = torch.stack([self.orders[task] for task in tasks.tolist()])
            mixed = found.flatten(2).gather(2, orders[:, None].expand(-1, found.shape[1], -1))
            found = mixed.view_as(found)
        return {KEY: found, "labels": self.labels[indices], "task": tasks, "epoch": epochs, "index": indices}


def open_train(folder: Path, settings: Mapping[str, Any], seed: int) -> TaskSamples:
    """Samples of `settings["task"]`, by default the first; of `split`, as they are, where that is not `train`.

    Raises:
        ConfigError: the method was told of another stream, or its model is for other samples.
    """
    task, split, augment = settings.get("task", 0), settings.get("split", "train"), settings["augment"]
    size, model = augment["image_size"], settings["model"]
    transform = build_transform(augment) if split == "train" else CenterCrop(size, size)
    samples = _open(folder, split, None if task is None else [task], transform, settings["text"]["length"], seed)
    options, found = settings["options"], {"num_tasks": len(samples.stream), "num_classes": len(samples.classes)}
    for name, value in found.items():
        if options.get(name, value) != value:
            raise ConfigError(f"options.{name} is {options[name]}, and the stream {folder} has {value}; set it to that")
    wanted, there = models()[model].get("word_width"), width_of(samples.everything)
    if wanted != there:
        takes, has = (f"words in vectors of {width}" if width else "images" for width in (wanted, there))
        raise ConfigError(f"model is {model}, which takes {takes}, and the stream {folder} has {has}; choose another "
                          "model, or vector_width of the set")  # fmt: skip
    return samples


def open_eval(folder: Path, split: str, settings: Mapping[str, Any]) -> TaskSamples:
    """A split of `settings["task"]` as a protocol sees it."""
    size = settings["image_size"]
    return _open(folder, split, [settings["task"]], CenterCrop(size, size), settings["text"]["length"], 0)


def first_of_each(folder: Path, settings: Mapping[str, Any], seed: int, num: int) -> dict[str, Tensor]:
    """A batch of the first validation image of each class of the first task, of `num` classes at most."""
    samples = open_train(folder, {**settings, "task": 0, "split": "val"}, seed)
    firsts = [int((samples.labels == label).nonzero()[0, 0]) for label in samples.labels.unique()[:num]]
    return samples.__getitems__([(0, index) for index in firsts])


def example(settings: Mapping[str, Any], batch_size: int) -> dict[str, Tensor]:
    """A batch of one task as `open_train` makes it, of noise, always the same."""
    batch, width = images.example(settings, batch_size), models()[settings["model"]].get("word_width")
    samples = batch["images"]
    if width:
        generator = torch.Generator().manual_seed(3)
        samples = torch.randn(batch_size, settings["text"]["length"], width, generator=generator)
    labels, task = batch["index"] % settings["options"]["num_classes"], settings.get("task") or 0
    return {KEY: samples, "labels": labels, "task": torch.full_like(labels, task),
            "epoch": batch["epoch"], "index": batch["index"]}  # fmt: skip


def montage(rows: Mapping[str, Tensor], least: int = 64, gap: int = 4) -> Image.Image:
    """Rows of (B, 3, S, S) normalised images as one picture."""
    return images.montage(rows, least, gap)


def width_of(everything: Images | TextVectors) -> int | None:
    """W of texts; None of images."""
    return everything.vectors.shape[1] if isinstance(everything, TextVectors) else None


def _open(
    folder: Path, split: str, tasks: Sequence[int] | None, transform: Transform, length: int, seed: int
) -> TaskSamples:
    if (Path(folder) / "files" / NAME).exists():
        return TaskSamples(folder, _opened_texts(Path(folder), split, length), tasks, None)
    everything = copy(_opened(Path(folder) / "files", split))
    everything.transform, everything.seed = transform, seed
    return TaskSamples(folder, everything, tasks, transform.image_size**2)


@lru_cache(maxsize=3)
def _opened(files: Path, split: str) -> Images:
    """The images of all tasks, which the phases of a run open again and again, with a transform to be replaced."""
    return Images(files, split, CenterCrop(1, 1), 0)


@lru_cache(maxsize=3)
def _opened_texts(folder: Path, split: str, length: int) -> TextVectors:
    """The same of texts."""
    return TextVectors(folder, split, length)
