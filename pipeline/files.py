"""Files that appear whole or not at all: written aside, brought to the disk, renamed.

Whatever is written aside has a name that begins with a dot, so that what a kill leaves can be told and swept.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, with its suffix; the file takes its place when the block ends well."""
    pending = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        yield pending
        fsync(pending)
        pending.replace(path)
    finally:
        pending.unlink(missing_ok=True)
    fsync(path.parent)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that it is either the old one or the whole new one, whatever happens meanwhile."""
    with written(path) as pending:
        pending.write_bytes(content.encode() if isinstance(content, str) else content)


def sweep(folder: Path) -> None:
    """Remove what a kill left half-written anywhere in a folder that nobody else is writing to."""
    for path in sorted(folder.rglob(".*")):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def drop(folder: Path) -> None:
    """Remove a folder in one step: it is whole until it is gone, and what a kill leaves of it has a swept name."""
    gone = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(gone, ignore_errors=True)
    if folder.exists():
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def fsync(path: Path) -> None:
    """Have the system write a file's content, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
