"""Labelled texts as numbers: the words around and in a mention, or the first ones of a document, and which labels hold.

B texts, C tokens of context on either side, M of the mention (or of the whole document, where C is 0), T = 2 C + M,
N labels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.config import ConfigError, models
from pipeline.data.draws import uniform
from pipeline.data.packed import read_json
from pipeline.data.texts import PADDING, UNKNOWN, read_labels, read_split

KEY = "text"  # of a batch: what an encoder is given, (B, 2, T)
HELD_OUT = 9  # stream of draws, beside those of `pipeline.data.draws`, of videos and of captions
LEFT, MENTION, RIGHT = 1, 2, 3  # roles of tokens; 0 where there is none


class Texts(Dataset[dict[str, Tensor]]):
    """Texts of one split.

    Args:
        folder: of the prepared set.
        split: `train`, `val` or `test`.
        window: `context`, C, and `length`, M.
        held_out: whether each text brings one of the validation split, drawn by `seed`, epoch and index.
        seed: of the run.
    """

    unit = "texts"

    def __init__(
        self, folder: Path, split: str, window: Mapping[str, int], held_out: bool = False, seed: int = 0
    ) -> None:
        files = Path(folder) / "files"
        self.arrays, self.space = read_split(files, split), read_labels(files)
        self.classes, self.seed = self.space.names, seed
        self.context, self.length = window["context"], window["length"]
        self.others = Texts(folder, "val", window) if held_out else None

    def __len__(self) -> int:
        return len(self.arrays.spans)

    def __getitem__(self, sample: tuple[int, int]) -> dict[str, Tensor]:
        """One text: as a batch, without its first dimension."""
        return {name: values[0] for name, values in self.__getitems__([sample]).items()}

    def __getitems__(self, samples: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """A batch.

        Args:
            samples: B (epoch, index) pairs.

        Returns:
            text (B, 2, T) int64, word ids and their roles; targets (B, N) float32, 1 where a label holds; epoch and
            index (B,) int64; held_text and held_targets alike where they are wanted.
        """
        epochs, indices = torch.tensor(samples, dtype=torch.int64).unbind(1)
        batch = {**self._read(indices.tolist()), "epoch": epochs, "index": indices}
        if self.others is not None:
            places = (uniform(self.seed, epochs, indices, 1, HELD_OUT)[:, 0].double() * len(self.others)).long()
            batch |= {f"held_{name}": values for name, values in self.others._read(places.tolist()).items()}
        return batch

    def _read(self, indices: Sequence[int]) -> dict[str, Tensor]:
        text = np.full((len(indices), 2, 2 * self.context + self.length), PADDING, np.int64)
        targets = np.zeros((len(indices), len(self.classes)), np.float32)
        for row, index in enumerate(indices):
            text[row] = self._window(index)
            first = self.arrays.label_ends[index - 1] if index else 0
            targets[row, self.arrays.labels[first : self.arrays.label_ends[index]]] = 1
        return {"text": torch.from_numpy(text), "targets": torch.from_numpy(targets)}

    def _window(self, index: int) -> np.ndarray:
        """(2, T): the left context ends, mention and right context begin, at fixed places."""
        found = np.zeros((2, 2 * self.context + self.length), np.int64)
        first = int(self.arrays.word_ends[index - 1]) if index else 0
        words = self.arrays.words[first : self.arrays.word_ends[index]]
        start, end = self.arrays.spans[index].tolist()
        if end == 0:
            start, end = 0, len(words)
        left = words[max(0, start - self.context) : start]
        mention, right = words[start:end][: self.length], words[end : end + self.context]
        for part, place, role in (
            (left, self.context - len(left), LEFT),
            (mention, self.context, MENTION),
            (right, self.context + self.length, RIGHT),
        ):
            found[:, place : place + len(part)] = part, np.full(len(part), role)
        return found


def open_train(folder: Path, settings: Mapping[str, Any], seed: int) -> Texts:
    """The texts as a recipe sees them: its `text`, and of these `held_out`; `split` says which, if not the training.

    Raises:
        ConfigError: the encoder has no room for the vocabulary.
    """
    text, room = settings["text"], models()[settings["model"]].get("num_words", 0)
    words = len(read_json(Path(folder) / "files" / "words.json", list)) + UNKNOWN + 1
    if words > room:
        raise ConfigError(f"the vocabulary of {folder} has {words:,} words, and {settings['model']} has room for "
                          f"{room:,}; lower vocabulary_size of the set, or choose another model")  # fmt: skip
    return Texts(folder, settings.get("split", "train"), text, text.get("held_out", False), seed)


def open_eval(folder: Path, split: str, settings: Mapping[str, Any]) -> Texts:
    """A split as a protocol sees it."""
    return Texts(folder, split, settings["text"])


def first_of_each(folder: Path, settings: Mapping[str, Any], seed: int, num: int) -> dict[str, Tensor]:
    """A batch of the first validation texts."""
    texts = Texts(folder, "val", settings["text"], settings["text"].get("held_out", False), seed)
    return texts.__getitems__([(0, index) for index in range(min(num, len(texts)))])


def example(settings: Mapping[str, Any], batch_size: int) -> dict[str, Tensor]:
    """A batch as `open_train` makes it, of noise, always the same, with four labels; one text is as short as can be."""
    generator = torch.Generator().manual_seed(3)
    context, length = settings["text"]["context"], settings["text"]["length"]
    roles = torch.tensor(context * [LEFT] + length * [MENTION] + context * [RIGHT]).repeat(batch_size, 1)
    roles[0, torch.arange(roles.shape[1]) != context] = PADDING
    words = torch.randint(2, 40, roles.shape, generator=generator).masked_fill(roles == PADDING, PADDING)
    text, places = torch.stack([words, roles], dim=1), torch.arange(batch_size)
    targets = (torch.rand(batch_size, 4, generator=generator) < 0.3).float()
    held = {"held_text": text.flip(0), "held_targets": targets.flip(0)}
    return {"text": text, "targets": targets, **held, "epoch": torch.zeros_like(places), "index": places}
