"""One process at a time on a work directory: filelock's lease, with words for those that it refuses.

The lease is a file that names its holder and is touched every few seconds. It is taken over from a process of this
machine that no longer runs at once, and from one elsewhere when no touch was seen for a while, by the observer's clock.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

HEARTBEAT = 15.0  # seconds between touches
STALE = 120.0  # seconds without a touch after which a holder counts as dead


class LockError(RuntimeError):
    """Another process works here: says which, where and since when."""


class Lock:
    """Context manager that holds `<folder>/lock` while it is open.

    Raises:
        LockError: on entering, when a living process holds it. One elsewhere is watched until it touches the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._since = folder / "lock.since"
        self._lease = SoftFileLease(self.path, lease_duration=STALE, heartbeat_interval=HEARTBEAT)

    def __enter__(self) -> Lock:
        _mark_torn(self.path)
        try:
            self._lease.acquire(STALE + 2 * HEARTBEAT, poll_interval=HEARTBEAT / 30, cancel_check=self._lives())
        except (Timeout, LeaseSettingsMismatch) as error:
            raise LockError(self._refusal()) from error
        self._since.write_text(str(self._lease.token))
        return self

    def __exit__(self, *_: object) -> None:
        self._lease.release()  # the lock of a successor stays, should ours be gone with its folder

    def _lives(self) -> Callable[[], bool]:
        """A check whether the holder gave a sign of life since the check's first call."""
        seen: list[tuple[int, int]] = []

        def check() -> bool:
            if self._runs_here():
                return True
            with suppress(OSError):
                now = self.path.stat()
                seen.append((now.st_ino, now.st_mtime_ns))
            return len(set(seen[:1] + seen[-1:])) > 1

        return check

    def _runs_here(self) -> bool:
        """Whether the holder runs on this machine. Though it be stopped and miss its beats, it may go on."""
        owner = self._lease.owner
        if owner is None or owner.start is None or owner.hostname.partition("?")[0] != socket.gethostname():
            return False
        try:
            state, *fields = Path(f"/proc/{owner.pid}/stat").read_text().rpartition(")")[2].split()
            # Numbers are used again, pairs of number and start in the kernel's ticks are not.
            return state not in "ZX" and int(fields[18]) == owner.start % 2**64
        except (OSError, ValueError, IndexError):
            return False

    def _refusal(self) -> str:
        owner, since = self._lease.owner, "just now"
        if owner is None:
            return f"{self.path.parent} was held by another process until just now; run this again"
        with suppress(OSError):
            if self._since.read_text() == owner.token:
                since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._since.stat().st_mtime))
        return (
            f"{self.path.parent} is held by process {owner.pid} on {owner.hostname.partition('?')[0]} since {since}; "
            f"wait for it, or stop it and run this again (if it is surely gone, remove {self.path})"
        )


def _mark_torn(path: Path) -> None:
    """What a power failure left empty names nobody, and filelock would wait for its record for ever."""
    with suppress(OSError), path.open("r+b") as file:  # never another file that takes its place meanwhile
        found = os.fstat(file.fileno())
        if found.st_size == 0 and time.time() - found.st_mtime > STALE:
            file.write(b"torn\n")
