"""Progress of long loops: a bar on a terminal, a plain line now and then in a log."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import track as bar

T = TypeVar("T")
_EVERY = 30.0  # seconds between lines


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yields the items and shows how far they are.

    Args:
        items: to go through.
        what: is being done, such as `reading train`.
        total: how many there are, where `items` has no length.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from bar(items, what, total, console=Console(stderr=True), transient=True)
        return
    started = told = time.monotonic()
    done = 0
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - told > _EVERY:
            told = time.monotonic()
            print(
                f"{what}: {done:,} of {total:,}" if total else f"{what}: {done:,}",
                file=sys.stderr,
                flush=True,
            )
    print(f"{what}: {done:,} in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
