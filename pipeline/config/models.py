"""The named encoders: `config/models/<family>.yaml`, one file per family of networks."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from pipeline.config.errors import ConfigError, nearest
from pipeline.config.files import read
from pipeline.config.parse import parse

MODELS = Path("config/models")


class Family(BaseModel):
    """What all encoders of a family have in common.

    takes: the kinds of samples that it encodes, its own first.
    takes_if_named: those that it encodes besides, for tasks that name its run.
    gives: what comes out: `features`, one vector per sample; `maps`; `patches`, a token for each.
    models: sizes by name; `build` of the family's module says what they mean.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    takes: tuple[str, ...]
    takes_if_named: tuple[str, ...] = ()
    gives: tuple[Literal["features", "maps", "patches"], ...]
    models: dict[str, dict[str, Any]]


def family(name: str) -> Family:
    """A family by its name, that of its file.

    Raises:
        ConfigError: there is no such family, or its file is not understood.
    """
    path = MODELS / f"{name}.yaml"
    return parse(Family, read(path, "family of models"), str(path))


def models() -> dict[str, dict[str, Any]]:
    """Every named encoder with its `family` and its sizes.

    Raises:
        ConfigError: a file is not understood, or two families have a model of one name.
    """
    files = sorted(MODELS.resolve().glob("*.yaml"))
    return _table(tuple((file, (state := file.stat()).st_mtime_ns, state.st_size) for file in files))


@lru_cache(maxsize=8)
def _table(files: tuple[tuple[Path, int, int], ...]) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for path, _, _ in files:
        for name, size in family(path.stem).models.items():
            if name in table:
                raise ConfigError(f"{path} has a model {name!r}, which {MODELS}/{table[name]['family']}.yaml has too")
            table[name] = {"family": path.stem, **size}
    return table


def family_of(model: Any, where: str) -> tuple[str, Family]:
    """The name of a model's family, and the family.

    Raises:
        ConfigError: there is no such model; `where` is where it is named.
    """
    table = models()
    if not isinstance(model, str) or model not in table:
        raise ConfigError(f"{where}: model is {model!r}; available: {sorted(table)}{nearest(model, table)}")
    return table[model]["family"], family(table[model]["family"])
