"""What the readers of official data sets share: their options, and checks of the folder they get."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import ConfigError
from pipeline.config.types import Count, Fraction, Natural

JOURNALS = "journals"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a study says about a data set that the user keeps.

    root: its folder.
    expect: numbers of `train` and `val` images and of `classes`, checked before images are read; null: none.
    max_reject_share: largest share of its images that may be unusable.
    shard_mib: size of a pack's shards; 0 for one a file.
    num_workers: threads that read and decode; null: one for each CPU of the process.
    """

    root: str | None
    expect: Mapping[str, Natural] | None
    max_reject_share: Fraction
    shard_mib: Natural
    num_workers: Count | None = None


def generated(root: Path) -> Options:
    """How a set that was just written is read: nothing in it may be wrong."""
    return Options(root=str(root), expect=None, max_reject_share=0.0, num_workers=1, shard_mib=1024)


def journal_of(work: Path, split: str) -> Path:
    """Where the packing of a split keeps its journal."""
    return work / JOURNALS / f"{split}.jsonl"


def check_root(root: str | None, key: str, layout: str, needed: Sequence[str]) -> Path:
    """The data set's folder, if what it must hold is there.

    Args:
        root: as configured.
        key: its option, `root`.
        layout: what is expected, and where it is to be had.
        needed: paths below it that must exist and, for folders, not be empty.

    Raises:
        ConfigError: naming what is missing, the key and the layout.
    """
    if root is None:
        raise ConfigError(f"{key} is not set; expected the folder of the data set. {layout}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"{key} is {root!r}, which is not a folder. {layout}")
    top = os.path.realpath(folder)
    for path in needed:
        if os.path.commonpath([top, real := os.path.realpath(folder / path)]) != top:
            raise ConfigError(
                f"{key} is {root!r}, where {path} is a link to {real}; expected all of a data set below its root, "
                f"which may be a link itself. {layout}"
            )
    missing = [path for path in needed if not _holds_something(folder / path)]
    if missing:
        there = sorted(path.name for path in folder.iterdir())
        archives = [path for path in there if path.endswith((".tar", ".zip", ".tar.gz", ".tgz"))]
        hint = f" Unpack the archives ({', '.join(archives[:5])}) there." if archives else ""
        raise ConfigError(
            f"{key} is {root!r}, which lacks {', '.join(missing)}; it holds "
            f"{', '.join(there[:10]) or 'nothing'}.{hint} {layout}"
        )
    return folder


def check_counts(key: str, root: Path, expect: Mapping[str, int] | None, found: Mapping[str, int]) -> None:
    """Compares what was found with what the option `expect` says.

    Raises:
        ConfigError: naming all that differ.
    """
    for name in expect or {}:
        if name not in found:
            raise ConfigError(f"{'expect'} has {name!r}; available: {', '.join(found)}")
    wrong = [
        f"{found[name]:,} {name} (expected {count:,})" for name, count in (expect or {}).items() if found[name] != count
    ]
    if wrong:
        raise ConfigError(
            f"{key} is {str(root)!r}, which holds {', '.join(wrong)}. If it was half-copied, copy it again; "
            f"if it is a subset on purpose, change {'expect'}"
        )


def _holds_something(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else os.path.isfile(path) and os.path.getsize(path) > 0
