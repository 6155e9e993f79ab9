"""Copies of prepared data sets on a node's own disk, made where `UNMASK_LOCAL` names a folder there.

Training reads a set at random, over and over; a file system that a whole cluster shares is slow at that, and slow for
everybody then. The first process on a node copies the set from end to end, all others wait and read the copy.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline import manifest
from pipeline.files import drop
from pipeline.manifest import ManifestError

VARIABLE = "UNMASK_LOCAL"


def nearest(folder: Path) -> Path:
    """A published folder, or its verified copy on this node's disk where one is asked for and has room.

    Raises:
        ManifestError: a file of the copy is not what the manifest says, though it was copied just now.
        OSError: the folder that the variable names cannot be written to.
    """
    place = os.environ.get(VARIABLE)
    if not place:
        return folder
    whole = manifest.read(folder / manifest.NAME)
    target = Path(place) / f"{folder.name}-{whole['digest'][:12]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f"{target.name}.lock")):
        if _intact(target, whole):
            return target
        drop(target)
        size, free = sum(artefact["bytes"] for artefact in whole["artefacts"].values()), shutil.disk_usage(place).free
        if size > free:
            print(f"{VARIABLE}: {place} has {free / 2**30:.1f} GiB free and {folder} needs {size / 2**30:.1f}; it is "
                  "read from where it is", flush=True)  # fmt: skip
            return folder
        print(f"{VARIABLE}: copying {folder}, {size / 2**30:.1f} GiB, to {target}", flush=True)
        started = time.monotonic()
        pending = target.with_name(f".{target.name}.tmp")
        shutil.copytree(folder, pending)
        manifest.verify(pending / manifest.NAME)
        pending.rename(target)
        print(f"{VARIABLE}: copied and verified in {time.monotonic() - started:.0f} s", flush=True)
    return target


def _intact(target: Path, whole: Mapping[str, Any]) -> bool:
    """Whether a copy of this very manifest is there whole: systems clean their scratch folders file by file."""
    if not target.exists():
        return False
    try:
        return manifest.verify(target / manifest.NAME) == whole
    except ManifestError as error:
        print(f"{VARIABLE}: {error}; it is copied again", flush=True)
        return False
