"""One process at a time on a cell: filelock's lease, with words for those that wait.

The lease is a file that names its holder and is touched every few seconds. It is taken over from a process of this
machine that no longer runs at once, and from one elsewhere when no touch was seen for a while, by the observer's clock.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

HEARTBEAT = 15.0  # seconds between touches
STALE = 120.0  # seconds without a touch after which a holder counts as dead
LOST = 75  # EX_TEMPFAIL of sysexits.h: try again later
WAY_OUT = "to give it up, stop that process, or remove {} where it is surely gone"


class LockError(RuntimeError):
    """A lock that can never be had: says whose it is and what to do."""


class Lock:
    """Context manager that holds a file while it is open; on entering, it waits for whoever holds it.

    Who holds it and loses it leaves at once: after a silence, being suspended for one, another process may be at work.

    Args:
        path: of the lock file.

    Raises:
        LockError: on entering, when it is held on other terms.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._since = path.with_name(f"{path.name}.since")
        self._lease = SoftFileLease(
            path,
            lease_duration=STALE,
            heartbeat_interval=HEARTBEAT,
            on_compromise=lambda loss: leave(path, loss.reason),
        )

    def __enter__(self) -> Lock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        told = ""
        while True:
            _mark_torn(self.path)
            try:
                if not self._runs_here():  # though it be stopped and miss its beats, it may go on
                    self._lease.acquire(blocking=False)
                    break
            except LeaseSettingsMismatch as error:
                raise LockError(f"{self._holder()}; it is of another version: {WAY_OUT.format(self.path)}") from error
            except Timeout:
                pass
            if (holder := self._holder()) and holder != told:
                told = holder
                print(f"waiting: {told}; {WAY_OUT.format(self.path)}", flush=True)
            time.sleep(HEARTBEAT / 30)
        self._since.write_text(str(self._lease.token))
        return self

    def __exit__(self, *_: object) -> None:
        self._since.unlink(missing_ok=True)
        self._lease.release()  # the lock of a successor stays

    def _runs_here(self) -> bool:
        """Whether the holder is seen to run: on this machine, with the process numbers that we see."""
        owner = self._lease.owner
        if owner is None or owner.start is None or owner.hostname.partition("?")[0] != socket.gethostname():
            return False
        try:
            state, *fields = Path(f"/proc/{owner.pid}/stat").read_text().rpartition(")")[2].split()
            # Numbers are used again, pairs of number and start in the kernel's ticks are not.
            return state not in "ZX" and int(fields[18]) == owner.start % 2**64
        except (OSError, ValueError, IndexError):
            return False

    def _holder(self) -> str:
        """Who holds it and since when; empty where nobody does any more."""
        owner, since = self._lease.owner, "just now"
        if owner is None:
            return ""
        with suppress(OSError):
            if self._since.read_text() == owner.token:
                since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._since.stat().st_mtime))
        return f"{self.path} is held by process {owner.pid} on {owner.hostname.partition('?')[0]} since {since}"


def leave(path: Path, reason: str) -> None:
    """End this process, as a kill would, which everything survives."""
    print(f"error: {path} is no longer held by this process ({reason}); it leaves, for another may be at work. "
          "The same command waits for it, or resumes", flush=True)  # fmt: skip
    os._exit(LOST)


def _mark_torn(path: Path) -> None:
    """What a power failure left empty names nobody, and filelock would wait for its record for ever."""
    with suppress(OSError), path.open("r+b") as file:  # never another file that takes its place meanwhile
        found = os.fstat(file.fileno())
        if found.st_size == 0 and time.time() - found.st_mtime > STALE:
            file.write(b"torn\n")
