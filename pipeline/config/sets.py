"""Data sets: each has a name, comes from a source, and is of the kind in whose folder the source's module stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.config.errors import ConfigError, check_keys, check_name, mapping, nearest
from pipeline.config.options import check_options

SOURCES = Path(__file__).parent.parent / "data" / "sources"


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set of a study: what its samples are, where they come from and the options of its source."""

    name: str
    kind: str
    source: str
    options: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        return Path("data") / self.name


def sources() -> dict[str, str]:
    """Every source with its kind: `pipeline/data/sources/<kind>/<source>.py`."""
    files = sorted(SOURCES.glob("*/*.py"))
    return {file.stem: file.parent.name for file in files if file.stem != "__init__"}


def reads_as(kind: str) -> tuple[str, ...]:
    """Kinds whose readers take a set of this one too, as `READS_AS` of its folder of sources says."""
    return getattr(import_module(f"pipeline.data.sources.{kind}"), "READS_AS", ())


def parse_set(name: Any, entry: Any) -> DataSet:
    """One entry of a study's `data`."""
    where, known = f"data.{check_name(name, 'a data set')}", sources()
    entry = mapping(entry, where)
    check_keys(entry, where, required=("source",), open_ended=True)
    source = entry.pop("source")
    if not isinstance(source, str) or source not in known:
        raise ConfigError(f"{where}.source is {source!r}; available sources: {list(known)}{nearest(source, known)}")
    check_options(entry, known[source], source, where)
    return DataSet(name=name, kind=known[source], source=source, options=MappingProxyType(entry))


def choose_set(data: Mapping[str, DataSet], kind: str, named: Any, where: str) -> DataSet:
    """The set of a kind that is named, or the only one there is.

    A set of another kind that can be read as this one is taken where it is named.

    Raises:
        ConfigError: there is none, or several and nobody says which; or the one that is named is of another kind.
    """
    fitting = [name for name, spec in data.items() if spec.kind == kind]
    if named is not None:
        if not isinstance(named, str) or named not in data:
            raise ConfigError(f"{where}.data is {named!r}; available sets: {list(data)}{nearest(named, data)}")
        if named not in fitting and kind not in reads_as(data[named].kind):
            raise ConfigError(
                f"{where}.data is {named!r}, a set of {data[named].kind}; expected {kind}; available: {fitting}"
            )
        return data[named]
    if not fitting:
        options = [source for source, plays in sources().items() if plays == kind]
        raise ConfigError(
            f"{where} reads {kind}, of which the study has no set; its sets: "
            f"{ {name: spec.kind for name, spec in data.items()} }; add one to data, from a source of {options}"
        )
    if len(fitting) > 1:
        raise ConfigError(f"{where} reads {kind}, and the study has the sets {fitting}; say which: {where}.data")
    return data[fitting[0]]
