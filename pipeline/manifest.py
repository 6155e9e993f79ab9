"""Manifests: small JSON files that name what a stage produced, from what, and how.

A manifest lies beside the `files/` it describes and is written last, so that one that can be read stands for
outputs that are complete. Manifests are the edges of the workflow and the evidence behind every number.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FORMAT = 1
LIMIT = 1_000_000  # bytes; above this Snakemake would compare times instead of contents
LOCK = Path("envs/requirements.lock")


class ManifestError(ValueError):
    """A manifest that is missing, unreadable, or does not describe the files beside it."""


def read(path: str | Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        ManifestError: when it is missing or not of this format.
    """
    path = Path(path)
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise ManifestError(f"{path} is missing; the stage that makes it has not been run") from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path} is not JSON ({error}); delete its folder and run its stage again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise ManifestError(f"{path} has format {found}; expected {FORMAT}: run its stage again")
    if lacking := [key for key in ("digest", "artefacts") if key not in manifest]:
        raise ManifestError(f"{path} lacks {', '.join(lacking)}; delete its folder and run its stage again")
    named = manifest["artefacts"].values() if isinstance(manifest["artefacts"], dict) else [None]
    if not all(isinstance(artefact, dict) and "sha256" in artefact for artefact in named):
        raise ManifestError(f"{path} has artefacts without their sha256; delete its folder and run its stage again")
    return manifest


def verify(path: str | Path) -> dict[str, Any]:
    """Read a manifest and check every file it names against its SHA-256, and its digest against them all.

    Raises:
        ManifestError: naming the first file that is missing or differs.
    """
    path = Path(path)
    manifest = read(path)
    for name, artefact in manifest["artefacts"].items():
        file = path.parent / name
        if not file.is_file():
            raise ManifestError(f"{file} is missing though {path} names it; `dvc pull` or run its stage again")
        if (found := sha256(file)) != artefact["sha256"]:
            expected = artefact["sha256"]
            raise ManifestError(f"{file} has sha256 {found[:12]}…; {path} says {expected[:12]}…: it was changed")
    if manifest["digest"] != _digest(manifest["artefacts"]):
        raise ManifestError(f"{path} has a digest that is not that of its artefacts: it was changed")
    return manifest


def publish(folder: Path, files: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Move a finished `files/` into place beside a manifest that describes it.

    What needs room on the disk comes before anything is moved, so that a full disk leaves everything as it was.
    Then the old manifest goes first and the new one comes last: at no moment does a manifest describe other files.

    Args:
        folder: where `manifest.json` and `files/` are to stand.
        files: the finished folder; it is gone from its place afterwards.
        manifest: everything but `format`, `artefacts` and `digest`, which are computed here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, staging = folder / "manifest.json", folder / ".files.tmp"
    shutil.rmtree(staging, ignore_errors=True)
    artefacts = {}
    for file in sorted(path for path in files.rglob("*") if path.is_file()):
        artefacts[f"files/{file.relative_to(files)}"] = {"sha256": sha256(file), "bytes": file.stat().st_size}
    whole = {
        "format": FORMAT,
        **manifest,
        "artefacts": artefacts,
        "digest": _digest(artefacts),
    }
    try:
        text = json.dumps(whole, indent=1, allow_nan=False) + "\n"
    except ValueError:
        culprits = [key for key, value in whole.items() if not _is_finite(value)]
        raise ManifestError(f"the manifest of {folder} has a number that is not finite under {culprits}; "
                            "expected finite numbers, or null for what could not be measured") from None  # fmt: skip
    if len(text) > LIMIT:
        raise ManifestError(f"the manifest of {folder} has {len(text):,} bytes; expected fewer than {LIMIT:,}: "
                            "write long lists to a file beside it")  # fmt: skip
    with _written(target, text.encode()) as pending:
        shutil.move(files, staging)  # a copy where work/ is on another file system
        for path in staging.rglob("*"):
            fsync(path)
        target.unlink(missing_ok=True)
        shutil.rmtree(folder / "files", ignore_errors=True)
        staging.rename(folder / "files")
        fsync(folder)
        pending.replace(target)
    return whole


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, whatever happens meanwhile."""
    with _written(path, content) as pending:
        pending.replace(path)


@contextmanager
def _written(path: Path, content: bytes) -> Iterator[Path]:
    """A file beside `path` that holds the content on disk, to be renamed."""
    pending = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(pending, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield pending
    finally:
        pending.unlink(missing_ok=True)
    fsync(path.parent)


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


def digest(content: Any) -> str:
    """SHA-256 of anything JSON can say."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest(artefacts: Mapping[str, Mapping[str, Any]]) -> str:
    return digest({name: artefact["sha256"] for name, artefact in artefacts.items()})


def _is_finite(content: Any) -> bool:
    try:
        return bool(json.dumps(content, allow_nan=False))
    except ValueError:
        return False


def provenance(started: datetime) -> dict[str, Any]:
    """Where, when and with which code and packages this process ran."""
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if changes is None else bool(changes),
        "lock_sha256": sha256(LOCK) if LOCK.is_file() else None,
        "host": socket.gethostname(),
        "system": platform.platform(),
        "processor": processor(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("torch", "timm", "onedl-mmengine", "numpy")},
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def processor() -> str:
    """The processor's own name, as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None  # a tree without git, such as an unpacked release, has no commit to name
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
