"""One process at a time on a work directory.

The lock is a file that names its holder and is touched every few seconds. It is taken over when its holder is
seen to be dead: a process of this machine that no longer runs, or one of another machine that stopped touching.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

HEARTBEAT = 15.0  # seconds between touches
STALE = 120.0  # seconds without a touch after which a holder on another machine counts as dead


class LockError(RuntimeError):
    """Another process works here: says which, where and since when."""


class Lock:
    """Context manager that holds `<folder>/lock` while it is open.

    Raises:
        LockError: on entering, when a living process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._released = threading.Event()
        self._content = ""

    def __enter__(self) -> Lock:
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "since": time.time()}
        self._content = json.dumps(holder)
        # The whole content appears at once under the final name, and only if the name is free.
        temporary = self.path.with_name(f"lock.{holder['host']}.{holder['pid']}")
        temporary.write_text(self._content)
        try:
            for _ in range(2):
                try:
                    os.link(temporary, self.path)
                    break
                except FileExistsError:
                    self._take_over()
            else:
                raise LockError(f"{self.path} was taken by another process just now; run again once it is done")
        finally:
            temporary.unlink(missing_ok=True)
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        if self._is_ours():  # the folder may be gone, and made again by another process
            self.path.unlink(missing_ok=True)

    def _take_over(self) -> None:
        """Remove the lock of a holder that is dead; complain about one that lives."""
        with self._alone():
            try:
                silent = time.time() - self.path.stat().st_mtime
                holder = json.loads(self.path.read_text())
                if _is_alive(holder, silent):
                    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
                    raise LockError(
                        f"{self.path.parent} is held by process {holder['pid']} on {holder['host']} since {since}; "
                        "wait for it, or stop it and run this again"
                    )
            except FileNotFoundError:
                return
            except (ValueError, KeyError, TypeError):
                pass  # a power failure may leave an empty file, which holds nothing
            self.path.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Judge and remove in one go: of two that find a dead holder, the slower must not remove the faster's lock."""
        with open(self.path.with_name("lock.guard"), "w") as guard:
            with suppress(OSError):  # file systems without such locks leave a moment's risk
                fcntl.flock(guard, fcntl.LOCK_EX)
            yield

    def _is_ours(self) -> bool:
        try:
            return self.path.read_text() == self._content
        except OSError:
            return False

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT) and self._is_ours():
            with suppress(FileNotFoundError):
                os.utime(self.path)


def _is_alive(holder: dict[str, Any], silent: float) -> bool:
    if holder["host"] == socket.gethostname():
        return _born(holder["pid"]) == holder["born"]
    return silent < STALE


def _born(pid: int) -> str | None:
    """When a process began, in the kernel's ticks: numbers are used again, pairs of number and time are not."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]  # what has died but was not yet waited for is dead
    except (OSError, ValueError, IndexError):
        return None
