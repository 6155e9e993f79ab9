"""Mistakes in what the user wrote, each told in one line, and the checks that every file of configuration shares."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any


class ConfigError(ValueError):
    """A mistake in what the user wrote: says what was received, expected and available, and the next step."""


def mapping(value: Any, where: str) -> dict[str, Any]:
    """A copy of a mapping.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {value!r}; expected a mapping of keys to values")
    return dict(value)


def check_keys(
    entry: Mapping[str, Any],
    where: str,
    required: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
    open_ended: bool = False,
) -> None:
    """Raises ConfigError for a key that is missing, or, unless `open_ended`, not known."""
    known = (*required, *optional)
    for key in required:
        if key not in entry:
            raise ConfigError(f"{where} lacks {key!r}; required keys: {list(required)}")
    for key in entry:
        if key not in known and not open_ended:
            raise ConfigError(f"{where} has {key!r}; available keys: {list(known)}{nearest(key, known)}")


def check_name(value: Any, where: str) -> str:
    """Names of runs, tasks and sets become parts of paths, of commands and of DVC's keys."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", value):
        raise ConfigError(
            f"{where} is called {value!r}; expected letters, digits, '-' and '_', such as 'mae-r50', at most 100"
        )
    return value


def check_seeds(value: Any, where: str) -> tuple[int, ...]:
    """Seeds, each once and below 2^32, which every generator takes."""
    if not isinstance(value, list) or not value or not all(type(seed) is int and 0 <= seed < 2**32 for seed in value):
        raise ConfigError(f"{where} is {value!r}; expected a list of whole numbers, such as [0, 1], each below 2^32")
    if len(set(value)) < len(value):
        raise ConfigError(f"{where} is {value!r}; a seed stands there twice")
    return tuple(value)


def nearest(word: Any, known: Any) -> str:
    """`; did you mean ...?`, or nothing where no word is near."""
    near = difflib.get_close_matches(str(word), [str(item) for item in known], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def text_hint(value: Any) -> str:
    """YAML 1.1, which every tool here reads, takes a power of ten without a point for text."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", value):
        return f" (YAML takes {value} for text; write {re.sub('[eE]', '.0e', value)})"
    return ""
