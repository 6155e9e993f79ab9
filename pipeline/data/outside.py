"""Files that others wrote: opened only where they are regular, within the data set's root and of a size to expect."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from pipeline.config import ConfigError

LIST_BYTES = 2**31  # of a list or of annotations; the largest of COCO has 0.45 GB
_KINDS = {stat.S_IFDIR: "folder", stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device"}


def open_file(root: Path, path: Path, limit: int) -> BinaryIO:
    """A file of a data set for reading; what is no regular file below the root is refused without being opened.

    Args:
        root: of the data set, itself a link or not.
        path: of the file.
        limit: bytes that it may have.

    Raises:
        ValueError: it is a FIFO, a device, a socket or a folder, a link that leaves the root, too large, or its name
            holds what cannot be printed.
        OSError: it is not there or cannot be read.
    """
    real = _within(root, path)
    # Whatever takes the file's place meanwhile is not waited for, and no link is followed any more.
    file = open(os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb")
    try:
        _check(os.fstat(file.fileno()), limit)
    except ValueError:
        file.close()
        raise
    return file


def read_file(root: Path, path: Path, limit: int) -> bytes:
    """The bytes of a file of a data set, opened as `open_file` does."""
    with open_file(root, path, limit) as file:
        return file.read(limit + 1)


def read_list(root: Path, path: Path, layout: str) -> bytes:
    """The bytes of a file that lists or describes a data set.

    Args:
        layout: of the data set, for the message.

    Raises:
        ConfigError: it cannot be read, or `read_file` refuses it.
    """
    try:
        return read_file(root, path, LIST_BYTES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path} cannot be read ({reason}); copy it again. {layout}") from None


def read_text(root: Path, path: Path, layout: str) -> str:
    """The same as text.

    Raises:
        ConfigError: as `read_list`, or it is no UTF-8.
    """
    try:
        return read_list(root, path, layout).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text in UTF-8 ({error.reason} at byte {error.start}). {layout}") from None


def _within(root: Path, path: Path) -> str:
    if not str(path).isprintable():
        raise ValueError("its name holds what cannot be printed")
    real, top = os.path.realpath(path), os.path.realpath(root)
    if os.path.commonpath([real, top]) != top:
        raise ValueError(f"it leads to {real}, out of the data set's folder")
    _check(os.stat(real), None)
    return real


def _check(found: os.stat_result, limit: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"a {_KINDS.get(stat.S_IFMT(found.st_mode), 'thing')}; expected a regular file")
    if limit is not None and found.st_size > limit:
        raise ValueError(f"{found.st_size:,} bytes; expected at most {limit:,}")
