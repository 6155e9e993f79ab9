"""Labelled texts: mentions within sentences, and documents; how sources pack them, and what is read back.

Each split has a pack of one JSON object a text, and beside it, once all are packed, the same as arrays of numbers.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from pipeline.config import ConfigError
from pipeline.data.inspection import Findings, look_at
from pipeline.data.official import journal_of
from pipeline.data.packed import Packed, PackWriter, read_arrays, read_json

SPLITS = ("train", "val", "test")
PADDING, UNKNOWN = 0, 1  # ids that are no word's
_SHOWN = 20  # names in a manifest
Item = TypeVar("Item")


class Text(NamedTuple):
    """One text: its tokens, the first and last of its mention (the last excluded; 0, 0 of documents), its labels."""

    tokens: list[str]
    start: int
    end: int
    labels: list[str]

    def check(self) -> "Text":
        """Itself.

        Raises:
            ValueError: there is no token, one is no text in UTF-8, or there is no label.
        """
        if not self.tokens:
            raise ValueError("no tokens")
        if not self.labels:
            raise ValueError("no type or topic")
        try:
            "".join([*self.tokens, *self.labels]).encode()
        except UnicodeEncodeError:
            raise ValueError("no text in UTF-8") from None
        return self


@dataclass(frozen=True)
class Labels:
    """The label space: names in order, depth of each (1 at the top), and how many training texts have it."""

    names: list[str]
    depths: np.ndarray
    counts: np.ndarray


class Splits(NamedTuple):
    """A split as arrays: word ids and labels one after the other, with where each text's end; (n, 2) mentions."""

    words: np.ndarray
    word_ends: np.ndarray
    spans: np.ndarray
    labels: np.ndarray
    label_ends: np.ndarray


def decode(data: bytes, encoding: str = "utf-8") -> str:
    """Bytes of others as text.

    Raises:
        ValueError: they are in another encoding.
    """
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"no text in {encoding.upper()} ({error.reason} at byte {error.start})") from None


def pack(
    split: str,
    items: Sequence[Item],
    name: Callable[[Item], str],
    look: Callable[[Item], tuple[Text, list[str]]],
    findings: Findings,
    options: Any,
    work: Path,
    files: Path,
) -> None:
    """Packs a split; `look` makes of an item a text and notes on it, or raises ValueError or OSError to reject it.

    Raises:
        ConfigError: none was accepted.
    """
    with PackWriter(files, split, options.shard_mib * 2**20) as writer:
        for item, (text, _) in look_at(
            items,
            name=name,
            look=look,
            notes=lambda seen: seen[1],
            findings=findings,
            num_workers=options.num_workers,
            what=f"packing {split}",
            packs=(writer,),
            journal=journal_of(work, split),
        ):
            writer.add(name(item), json.dumps(text._asdict()).encode())
        if not len(writer):
            first = findings.rejects[-1] if findings.rejects else {"file": options.root, "reason": "it is empty"}
            raise ConfigError(f"{split} has no text that can be used: {first['file']}: {first['reason']}")


def finish(files: Path, vocabulary_size: int, depths: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Writes vocabulary, label space and arrays of what was packed.

    Args:
        files: holds the packs.
        vocabulary_size: ids there are at most, padding and the unknown word among them; the most frequent words of the
            training texts have one.
        depths: of all labels there are; None where they are paths such as `/person/artist`, and those of the texts.

    Returns:
        For the manifest: `splits`, `classes`, and `unseen`: what of val and test no training text has.
    """
    texts = {split: [Text(**json.loads(text)) for text in _all(Packed(files, split))] for split in SPLITS}
    counted = Counter(word for text in texts["train"] for word in text.tokens)
    known = sorted(counted, key=lambda word: (-counted[word], word))[: vocabulary_size - 2]
    words = {word: number for number, word in enumerate(known, UNKNOWN + 1)}
    seen = Counter(label for text in texts["train"] for label in text.labels)
    used = {label for split in SPLITS for text in texts[split] for label in text.labels}
    names = sorted(used if depths is None else depths)
    places = {label: place for place, label in enumerate(names)}
    for split in SPLITS:
        np.savez(files / f"{split}.texts.npz", **_arrays(texts[split], words, places)._asdict())
    sets = {frozenset(text.labels) for text in texts["train"]}
    table = [
        {"name": label, "depth": label.count("/") if depths is None else depths[label], "count": seen[label]}
        for label in names
    ]
    (files / "words.json").write_text(json.dumps(known))
    (files / "labels.json").write_text(json.dumps(table))
    absent = sorted(used - set(seen))
    return {
        "splits": {split: {"count": len(texts[split])} for split in SPLITS},
        "classes": names,
        "vocabulary": {"size": len(known) + 2, "words": len(counted)},
        "unseen": {
            "labels": {"count": len(absent), "first": absent[:_SHOWN]},
            "sets": {split: sum(frozenset(text.labels) not in sets for text in texts[split]) for split in SPLITS[1:]},
        },
    }


def read_split(files: Path, split: str) -> Splits:
    """The arrays of a split.

    Raises:
        ConfigError: they are damaged, or do not fit the vocabulary and labels beside them.
    """
    path = files / f"{split}.texts.npz"
    found = Splits(**read_arrays(path, Splits._fields))
    count, words, labels = (
        len(found.spans),
        len(read_json(files / "words.json", list)) + 2,
        len(read_labels(files).names),
    )
    fits = all(
        ends.shape == (count,)
        and bool((np.diff(ends, prepend=0) > 0).all())
        and len(flat) == (ends[-1] if count else 0)
        for flat, ends in ((found.words, found.word_ends), (found.labels, found.label_ends))
    )
    for flat, most in ((found.words, words), (found.labels, labels)):
        fits = fits and flat.dtype == np.int32 and bool(((flat >= 0) & (flat < most)).all())
    lengths = np.diff(found.word_ends, prepend=0) if fits else np.zeros(0)
    if not fits or not (found.spans[:, 0] >= 0).all() or not (found.spans[:, 1] <= lengths).all():
        raise ConfigError(f"{path} does not fit the vocabulary and labels beside it; prepare the data again")
    return found


def read_labels(files: Path) -> Labels:
    """The label space of a prepared set.

    Raises:
        ConfigError: its file is damaged.
    """
    path = files / "labels.json"
    table = read_json(path, list)
    try:
        names, depths, counts = ([entry[key] for entry in table] for key in ("name", "depth", "count"))
        return Labels([str(name) for name in names], np.array(depths, np.int64), np.array(counts, np.int64))
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ConfigError(f"{path} is damaged ({error!r}); prepare the data again") from None


def _all(packed: Packed) -> Iterable[bytes]:
    return (packed.read(place) for place in range(len(packed)))


def _arrays(texts: list[Text], words: Mapping[str, int], places: Mapping[str, int]) -> Splits:
    return Splits(
        words=np.array([words.get(word, UNKNOWN) for text in texts for word in text.tokens], np.int32),
        word_ends=np.cumsum([len(text.tokens) for text in texts], dtype=np.int64),
        spans=np.array([(text.start, text.end) for text in texts], np.int32).reshape(-1, 2),
        labels=np.array([places[label] for text in texts for label in text.labels], np.int32),
        label_ends=np.cumsum([len(text.labels) for text in texts], dtype=np.int64),
    )
