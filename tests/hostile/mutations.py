"""Ways to break what is whole: each key gone, each value of another type, a file cut off or overwritten."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

OTHERS: tuple[Any, ...] = (None, "", "x" * 20, -1, 0.5, True, [], {}, [[]], 10**30)


def mutations(whole: Any, others: tuple[Any, ...] = OTHERS) -> Iterator[tuple[str, Any]]:
    """Copies of JSON content, each with one key or entry gone or of another type; lists at their first entry alone."""
    for place in _places(whole):
        name = ".".join(map(str, place))
        yield f"{name} is gone", _without(whole, place)
        for value in others:
            if type(value) is not type(_at(whole, place)):
                yield f"{name} is {str(value)[:10]!r}, a {type(value).__name__}", _with(whole, place, value)


def cuts(data: bytes, count: int = 10) -> Iterator[tuple[str, bytes]]:
    """Data cut off at each tenth."""
    for tenth in range(count):
        yield f"cut at {tenth} of {count}", data[: len(data) * tenth // count]


def noise(data: bytes, count: int = 10, length: int = 16) -> Iterator[tuple[str, bytes]]:
    """Data overwritten by noise at each tenth, always the same."""
    for tenth in range(count):
        start = len(data) * tenth // count
        yield (
            f"noise at {tenth} of {count}",
            data[:start] + random.Random(tenth).randbytes(length) + data[start + length :],
        )


def _places(whole: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys = list(whole) if isinstance(whole, dict) else [0] if isinstance(whole, list) and whole else []
    for key in keys:
        yield (*above, key)
        yield from _places(whole[key], (*above, key))


def _at(whole: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        whole = whole[key]
    return whole


def _with(whole: Any, place: tuple[Any, ...], value: Any) -> Any:
    changed = deepcopy(whole)
    _at(changed, place[:-1])[place[-1]] = value
    return changed


def _without(whole: Any, place: tuple[Any, ...]) -> Any:
    changed = deepcopy(whole)
    del _at(changed, place[:-1])[place[-1]]
    return changed
