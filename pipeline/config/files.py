"""YAML files, parsed once for as long as they do not change."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.errors import ConfigError, mapping, nearest

MOST_BYTES, MOST_VALUES = 2**20, 200_000  # of a file; the largest that is there has 70 KB and 6,000 values
DEEPEST = 50  # lists and mappings within each other


def read(path: Path, what: str) -> dict[str, Any]:
    """The mapping that a file holds, as a copy; raises what `look` does."""
    return dict(copied(look(path, what)))


def look(path: Path, what: str) -> Mapping[str, Any]:
    """The mapping that a file holds, the same for all who ask and not to be changed: planning asks thousands of times.

    Raises:
        ConfigError: there is no such file, it is no YAML, or holds something else; `what` is what was looked for.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) or state.st_size > MOST_BYTES:
            raise ValueError(f"it is no regular file of at most {MOST_BYTES:,} bytes")
        raw = _parse(path.resolve(), state.st_mtime_ns, state.st_size)
    except FileNotFoundError:
        others = sorted(str(file) for file in path.parent.glob("*.yaml"))
        raise ConfigError(f"there is no {what} {path}; available: {others}{nearest(path, others)}") from None
    except (OSError, ValueError, RecursionError, AttributeError) as error:  # the last by PyYAML, of a bad timestamp
        raise ConfigError(f"{what} {path} cannot be read ({error}); expected a YAML file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return mapping(raw, str(path))


def copied(value: Any) -> Any:
    """A copy of what YAML or JSON say, in a third of the time of `copy.deepcopy`."""
    if isinstance(value, dict):
        return {key: copied(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [copied(entry) for entry in value]
    return value


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain values and nothing else, and of merged mappings (`<<: *other`) no more than any file needs."""

    merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        merges = [value for key, value in node.value if key.tag == "tag:yaml.org,2002:merge"]
        if len(merges) > 1 or any(isinstance(value, yaml.SequenceNode) for value in merges):
            problem = "a mapping merges several (<<); expected one"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)
        super().flatten_mapping(node)
        self.merged += len(node.value) if merges else 0
        if self.merged > MOST_VALUES:
            raise ValueError(f"it merges more than {MOST_VALUES:,} values")


@lru_cache(maxsize=256)
def _parse(path: Path, changed: int, size: int) -> Any:
    """A file's content; planning a large study asks for the same recipe hundreds of times."""
    text = path.read_text()
    _check_form(text)
    content = yaml.load(text, Loader=_Loader)
    if _size(content, {}) > MOST_VALUES:
        raise ValueError(f"it has more than {MOST_VALUES:,} values, its aliases written out")
    return content


def _check_form(text: str) -> None:
    """Raises ValueError for deep nesting, and for a key given twice, of which YAML would take the last in silence."""
    inside: list[dict[str, int] | None] = []  # of each open mapping the lines of its keys; None of a list
    at_key: list[bool] = []
    for event in yaml.parse(text, Loader=_Loader):  # flat, where libyaml's own recursion would end the process
        if isinstance(event, yaml.CollectionEndEvent):
            inside.pop(), at_key.pop()
        elif isinstance(event, yaml.NodeEvent):
            if inside and (lines := inside[-1]) is not None:
                if at_key[-1] and isinstance(event, yaml.ScalarEvent) and event.start_mark:
                    line, key = event.start_mark.line + 1, event.value
                    if key in lines:
                        raise ValueError(f"it gives {key!r} twice, in lines {lines[key]} and {line}")
                    lines[key] = line
                at_key[-1] = not at_key[-1]
            if isinstance(event, yaml.CollectionStartEvent):
                inside.append({} if isinstance(event, yaml.MappingStartEvent) else None)
                at_key.append(True)
                if len(inside) > DEEPEST:
                    raise ValueError(f"it nests more than {DEEPEST} lists and mappings")


def _size(value: Any, known: dict[int, int]) -> int:
    """How many values there are with every alias written out, which a few lines can make more than any memory holds."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = MOST_VALUES + 1  # for as long as it is counted: what holds itself has no end
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(value)]
