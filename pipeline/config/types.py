"""What a setting may be: types with their ranges, and each in words for whoever errs.

Recipes and protocols name them under `types` in their heads, in the shape of their sections:

    count, fraction, ...       of `VOCABULARY`
    [uniform, block]           one of these; null among them where it may be left open
    count?                     or null
    list of count              any number of them
    range of positive          [smallest, largest]
    count >= image_size        and at least another setting of the section
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from pipeline.config.durations import FORM, Duration
from pipeline.config.errors import ConfigError, nearest
from pipeline.config.parse import expected, words

T = TypeVar("T")


def _duration(text: Any) -> Any:
    try:
        Duration.parse(text)
    except ConfigError:
        raise ValueError(FORM) from None
    return text


def _some(text: str) -> str:
    if Duration.parse(text).value == 0:
        raise ValueError("more than none, such as '300 steps'")
    return text


def ordered(pair: Any) -> Any:
    """A pair whose second number is not the smaller one."""
    if pair[0] > pair[1]:
        raise ValueError("[smallest, largest], in this order")
    return pair


Flag = Annotated[bool, Field(strict=True, title="true or false")]
Text = Annotated[str, Field(strict=True, min_length=1, title="a word")]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False, title="a number")]
Amount = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, title="a number of at least 0")]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, title="a number above 0")]
Count = Annotated[int, Field(strict=True, ge=1, title="a positive whole number")]
Natural = Annotated[int, Field(strict=True, ge=0, title="a whole number of at least 0")]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32, title="a whole number of at least 0 and below 2^32")]
Quality = Annotated[int, Field(strict=True, ge=1, le=100, title="a JPEG quality from 1 to 100")]
Fraction = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0, le=1, title="a fraction between 0 and 1")]
Share = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, lt=1, title="a fraction above 0 and below 1")]
BelowOne = Annotated[
    float, Field(strict=True, allow_inf_nan=False, ge=0, lt=1, title="a fraction of at least 0 and below 1")
]
Factor = Annotated[
    float, Field(strict=True, allow_inf_nan=False, gt=0, le=1, title="a fraction above 0 and of at most 1")
]
MaskRatio = Annotated[
    float,
    Field(
        strict=True,
        allow_inf_nan=False,
        gt=0,
        lt=1,
        title="a fraction between 0 and 1 (0.75 hides three patches in four)",
    ),
]
Warmup = Annotated[Any, AfterValidator(_duration), Field(title=FORM)]
Length = Annotated[Any, AfterValidator(_duration), AfterValidator(_some), Field(title=FORM)]
Range = Annotated[tuple[T, T], AfterValidator(ordered), Field(title="[smallest, largest]")]

VOCABULARY: dict[str, Any] = {
    "flag": Flag,
    "text": Text,
    "number": Number,
    "amount": Amount,
    "positive": Positive,
    "count": Count,
    "natural": Natural,
    "fraction": Fraction,
    "share": Share,
    "below_one": BelowOne,
    "factor": Factor,
    "mask_ratio": MaskRatio,
    "duration": Length,
}


@dataclass(frozen=True)
class Setting:
    """A type, compiled.

    least: the setting whose value this one reaches, at least.
    """

    kind: Any
    adapter: TypeAdapter[Any]
    least: str | None = None

    def check(self, value: Any, where: str) -> Any:
        """The value, a whole number as a fraction where one is wanted.

        Raises:
            ConfigError: it is of another type, or out of range.
        """
        try:
            return self.adapter.validate_python(value)
        except ValidationError as error:
            raise ConfigError(f"{where} is {value!r}; {expected(self.kind, value, error)}") from None


def setting(spec: Any, where: str) -> Setting:
    """The type that a head names.

    Raises:
        ConfigError: there is no such type.
    """
    try:
        return _compile(spec if isinstance(spec, str) else json.dumps(spec))
    except ValueError as error:
        raise ConfigError(f"{where} is {spec!r}; {error}") from None


@lru_cache(maxsize=256)
def _compile(text: str) -> Setting:
    text, _, least = text.partition(" >= ")
    kind = _kind(text)
    return Setting(kind, TypeAdapter(kind), least or None)


def _kind(text: str) -> Any:
    form, _, part = text.partition(" of ")
    if text.startswith("["):
        return Literal[tuple(yaml.safe_load(text))]  # type: ignore[misc]
    if text.endswith("?"):
        return _kind(text[:-1]) | None
    if form == "list" and part:
        return list[_kind(part)]  # type: ignore[misc]
    if form == "range" and part:
        pair = Field(min_length=2, max_length=2, title=f"[smallest, largest], each {words(_kind(part))}")
        return Annotated[list[_kind(part)], pair, AfterValidator(ordered)]  # type: ignore[misc]
    if text not in VOCABULARY:
        raise ValueError(f"available types: {list(VOCABULARY)}{nearest(text, VOCABULARY)}")
    return VOCABULARY[text]
