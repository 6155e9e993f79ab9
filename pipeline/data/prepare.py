"""Preparation of one data set of a study: the source found by name, the options checked, the files packed."""

import dataclasses
import difflib
import importlib
import shutil
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError, DataSet
from pipeline.data.official import JOURNALS


def prepare(spec: DataSet, work: Path, files: Path) -> dict[str, Any]:
    """Writes a data set's packs; after an interruption it goes on from those that `work` and `files` hold.

    Args:
        spec: of the study.
        work: for what is made on the way, journals among it.
        files: receives the packs.

    Returns:
        The manifest's `data`: name, source, splits with their counts, classes, rejects and notes.

    Raises:
        ConfigError: in the options, or in the data that they point to.
    """
    source = importlib.import_module(f"pipeline.data.sources.{spec.kind}.{spec.source}")
    options = read_options(source.Options, spec.options, f"data.{spec.name}")
    shutil.rmtree(work / "raw", ignore_errors=True)  # of an attempt that was cut off
    if not (work / JOURNALS).is_dir():
        shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True, exist_ok=True)
    try:
        found = source.prepare(options, work, files)
    except ConfigError as error:  # a source does not know the name of the set that it prepares
        raise ConfigError(f"data.{spec.name}: {error}") from error
    data = {"name": spec.name, "kind": spec.kind, "source": spec.source, **found}
    count, rejected = sum(split["count"] for split in data["splits"].values()), data["rejects"]["count"]
    shards = [path.stat().st_size for path in files.glob("*.bin")]
    print(
        f"{spec.name}: read {count + rejected:,} files, rejected {rejected:,}, noted {data['notes']['count']:,} as odd;"
        f" wrote {count:,} in {len(shards):,} shards of {sum(shards) / 2**20:,.1f} MiB",
        file=sys.stderr,
        flush=True,
    )
    return data


def read_options(kind: type, given: Mapping[str, Any], where: str) -> Any:
    """Builds an options dataclass from a mapping of the study.

    Raises:
        ConfigError: a key is missing, unknown or of the wrong type.
    """
    types = typing.get_type_hints(kind)
    for key in given:
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{where} has {key!r}; available keys: {', '.join(types)}{hint}")
    required = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]
    missing = [key for key in required if key not in given]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}; required keys: {', '.join(required)}")
    return kind(**{key: _typed(value, types[key], f"{where}.{key}") for key, value in given.items()})


def _typed(value: Any, kind: Any, where: str) -> Any:
    if kind is float and type(value) in (int, float):
        return float(value)
    if typing.get_origin(kind) is tuple:
        part, *rest = typing.get_args(kind)
        pair = rest == [part]
        items = [float(item) if part is float and type(item) is int else item for item in _listed(value)]
        if (
            not items
            or any(type(item) is not part for item in items)
            or (pair and (len(items) != 2 or items[0] > items[1]))
        ):
            expected = "[smallest, largest]" if pair else f"a list of {part.__name__}"
            raise ConfigError(f"{where} is {value!r}; expected {expected}")
        return tuple(items)
    allowed = tuple(part for part in (typing.get_args(kind) or (kind,)) if isinstance(part, type))
    if isinstance(value, Mapping) or type(value) in allowed or (value is None and type(None) in allowed):
        return value
    names = " or ".join(part.__name__ for part in allowed)
    raise ConfigError(f"{where} is {value!r}; expected {names}")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []
