"""Pydantic's verdicts in the words of this project: received, expected or available, nearest."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import PydanticCustomError

from pipeline.config.errors import ConfigError, check_keys, mapping, nearest, text_hint

Model = TypeVar("Model", bound=BaseModel)

_WORDS = {
    float: "a number",
    int: "a whole number",
    str: "text",
    bool: "true or false",
    NoneType: "null",
    Mapping: "a mapping",
}


def parse(kind: type[Model], entry: Any, where: str) -> Model:
    """An entry as a model, its first mistake told.

    Raises:
        ConfigError: a key is missing or unknown, or a value is not what its field takes.
    """
    entry = mapping(entry, where)
    check_fields(kind, entry, where)
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        key, told = verdict(kind, entry, error)
        raise ConfigError(f"{where}{': ' if where.endswith('.yaml') else '.'}{key} {told}") from None


def check_fields(kind: type[BaseModel], entry: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError for a key that is missing or not known."""
    required = tuple(name for name, field in kind.model_fields.items() if field.is_required())
    check_keys(entry, where, required, tuple(name for name in kind.model_fields if name not in required))


def verdict(kind: type[BaseModel], entry: Mapping[str, Any], error: ValidationError) -> tuple[str, str]:
    """The key of the first mistake, and what is wrong with its value."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "mistake":
        key, told = first["ctx"]["key"], f"expected {first['ctx']['expected']}"
    else:
        key = str(first["loc"][0])
        field = kind.model_fields[key]
        annotation = Annotated[field.annotation, Field(title=field.title)] if field.title else field.annotation
        told = expected(annotation, entry[key], error)
    return key, f"is {entry[key]!r}; {told}"


def mistake(key: str, expected: str) -> PydanticCustomError:
    """What a validator of a whole model raises, so that it is told under the key."""
    return PydanticCustomError("mistake", "{key}: expected {expected}", {"key": key, "expected": expected})


def expected(kind: Any, value: Any, error: ValidationError) -> str:
    """What a type takes in place of a value: its words, what a validator of it says, or a choice with the nearest."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":
        return f"expected {first['ctx']['error']}"
    if first["type"] == "finite_number":
        return "expected a finite number"
    choices = [choice for part in (kind, *get_args(kind)) if get_origin(part) is Literal for choice in get_args(part)]
    if choices:
        return f"available: {choices}{nearest(value, choices)}"
    return f"expected {words(kind)}{text_hint(value)}"


def words(kind: Any) -> str:
    """A type in words: the title that it was given, or what can be said of its form."""
    parts = get_args(kind)
    if get_origin(kind) is Annotated:
        titles = [title for part in parts[1:] if (title := getattr(part, "title", None))]
        return titles[0] if titles else words(parts[0])
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(words, parts))
    if get_origin(kind) in (list, tuple):
        return f"a list, each {words(parts[0])}"
    return _WORDS.get(get_origin(kind) or kind, str(kind))
