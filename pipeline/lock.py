"""One process at a time on a work directory.

The lock is a file that names its holder and is touched every few seconds. It is taken over when its holder is
seen to be dead: a process of this machine that no longer runs, or one of another machine that stopped touching.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

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

    def __enter__(self) -> Lock:
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "since": time.time()}
        # The whole content appears at once under the final name, and only if the name is free.
        temporary = self.path.with_name(f"lock.{holder['host']}.{holder['pid']}")
        temporary.write_text(json.dumps(holder))
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
            temporary.unlink()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self.path.unlink(missing_ok=True)

    def _take_over(self) -> None:
        """Remove the lock of a holder that is dead; complain about one that lives."""
        try:
            holder = json.loads(self.path.read_text())
            silent = time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return
        except ValueError:
            holder, silent = {}, STALE
        if holder.get("host") == socket.gethostname():
            alive = _born(holder["pid"]) == holder["born"]
        else:
            alive = silent < STALE
        if alive:
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since"]))
            raise LockError(
                f"{self.path.parent} is held by process {holder['pid']} on {holder['host']} since {since}; "
                "wait for it, or stop it and run this again"
            )
        self.path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT):
            try:
                os.utime(self.path)
            except FileNotFoundError:
                return


def _born(pid: int) -> str | None:
    """When a process began, in the kernel's ticks: numbers are used again, pairs of number and time are not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
