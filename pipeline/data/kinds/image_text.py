"""Images with captions, paired or not: images as of the kind `images`, and beside each the tokens of its caption.

What is random is a function of (seed, epoch, index). B samples, T tokens of a caption, U of a text without an image.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.config import ConfigError
from pipeline.data.augment import build_transform
from pipeline.data.draws import uniform
from pipeline.data.images import Images
from pipeline.data.kinds import images
from pipeline.data.packed import Packed
from pipeline.data.tokens import NAME, WordPiece
from pipeline.data.transforms import CenterCrop, Transform

KEY = "images"  # of a batch: what an encoder is given, (B, 3, H, W)
CAPTION, DROP, TEXT = 6, 7, 8  # streams of draws, beside those of `pipeline.data.draws` and of videos
DROPS = ("by_index", "at_random")


class Pairs(Dataset[dict[str, Tensor]]):
    """Images of one split with the tokens of their captions.

    Args:
        folder: of the prepared set.
        split: `train` or `val`.
        transform: of the images.
        text: `length`, T; `unpaired_length`, U, 0 for no texts without images; `caption_share` of the images that keep
            their captions, and `drop`, which do: `by_index`, always the same ones, or `at_random`, others each time.
        seed: of the run.
        vocabulary_size: that the encoder was built for; None for any.

    Raises:
        ConfigError: the vocabulary has another size, texts are wanted and there are none, or `drop` is not known.
    """

    unit = "images"

    def __init__(
        self,
        folder: Path,
        split: str,
        transform: Transform,
        text: Mapping[str, Any],
        seed: int,
        vocabulary_size: int | None = None,
    ) -> None:
        files = Path(folder) / "files"
        self.images, self.captions = Images(files, split, transform, seed), Packed(files, f"{split}-captions")
        self.labels, self.classes = self.images.labels, self.images.classes
        self.text, self.seed, self.words = text, seed, WordPiece(files / NAME)
        self.texts = Packed(files, "texts") if text["unpaired_length"] else None
        if vocabulary_size not in (None, len(self.words)):
            raise ConfigError(
                f"vocabulary_size is {vocabulary_size}, and that of {folder} has {len(self.words)} tokens; set "
                "options.vocabulary_size to it, or prepare the data with the vocabulary of the checkpoint"
            )
        if text["drop"] not in DROPS:
            raise ConfigError(f"text.drop is {text['drop']!r}; available: {list(DROPS)}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, sample: tuple[int, int]) -> dict[str, Tensor]:
        """One sample: as a batch, without its first dimension."""
        return {name: values[0] for name, values in self.__getitems__([sample]).items()}

    def __getitems__(self, samples: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """A batch.

        Args:
            samples: B (epoch, index) pairs.

        Returns:
            What `Images` gives; ids (B, T) int64 and padding (B, T) bool, True where there is no token; text_ids and
            text_padding, (B, U) each, of texts without images where they are wanted.
        """
        batch = self.images.__getitems__(samples)
        epochs, indices = batch["epoch"], batch["index"]
        said = [self._caption(*sample) for sample in zip(epochs.tolist(), indices.tolist(), strict=True)]
        batch["ids"], batch["padding"] = self._encode(said, self.text["length"])
        if self.texts is not None:
            places = (uniform(self.seed, epochs, indices, 1, TEXT)[:, 0].double() * len(self.texts)).long()
            lines = [self.texts.read(place).decode() for place in places.tolist()]
            batch["text_ids"], batch["text_padding"] = self._encode(lines, self.text["unpaired_length"])
        return batch

    def spoken(self, index: int) -> list[str]:
        """All captions of an image."""
        return json.loads(self.captions.read(index))

    def _caption(self, epoch: int, index: int) -> str:
        """One of an image's captions, drawn anew in each epoch, or the empty one."""
        captions = self.spoken(index)
        if not captions or self._dropped(epoch, index):
            return ""
        share = float(uniform(self.seed, torch.tensor([epoch]), torch.tensor([index]), 1, CAPTION))
        return captions[int(share * len(captions))] if len(captions) > 1 else captions[0]

    def _dropped(self, epoch: int, index: int) -> bool:
        kept = self.text["caption_share"]
        if self.text["drop"] == "by_index":
            return index % 100 >= round(100 * kept)
        return float(uniform(self.seed, torch.tensor([epoch]), torch.tensor([index]), 1, DROP)) >= kept

    def _encode(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        ids, padding = self.words.encode(texts, length)
        return torch.from_numpy(ids), torch.from_numpy(padding)


ANY = {"length": 1, "unpaired_length": 0, "caption_share": 1.0, "drop": "by_index"}  # of recipes that read no text


def open_train(folder: Path, settings: Mapping[str, Any], seed: int) -> Pairs:
    """The training split as a recipe sees it: its `augment` and `text`."""
    pairs = _open(folder, "train", build_transform(settings["augment"]), settings, seed)
    pairs.images.raw = True
    return pairs


def open_eval(folder: Path, split: str, settings: Mapping[str, Any], vocabulary_size: int | None = None) -> Pairs:
    """A split as a protocol sees it: the centre of the images, and of each the first `length` tokens of a caption."""
    transform = CenterCrop(settings["image_size"], settings["resize"])
    return Pairs(folder, split, transform, {**ANY, "length": settings["length"]}, 0, vocabulary_size)


def first_of_each(folder: Path, settings: Mapping[str, Any], seed: int, num: int) -> dict[str, Tensor]:
    """A batch of the first validation image of each class, or of the first ones where there are no classes."""
    size = settings["augment"]["image_size"]
    pairs = _open(folder, "val", CenterCrop(size, size), settings, seed)
    firsts = [int((pairs.labels == label).nonzero()[0, 0]) for label in pairs.labels.unique()[:num]]
    return pairs.__getitems__([(0, index) for index in (firsts if pairs.classes else range(min(num, len(pairs))))])


def example(settings: Mapping[str, Any], batch_size: int) -> dict[str, Tensor]:
    """A batch as `open_train` makes it, of noise, always the same: full, short and missing captions."""
    generator = torch.Generator().manual_seed(2)
    batch, text = images.example(settings, batch_size), settings["text"]
    for name, length in (("", text["length"]), ("text_", text["unpaired_length"])):
        if length:
            size = settings["options"]["vocabulary_size"]
            words = torch.randint(length + 1, (batch_size, 1), generator=generator)
            words[:2, 0] = torch.tensor([length, 0])
            padding = torch.arange(length) >= words
            ids = torch.randint(5, size, (batch_size, length), generator=generator).masked_fill(padding, 0)
            batch |= {f"{name}ids": ids, f"{name}padding": padding}
    return batch


def montage(rows: Mapping[str, Tensor], least: int = 64, gap: int = 4) -> Image.Image:
    """Rows of (B, 3, H, W) normalised images as one picture."""
    return images.montage(rows, least, gap)


def _open(folder: Path, split: str, transform: Transform, settings: Mapping[str, Any], seed: int) -> Pairs:
    size = settings["options"].get("vocabulary_size")
    return Pairs(folder, split, transform, settings.get("text", ANY), seed, size)
