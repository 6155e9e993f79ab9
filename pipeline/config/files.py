"""YAML files, parsed once for as long as they do not change."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.errors import ConfigError, mapping, nearest


def read(path: Path, what: str) -> dict[str, Any]:
    """The mapping that a file holds, as a copy.

    Raises:
        ConfigError: there is no such file, it is no YAML, or holds something else; `what` is what was looked for.
    """
    try:
        state = path.stat()
        raw = deepcopy(_parse(path.resolve(), state.st_mtime_ns, state.st_size))
    except FileNotFoundError:
        others = sorted(str(file) for file in path.parent.glob("*.yaml"))
        raise ConfigError(f"there is no {what} {path}; available: {others}{nearest(path, others)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} {path} cannot be read ({error}); expected a YAML file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return mapping(raw, str(path))


@lru_cache(maxsize=256)
def _parse(path: Path, changed: int, size: int) -> Any:
    """A file's content; planning a large study asks for the same recipe hundreds of times."""
    return yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
