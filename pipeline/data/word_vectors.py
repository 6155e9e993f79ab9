"""Frozen vectors of words: what texts are given as to a network that learns no words of its own.

Beside the packs of texts stands `vectors.npy`, (N, W) float32, a row for each word id; that of padding is 0.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import ConfigError
from pipeline.data.outside import open_file
from pipeline.data.packed import read_json
from pipeline.data.texts import PADDING, UNKNOWN

NAME = "vectors.npy"
MOST_BYTES = 2**36  # of a file of vectors
FORMAT = "Expected: lines of a word and its numbers, by spaces, as GloVe and FastText (.vec) have them, unpacked"


def write_vectors(files: Path, path: str | None, width: int, seed: int) -> dict[str, Any]:
    """Writes the vectors of a vocabulary.

    Args:
        files: holds the vocabulary, `words.json`, and gets the vectors.
        path: of the file they are taken from, which leaves words that it lacks at 0; None: standard normal ones.
        width: W.
        seed: of what is drawn.

    Returns:
        For the manifest: `width`, `file` and how many `words` of the vocabulary it has.

    Raises:
        ConfigError: the file cannot be read, has vectors of another width, or has none of the words.
    """
    words = read_json(files / "words.json", list)
    table = np.zeros((len(words) + UNKNOWN + 1, width), np.float32)
    if path is None:
        table[PADDING + 1 :] = np.random.default_rng([seed, 1]).standard_normal(table[PADDING + 1 :].shape, np.float32)
        found = len(words)
    else:
        found = _fill(table, words, path)
    np.save(files / NAME, table)
    return {"width": width, "file": path, "words": found}


def read_vectors(files: Path) -> np.ndarray:
    """The vectors of a prepared set, (N, W), mapped rather than read.

    Raises:
        ConfigError: they are damaged, or do not fit the vocabulary.
    """
    path, rows = files / NAME, len(read_json(files / "words.json", list)) + UNKNOWN + 1
    try:
        table: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"{path} is damaged ({error}); prepare the data again") from None
    if table.ndim != 2 or len(table) != rows or table.dtype != np.float32:
        raise ConfigError(f"{path} is {table.dtype} of {table.shape}; expected float32 of ({rows}, width); prepare the "
                          "data again")  # fmt: skip
    return table


def _fill(table: np.ndarray, words: Sequence[str], name: str) -> int:
    """Takes the vectors of words from a file; of a word that is there twice, the first."""
    wanted = {word.encode(): place for place, word in enumerate(words, UNKNOWN + 1)}
    path = Path(name).expanduser().resolve()
    try:
        with open_file(path.parent, path, MOST_BYTES) as file:
            for number, line in enumerate(file, 1):
                word, _, numbers = line.partition(b" ")
                if number == 1 and numbers.strip().isdigit():  # FastText's first line: how many, and their width
                    continue
                place = wanted.pop(word, None)
                if place is not None:
                    table[place] = _vector(numbers, f"vectors is {name!r}, line {number}", table.shape[1])
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"vectors is {name!r}, which cannot be read ({reason}). {FORMAT}") from None
    if len(wanted) == len(words):
        raise ConfigError(
            f"vectors is {name!r}, which has none of the {len(words):,} words, such as {words[:5]}. {FORMAT}"
        )
    return len(words) - len(wanted)


def _vector(numbers: bytes, where: str, width: int) -> np.ndarray:
    try:
        vector = np.array(numbers.split(), np.float32)
    except ValueError:
        vector = np.full(width, np.nan, np.float32)
    if len(vector) != width:
        raise ConfigError(
            f"{where}, has {len(vector)} numbers; expected vector_width, {width}; set it to that. {FORMAT}"
        )
    if not np.isfinite(vector).all():
        raise ConfigError(f"{where}, has what is no number: {numbers[:40]!r}. {FORMAT}")
    return vector
