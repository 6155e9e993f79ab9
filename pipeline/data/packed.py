"""Packed files: many small files as a few large ones with an index, read at random through memory maps.

A split `train` in a folder is `train-00000.bin`, `train-00001.bin`, ... (the files' own bytes, one after the
other) and `train.index.npz` (key, label, pixel size, shard, offset and length of each). The index is written
last, so a split either is there as a whole or is not there.
"""

import json
import mmap
import os
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from pipeline.config import ConfigError

_FIELDS = {
    "label": np.int64,
    "height": np.int32,
    "width": np.int32,
    "shard": np.int32,
    "offset": np.int64,
    "length": np.int64,
}
_AGAIN = "Copy or prepare it again"
Row = list[Any]  # of the index: the key, then the fields above


class PackWriter:
    """Writes one split; use it in a `with` block. Without the index, written when the block ends well, it is no split.

    Args:
        folder: where the split goes; made if needed.
        split: its name.
        shard_bytes: a shard is closed once it is this large.
    """

    def __init__(self, folder: Path, split: str, shard_bytes: int) -> None:
        self.folder, self.split, self.shard_bytes = Path(folder), split, shard_bytes
        self._keys: list[str] = []
        self._rows: dict[str, list[int]] = {name: [] for name in _FIELDS}
        self._safe = 0  # files that the last checkpoint covers
        self._num_shards = 0
        self._file: Any = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def labels(self) -> list[int]:
        """Of the files so far."""
        return self._rows["label"]

    def add(self, key: str, data: bytes, *, label: int = -1, height: int = 0, width: int = 0) -> None:
        """Appends one file. Its height and width in pixels (0: unknown) let readers plan without decoding."""
        if "\n" in key:
            raise ValueError(f"key {key!r} holds a line break; expected a file name")
        if self._file is None or self._file.tell() >= self.shard_bytes:
            self._next_shard()
        self._note(key, (label, height, width, self._num_shards - 1, self._file.tell(), len(data)))
        self._file.write(data)

    def checkpoint(self) -> list[Row]:
        """Brings all files to disk; returns the rows of those since the last call, for `restore`."""
        if self._file is not None:
            _sync(self._file)
        columns = (self._keys, *self._rows.values())
        rows = [list(row) for row in zip(*(column[self._safe :] for column in columns), strict=True)]
        self._safe = len(self)
        return rows

    def holds(self, rows: Sequence[Row]) -> bool:
        """Whether the shards on disk reach as far as these rows say."""
        ends = {row[-3]: row[-2] + row[-1] for row in rows}  # the last of each shard
        paths = {shard: self.folder / _shard_name(self.split, shard) for shard in ends}
        return all(path.is_file() and path.stat().st_size >= ends[shard] for shard, path in paths.items())

    def restore(self, rows: Sequence[Row]) -> None:
        """Goes on after these rows of an attempt that was cut off; what the split holds beyond them is removed."""
        self._close_shard()
        (self.folder / f"{self.split}.index.npz").unlink(missing_ok=True)
        self._keys, self._rows, self._safe = [], {name: [] for name in _FIELDS}, len(rows)
        for key, *values in rows:
            self._note(key, values)
        self._num_shards = rows[-1][-3] + 1 if rows else 0
        for path in self.folder.glob(f"{self.split}-{'[0-9]' * 5}.bin"):
            if int(path.stem[-5:]) >= self._num_shards:
                path.unlink()
        if rows:
            self._file = open(self.folder / _shard_name(self.split, self._num_shards - 1), "r+b")
            self._file.truncate(rows[-1][-2] + rows[-1][-1])
            self._file.seek(0, os.SEEK_END)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_shard()
        if kind is not None:
            return
        index = self.folder / f".{self.split}.index.npz"
        keys = np.frombuffer("\n".join(self._keys).encode(), np.uint8)
        columns: dict[str, Any] = {name: np.array(self._rows[name], dtype) for name, dtype in _FIELDS.items()}
        with open(index, "wb") as file:
            np.savez(file, keys=keys, **columns)
            _sync(file)
        os.replace(index, self.folder / f"{self.split}.index.npz")

    def _note(self, key: str, values: Sequence[int]) -> None:
        for name, value in zip(_FIELDS, values, strict=True):
            self._rows[name].append(value)
        self._keys.append(key)

    def _next_shard(self) -> None:
        self._close_shard()
        self._file = open(self.folder / _shard_name(self.split, self._num_shards), "wb")
        self._num_shards += 1

    def _close_shard(self) -> None:
        if self._file is not None:
            _sync(self._file)
            self._file.close()
            self._file = None


class Packed:
    """One split for reading. Safe to share with forked and spawned workers.

    Attributes: `labels` (N,) int64, `sizes` (N, 2) height and width in pixels, 0 if unknown.

    Raises:
        FileNotFoundError: there is no such split; the message names those there are.
        ConfigError: the index is damaged, or a shard is shorter than it says (a copy that was cut off).
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = Path(folder), split
        path = self.folder / f"{split}.index.npz"
        if not path.is_file():
            there = sorted(p.name.removesuffix(".index.npz") for p in self.folder.glob("[!.]*.index.npz"))
            raise FileNotFoundError(
                f"no packed split {split!r} in {self.folder}; available: {', '.join(there) or 'none'}. "
                "Run the prepare stage of this data set first"
            )
        index = read_arrays(path, ("keys", *_FIELDS))
        self.labels, self._shard = index["label"], index["shard"]
        self._offset = index["offset"]
        try:
            index["keys"].tobytes().decode()
            self.sizes = np.stack([index["height"], index["width"]], axis=1)
            num_keys = np.count_nonzero(index["keys"] == ord("\n")) + 1 if len(self.labels) else 0
            columns = [index[name] for name in _FIELDS]
            if any(column.shape != (num_keys,) or column.dtype.kind != "i" for column in columns):
                raise ValueError("its columns are of different lengths")
            if any((index[name] < 0).any() for name in ("height", "width", "shard", "offset", "length")):
                raise ValueError("it has negative places")
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path} is damaged ({error}). {_AGAIN}") from None
        # Half of the bytes, in each process that reads, unless a file has two gibibytes.
        self._length = index["length"].astype(np.int32 if index["length"].max(initial=0) < 2**31 else np.int64)
        self._positions: dict[str, int] = {}
        self._maps: dict[int, mmap.mmap] = {}
        self._check_shards()

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def keys(self) -> list[str]:
        """Names of the files. Read when asked for: 1.28 million take 110 MB, and training asks for none."""
        text = read_arrays(self.folder / f"{self.split}.index.npz", ("keys",))["keys"].tobytes().decode()
        return text.split("\n") if len(self) else []

    def read(self, position: int) -> bytes:
        """The bytes of the file at `position`, as they were packed."""
        shard, offset = int(self._shard[position]), int(self._offset[position])
        if shard not in self._maps:
            with open(self.folder / _shard_name(self.split, shard), "rb") as file:
                self._maps[shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[shard][offset : offset + int(self._length[position])]

    def find(self, key: str) -> int:
        """The position of the file named `key`."""
        if not self._positions:
            self._positions = {name: position for position, name in enumerate(self.keys)}
        if key not in self._positions:
            raise KeyError(f"no file {key!r} among the {len(self)} of split {self.split!r} in {self.folder}")
        return self._positions[key]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}  # a memory map cannot travel; the other process opens its own

    def _check_shards(self) -> None:
        for shard in np.unique(self._shard).tolist():
            mine = self._shard == shard
            wanted = int((self._offset[mine] + self._length[mine]).max())
            path = self.folder / _shard_name(self.split, shard)
            found = path.stat().st_size if path.is_file() else 0
            if found < wanted:
                raise ConfigError(f"{path} holds {found} bytes; its index expects {wanted}. {_AGAIN}")


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays by name of an uncompressed .npz file, which cannot hold more than its size says.

    Raises:
        ConfigError: it is damaged, compressed, or lacks one.
    """
    try:
        with zipfile.ZipFile(path) as file:
            if any(member.compress_type != zipfile.ZIP_STORED for member in file.infolist()):
                raise ValueError("it is compressed")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except Exception as error:  # damaged bytes make the readers raise nearly anything
        told = str(error).split("\n")[0] or type(error).__name__
        raise ConfigError(f"{path} is damaged ({told}). {_AGAIN}") from None


def read_json(path: Path, kind: type) -> Any:
    """What a JSON file beside the packs holds.

    Raises:
        ConfigError: it is damaged, or no `kind`.
    """
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, kind):
            raise ValueError(f"a {type(content).__name__}; expected a {kind.__name__}")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is damaged ({error}). {_AGAIN}") from None
    return content


def _shard_name(split: str, number: int) -> str:
    return f"{split}-{number:05d}.bin"


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
