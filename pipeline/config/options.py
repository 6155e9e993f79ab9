"""The options of a source of data: an annotated dataclass `Options`, read here without its module, which imports more.

What an annotation cannot say, such as how two options go together, a source checks itself when it prepares.
"""

from __future__ import annotations

import ast
import typing
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from pipeline.config import types
from pipeline.config.errors import ConfigError, check_keys
from pipeline.config.types import Setting

PACKAGE = Path(__file__).parent.parent
# Plain types as strict as those with a range: no text for numbers, no numbers for flags.
PLAIN = {
    "int": Annotated[int, Field(strict=True, title="a whole number")],
    "float": types.Number,
    "bool": types.Flag,
    "str": Annotated[str, Field(strict=True, title="text")],
    "list": list,
    "tuple": tuple,
}
NAMES = {**vars(typing), **vars(types), **PLAIN}


def check_options(given: Mapping[str, Any], kind: str, source: str, where: str) -> dict[str, Any]:
    """Options with the types that their dataclass declares, lists as tuples.

    Args:
        given: of the study.
        kind, source: whose they are.
        where: they stand.

    Raises:
        ConfigError: a key is missing or unknown, or a value not what its annotation takes.
    """
    module = f"data.sources.{kind}.{source}"
    known = _declared(module, _path(module).stat().st_mtime_ns)
    required = tuple(key for key, (_, has_default) in known.items() if not has_default)
    check_keys(given, where, required, tuple(key for key in known if key not in required))
    return {key: known[key][0].check(value, f"{where}.{key}") for key, value in given.items()}


@lru_cache(maxsize=64)
def _declared(module: str, changed: int) -> dict[str, tuple[Setting, bool]]:
    """The type of each option, and whether it has a default; a class that has a base adds to the one it imports."""
    found: dict[str, tuple[Setting, bool]] = {}
    for node in ast.parse(_path(module).read_text()).body:
        if isinstance(node, ast.ImportFrom) and any(name.name == "Options" for name in node.names):
            found = _declared(str(node.module).removeprefix("pipeline."), changed)
        if isinstance(node, ast.ClassDef) and node.name == "Options":
            inherited = found if node.bases else {}
            fields = [field for field in node.body if isinstance(field, ast.AnnAssign)]
            return inherited | {
                ast.unparse(field.target): (_setting(field.annotation), field.value is not None) for field in fields
            }
    if found:
        return found
    raise ConfigError(f"{_path(module)} has no dataclass Options; see another source for its form")


def _setting(annotation: ast.expr) -> Setting:
    kind = _kind(annotation)
    return Setting(kind, TypeAdapter(kind))


def _kind(node: ast.expr) -> Any:
    """What an annotation says, made of names of types, `|` and `[]`; nothing is executed."""
    if isinstance(node, ast.BinOp):
        return _kind(node.left) | _kind(node.right)
    if isinstance(node, ast.Subscript):
        return _kind(node.value)[_kind(node.slice)]
    if isinstance(node, ast.Tuple):
        return tuple(map(_kind, node.elts))
    if isinstance(node, ast.Constant):
        return node.value
    if (name := ast.unparse(node)) not in NAMES:
        raise ConfigError(f"an option is annotated with {name}; expected types of pipeline/config/types.py or typing's")
    return NAMES[name]


def _path(module: str) -> Path:
    return PACKAGE / f"{module.replace('.', '/')}.py"
