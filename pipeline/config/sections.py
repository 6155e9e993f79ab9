"""One section of a recipe or protocol: a scale's numbers, a model's and a study's changes laid over them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from pipeline.config.durations import Duration
from pipeline.config.errors import ConfigError, mapping, nearest, text_hint
from pipeline.config.files import read
from pipeline.config.models import models

# Values whose range their names tell; see `check_range`.
_FRACTIONS = ("betas", "drop_path", "label_smoothing", "layer_decay", "momentum", "ema_momentum")
_COUNTS = ("accumulate", "checkpoint_every", "log_every", "resize")
_MAY_BE_NONE = ("num_workers", "num_extra_levels", "teacher_depth")


def section(
    path: Path, head: tuple[str, ...], scale: str, changes: Mapping[str, Any], where: str, model: str | None = None
) -> dict[str, Any]:
    """The numbers of one scale.

    Args:
        path: of the recipe or protocol.
        head: its keys that are no scales.
        scale: the section.
        changes: value by dotted name, of the study.
        where: they stand.
        model: the encoder, whose overlay is applied; by default the section's own, or the changed one.

    Raises:
        ConfigError: on the first mistake.
    """
    raw = read(path, "recipe")
    scales = [key for key in raw if key not in head]
    if scale not in scales:
        raise ConfigError(f"{path} has no section {scale!r}; available scales: {scales}{nearest(scale, scales)}")
    settings = deepcopy(mapping(raw[scale], f"{path}: {scale}"))
    overlays = mapping(settings.pop("by_model", {}), f"{path}: {scale}.by_model")
    flat = flatten(settings)
    if model is None and "model" not in settings:
        raise ConfigError(f"{path}: section {scale} lacks 'model'; available: {sorted(settings)}")
    for key in changes:
        if key not in flat:
            raise ConfigError(f"{where} changes {key!r}, which {path} ({scale}) lacks; "
                              f"available: {sorted(flat)}{nearest(key, flat)}")  # fmt: skip
    model = model or changes.get("model") or settings["model"]
    known = models()
    for name, source in ((model, where if "model" in changes else f"{path}: {scale}"),
                         *((name, f"{path}: {scale}.by_model") for name in overlays)):  # fmt: skip
        if name not in list(known):
            raise ConfigError(f"{source}: model is {name!r}; available: {sorted(known)}{nearest(name, known)}")
    for key, value in flatten(overlays.get(model, {})).items():
        if key not in flat:
            raise ConfigError(f"{path}: by_model.{model} changes {key!r}, which section {scale} lacks; "
                              f"available: {sorted(flat)}{nearest(key, flat)}")  # fmt: skip
        flat[key] = value
    for key, value in changes.items():
        # What some scale leaves open may be left open by a study.
        open_ = any(flatten(mapping(raw[name], f"{path}: {name}")).get(key, 0) is None for name in scales)
        flat[key] = None if value is None and open_ else _check_type(f"{where}: {key}", value, flat[key])
        check_range(f"{where}: {key}", value)
    for key, value in flat.items():
        check_range(f"{path}: {scale}.{key}", value)
    return _nest(flat)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"options": {"mask_ratio": 0.75}}` as `{"options.mask_ratio": 0.75}`."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return nested


def _check_type(where: str, value: Any, like: Any) -> Any:
    """A change has the type of what it changes; a whole number may stand for a fraction."""
    if isinstance(value, list) and isinstance(like, list):
        example = next((item for item in like if isinstance(item, float)), like[0] if like else None)
        return [_check_type(where, item, example) for item in value]
    if like is None or (type(value) is type(like) and not isinstance(value, Mapping)):
        return value
    if type(like) is float and type(value) is int:
        return float(value)
    expected = "no key (it is empty in the recipe)" if like == {} else f"a {type(like).__name__}, such as {like!r}"
    raise ConfigError(f"{where} is {value!r}; expected {expected}{text_hint(value)}")


def check_range(where: str, value: Any) -> None:
    """Ranges follow from names: ratios are fractions, counts and sizes are positive, rates are not negative."""
    name = re.split(r"[. ]", where)[-1]
    if name in ("duration", "warmup"):
        if Duration.parse(value, where).value == 0 and name == "duration":
            raise ConfigError(f"{where} is {value!r}; expected more than none, such as '300 steps'")
        return
    if name == "precision" and value not in ("float32", "bf16"):
        raise ConfigError(f"{where} is {value!r}; expected 'float32' or 'bf16'")
    for item in value if isinstance(value, list) else [value]:
        number = type(item) in (int, float) and math.isfinite(item)
        if type(item) is float and not number:
            raise ConfigError(f"{where} is {value!r}; expected a finite number")
        if item is None:
            continue
        if name == "mask_ratio" and not (number and 0 < item < 1):
            raise ConfigError(f"{where} is {value!r}; expected a fraction between 0 and 1 "
                              f"(0.75 hides three patches in four){text_hint(item)}")  # fmt: skip
        if (name.endswith(("_ratio", "_share")) or name in _FRACTIONS) and not (number and 0 <= item <= 1):
            raise ConfigError(f"{where} is {value!r}; expected a fraction between 0 and 1{text_hint(item)}")
        if name.startswith("num_") or name.endswith(("_size", "_depth", "_width", "_heads", "_images", *_COUNTS)):
            if type(item) is not int or item < (name not in _MAY_BE_NONE):
                raise ConfigError(f"{where} is {value!r}; expected a positive whole number")
        if name.endswith(("lr", "lrs", "weight_decay", "mixup", "cutmix")) and not (number and item >= 0):
            raise ConfigError(f"{where} is {value!r}; expected a number of at least 0{text_hint(item)}")
        if name == "temperature" and not (number and item > 0):
            raise ConfigError(f"{where} is {value!r}; expected a number above 0{text_hint(item)}")
