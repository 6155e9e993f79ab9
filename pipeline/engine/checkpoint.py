"""Checkpoints that survive anything: written aside, flushed, renamed, and verified before they are believed.

MMEngine's own hook deletes the old file before it writes the new one in its place, and its loader may unpickle;
neither is used.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from pipeline.files import fsync, sha256, write_atomic, written
from pipeline.nn.tensors import read_pickle

KEEP = 2


class CheckpointError(RuntimeError):
    """There are checkpoints, but none that can be trusted; or one could not be written."""


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write the checkpoint of a step, then drop all but the newest two.

    Raises:
        CheckpointError: when it cannot be written, on a full disk for one; the ones before stay as they are.
    """
    path = folder / f"step-{step:08d}.pt"
    try:
        with written(path) as pending:
            with open(pending, "wb") as file:  # given a name, torch would write it into the file
                torch.save(state, file)
            content = {"sha256": sha256(pending), "bytes": pending.stat().st_size}
            write_atomic(_seal(path), json.dumps(content))  # a seal alone is harmless, so it comes first
    except (OSError, RuntimeError) as error:  # torch tells of a full disk by a RuntimeError
        left = [str(other) for other in stored(folder) if other != path]
        raise CheckpointError(
            f"the checkpoint of step {step} could not be written to {folder} ({error}); the ones before are kept: "
            f"{left}. Free some space and run this again to resume"
        ) from error
    for old in stored(folder)[:-KEEP]:
        _seal(old).unlink(missing_ok=True)
        old.unlink(missing_ok=True)
    fsync(folder)
    return path


class Writer:
    """Writes checkpoints beside the training: a copy is taken at once, and a thread writes and hashes it.

    One is written at a time. Who is killed meanwhile goes on from the one before.

    Args:
        folder: of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.thread: Thread | None = None
        self.error: BaseException | None = None
        self.copy: Any = None  # kept, since memory that was used before is filled faster

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Begin to write the checkpoint of a step, once the one before is there.

        Raises:
            CheckpointError: the one before could not be written.
        """
        self.wait()
        self.copy = _copied(state, self.copy)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.thread = Thread(target=self._write, args=(step,), name=f"checkpoint-{step}")
        self.thread.start()

    def wait(self) -> None:
        """Return when the last one is there.

        Raises:
            CheckpointError: it could not be written.
        """
        self.join()
        error, self.error = self.error, None
        if error is not None:
            raise error

    def join(self) -> None:
        """Return when nothing is written any more, for whatever reason."""
        if self.thread is not None:
            self.thread.join()
        self.thread = None

    def _write(self, step: int) -> None:
        try:
            save(self.folder, step, self.copy)
        except BaseException as error:  # raised again where it is waited for
            self.error = error


def _copied(value: Any, kept: Any) -> Any:
    """A copy on the CPU, its tensors in the memory of those of an earlier copy where they fit."""
    if isinstance(value, Tensor):
        if not (isinstance(kept, Tensor) and (kept.shape, kept.dtype) == (value.shape, value.dtype)):
            kept = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda, requires_grad=False)
        return kept.copy_(value.detach(), non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _copied(part, kept.get(key) if isinstance(kept, Mapping) else None) for key, part in value.items()}
    if isinstance(value, list | tuple):
        olds = kept if isinstance(kept, list | tuple) and len(kept) == len(value) else [None] * len(value)
        return type(value)(_copied(part, old) for part, old in zip(value, olds, strict=True))
    return value


def load_newest(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Step and state of the newest checkpoint that verifies; None where there is none at all.

    Raises:
        CheckpointError: when there are checkpoints but none verifies.
    """
    found = stored(folder)
    for path in reversed(found):
        complaint = _complaint(path)
        if complaint is None:
            return int(path.stem.partition("-")[2]), read_pickle(path)
        print(f"warning: {path} is not used: {complaint}", flush=True)
    if found:
        raise CheckpointError(
            f"none of the checkpoints in {folder} verifies ({[path.name for path in found]}); "
            "delete them to train from the start"
        )
    return None


def stored(folder: Path) -> list[Path]:
    """All finished checkpoints, oldest first, whether they verify or not."""
    return sorted(folder.glob("step-*.pt"))


def _seal(path: Path) -> Path:
    return path.with_suffix(".json")


def _complaint(path: Path) -> str | None:
    try:
        seal = json.loads(_seal(path).read_text())
        if not isinstance(seal, dict):
            raise ValueError
    except (OSError, ValueError, RecursionError):
        return "its seal, the .json beside it, is missing or broken"
    if (size := path.stat().st_size) != seal.get("bytes"):
        return f"it has {size} bytes and should have {seal.get('bytes')}: it was cut short"
    if sha256(path) != seal.get("sha256"):
        return "its SHA-256 differs from its seal: it was changed"
    return None
