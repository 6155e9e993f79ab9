"""One hostile or broken input, and what must become of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Told what to take in a folder of its own, it returns counted rejects as (file, reason), or None where it took it all.
Act = Callable[[Path], Sequence[tuple[str, str]] | None]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An input.

    name: what it is.
    act: gives it to the project.
    file: that the message must name; empty where there is none.
    harmless: it may also be taken, as noise where nothing checks it, or a key that nothing reads.
    slow: it takes seconds.
    """

    name: str
    act: Act
    file: str = ""
    harmless: bool = False
    slow: bool = False
