"""Manifests: small JSON files that name what a stage produced, from what, and how.

A manifest lies beside the `files/` it describes and is written last, so that one that can be read stands for
outputs that are complete. Manifests are the edges of the workflow and the evidence behind every number.
"""

from __future__ import annotations

import errno
import hashlib
import json
import platform
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.files import drop, fsync, sha256, sweep, write_atomic

FORMAT = 1
NAME = "manifest.json"
VERIFIED = ".verified.json"  # beside it: a copy, and how each file was when it was last found to be what it says
WEIGHTS = (".safetensors", ".pt")
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
    return _checked(manifest, path)


def verify(path: str | Path, *, weights: bool = True) -> dict[str, Any]:
    """Read a manifest and check every file it names, and its digest against them all.

    A file of which size and times are those at which it last had its SHA-256 is not read again, unless it holds
    weights: those are few and decide every number.

    Args:
        path: of the manifest.
        weights: whether weights are read whatever their times.

    Raises:
        ManifestError: naming the first file that is missing or differs.
    """
    path = Path(path)
    manifest = read(path)
    known, seen = _last_verified(path.parent), {}
    for name, artefact in manifest["artefacts"].items():
        file, expected = path.parent / name, artefact["sha256"]
        if not file.is_file():
            raise ManifestError(f"{file} is missing though {path} names it; `dvc pull` or run its stage again")
        state = file.stat()
        seen[name] = [expected, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        if state.st_size != artefact["bytes"]:
            raise ManifestError(f"{file} has {state.st_size} bytes; {path} says {artefact['bytes']}: it was cut off "
                                "or changed; `dvc checkout` or run its stage again")  # fmt: skip
        if known.get(name) == seen[name] and not (weights and file.suffix in WEIGHTS):
            continue
        if (found := sha256(file)) != expected:
            raise ManifestError(f"{file} has sha256 {found[:12]}…; {path} says {expected[:12]}…: it was changed; "
                                "`dvc checkout` or run its stage again")  # fmt: skip
    if manifest["digest"] != _digest(manifest["artefacts"]):
        raise ManifestError(f"{path} has a digest that is not that of its artefacts: it was changed")
    if known != seen:
        with suppress(OSError):  # as in a folder that is only read from
            for left in path.parent.glob(f".{Path(VERIFIED).stem}.*"):  # by a reader that was killed
                left.unlink()
            write_atomic(path.with_name(VERIFIED), json.dumps({"manifest": manifest, "files": seen}))
    return manifest


def publish(folder: Path, files: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Move a finished `files/` into place beside a manifest that describes it.

    The manifest is written beside `files` first. From then on the result counts as finished: whatever happens, `finish`
    brings it into place, and nothing of it is made again.

    Args:
        folder: where `manifest.json` and `files/` are to stand.
        files: the finished folder, called so, alone in a work directory; it is gone from its place afterwards.
        manifest: everything but `format`, `artefacts`, `digest` and `seal`, which are computed here.
    """
    sweep(files)
    artefacts = {}
    for file in sorted(path for path in files.rglob("*") if path.is_file()):
        artefacts[f"files/{file.relative_to(files)}"] = {"sha256": sha256(file), "bytes": file.stat().st_size}
    whole = {"format": FORMAT, **manifest, "artefacts": artefacts, "digest": _digest(artefacts)}
    try:
        whole["seal"] = digest(json.loads(json.dumps(whole, allow_nan=False)))
    except ValueError:
        culprits = [key for key, value in whole.items() if not _is_finite(value)]
        raise ManifestError(f"the manifest of {folder} has a number that is not finite under {culprits}; "
                            "expected finite numbers, or null for what could not be measured") from None  # fmt: skip
    text = _text(whole)
    if len(text) > LIMIT:
        raise ManifestError(f"the manifest of {folder} has {len(text):,} bytes; expected fewer than {LIMIT:,}: "
                            "write long lists to a file beside it")  # fmt: skip
    for path in (*files.rglob("*"), files):
        fsync(path)
    write_atomic(files.with_name(NAME), text)
    if not finish(folder, files.parent):
        raise ManifestError(
            f"{files} was not published to {folder}; expected a folder called `files` that stays as it is"
        )
    return whole


def finish(folder: Path, work: Path) -> bool:
    """Bring into place what was published in a work directory, wherever it was interrupted; says whether it is there.

    Each step can be taken again. No manifest describes other files at any moment: what stands in the folder loses its
    manifest before its files are replaced, and the new manifest comes last.

    Returns:
        False where nothing was published in `work`, or where what was is gone.
    """
    if not (work / NAME).is_file():
        return False
    whole = read(work / NAME)
    staging = folder / f".files.{whole['digest'][:12]}"  # appears whole, by renaming, and can be no other result's
    folder.mkdir(parents=True, exist_ok=True)
    if not staging.exists() and not _describes(whole, folder):
        if not _describes(whole, work):
            return False
        _move(work / "files", staging)
    if staging.exists():
        (folder / NAME).unlink(missing_ok=True)
        (folder / VERIFIED).unlink(missing_ok=True)
        drop(folder / "files")
        staging.rename(folder / "files")
        fsync(folder)
    keep(folder, whole)
    for path in folder.glob(".*"):
        if path.name != VERIFIED:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    shutil.rmtree(work / "files", ignore_errors=True)  # where it was copied, or is what was there already
    return True


def keep(folder: Path, whole: Mapping[str, Any]) -> None:
    """Write a manifest beside its files, and a copy that no workflow tool knows of and so none removes."""
    states = {name: (folder / name).stat() for name in whole["artefacts"]}
    seen = {
        name: [whole["artefacts"][name]["sha256"], state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        for name, state in states.items()
    }
    write_atomic(folder / VERIFIED, json.dumps({"manifest": whole, "files": seen}))
    write_atomic(folder / NAME, _text(whole))


def restore(folder: Path, key: str) -> bool:
    """Whether a folder holds the result of a work, whole; its manifest comes back where a workflow tool removed it."""
    whole = _kept(folder)
    if whole is None or whole.get("key") != key or not (folder / "files").is_dir():  # DVC removes what it makes again
        return False
    if not (folder / NAME).exists() or (folder / NAME).read_bytes() != _text(whole):
        write_atomic(folder / NAME, _text(whole))
    try:
        verify(folder / NAME)
    except ManifestError as error:
        print(f"warning: {error}", flush=True)
        return False
    return True


def _kept(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder, or else its copy; None where there is neither."""
    with suppress(ManifestError):
        return read(folder / NAME)
    with suppress(OSError, ValueError, KeyError, TypeError):
        return _checked(json.loads((folder / VERIFIED).read_text())["manifest"], folder / VERIFIED)
    return None


def _text(whole: Mapping[str, Any]) -> bytes:
    return (json.dumps(whole, indent=1) + "\n").encode()


def _checked(manifest: Any, path: Path) -> dict[str, Any]:
    """A manifest as it was read, if it is one and as it was written."""
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise ManifestError(f"{path} has format {found}; expected {FORMAT}: run its stage again")
    if lacking := [key for key in ("digest", "artefacts") if key not in manifest]:
        raise ManifestError(f"{path} lacks {', '.join(lacking)}; delete its folder and run its stage again")
    named = manifest["artefacts"].values() if isinstance(manifest["artefacts"], dict) else [None]
    if not all(isinstance(artefact, dict) and "sha256" in artefact for artefact in named):
        raise ManifestError(f"{path} has artefacts without their sha256; delete its folder and run its stage again")
    rest = {key: value for key, value in manifest.items() if key != "seal"}
    if manifest.get("seal", digest(rest)) != digest(rest):
        raise ManifestError(f"{path} is not what was written, by its seal: it was changed; delete it and run its stage "
                            "again, which brings it back where its files are whole")  # fmt: skip
    return manifest


def _last_verified(folder: Path) -> dict[str, list[Any]]:
    """Digest, size and times of each file when it last was what its manifest says."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return dict(json.loads((folder / VERIFIED).read_text())["files"])
    return {}


def _describes(whole: Mapping[str, Any], folder: Path) -> bool:
    """Whether a folder holds exactly the files of a manifest, in a `files/` that is there also where it has none."""
    if not (folder / "files").is_dir():
        return False
    there = {str(path.relative_to(folder)) for path in (folder / "files").rglob("*") if path.is_file()}
    if there != set(whole["artefacts"]):
        return False
    named = [(folder / name, artefact) for name, artefact in whole["artefacts"].items()]
    return all(file.stat().st_size == artefact["bytes"] for file, artefact in named) and all(
        sha256(file) == artefact["sha256"] for file, artefact in named
    )


def _move(files: Path, staging: Path) -> None:
    """Rename, or copy where work is on another file system; `staging` is there whole or not at all."""
    try:
        files.rename(staging)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = staging.with_name(f"{staging.name}.tmp")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(files, copy)
        for path in (*copy.rglob("*"), copy):
            fsync(path)
        copy.rename(staging)
    fsync(staging.parent)


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
