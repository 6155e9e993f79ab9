"""One section of a recipe or protocol: a scale's numbers, a model's and a study's changes laid over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.config.augment import augmentation
from pipeline.config.errors import ConfigError, mapping, nearest
from pipeline.config.files import copied, look
from pipeline.config.models import models
from pipeline.config.parse import check_fields, verdict
from pipeline.config.training import Train
from pipeline.config.types import VOCABULARY, setting

# The types of sections that are the same for everyone, by what such a section holds and where its kind stands.
SHARED: dict[str, Callable[[Mapping[str, Any], str], type[BaseModel]]] = {
    "train": lambda entry, where: Train,
    "augment": augmentation,
}


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
    raw = look(path, "recipe")
    scales = [key for key in raw if key not in head]
    if scale not in scales:
        raise ConfigError(f"{path} has no section {scale!r}; available scales: {scales}{nearest(scale, scales)}")
    settings = mapping(copied(raw[scale]), f"{path}: {scale}")
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
        if flat[key] == {} != value:
            raise ConfigError(f"{where}: {key} is {value!r}; expected no key (it is empty in the recipe)")
        flat[key] = value
    places = {key: f"{where}: {key}" if key in changes else f"{path}: {scale}.{key}" for key in flat}
    types = flatten(mapping(raw.get("types", {}), f"{path}: types"))
    return _nest(_checked(flat, types, places, f"{path}: {scale}", f"{path}: types"))


def _checked(
    flat: Mapping[str, Any], types: Mapping[str, Any], places: Mapping[str, str], where: str, declared: str
) -> dict[str, Any]:
    """Values by dotted name, each as its type has it.

    What is not declared of a section `train` or `augment` is of the type that all share.

    Args:
        types: of the section's own settings, as they are declared.
        places: where each value stands.
        where: the section stands. declared: its types stand.
    """
    own = {key: setting(spec, f"{declared}.{key}") for key, spec in types.items()}
    checked, shared = dict(flat), dict[str, dict[str, Any]]()
    for key in [*own, *(kind.least for kind in own.values() if kind.least)]:
        if key not in flat:
            raise ConfigError(f"{where} lacks {key!r}, which {declared} has; available: {sorted(flat)}")
    for key, value in flat.items():
        part, _, rest = key.partition(".")
        if key in own:
            checked[key] = own[key].check(value, places[key])
        elif part in SHARED and (rest or value == {}):
            shared.setdefault(part, {}).update({rest: value} if rest else {})
        elif key != "model" and value != {}:
            raise ConfigError(f"{places[key]} has no type; declare it in {declared}, as one of {list(VOCABULARY)}, a "
                              f"list of choices, ...; see pipeline/config/types.py{nearest(key, own)}")  # fmt: skip
    for part, entry in shared.items():
        kind = SHARED[part](entry, places.get(f"{part}.kind", where))
        check_fields(kind, entry, f"{where}.{part}")
        try:
            model = kind.model_validate(entry)
        except ValidationError as error:
            key, told = verdict(kind, entry, error)
            raise ConfigError(f"{places.get(f'{part}.{key}', f'{where}.{part}.{key}')} {told}") from None
        checked |= {f"{part}.{key}": getattr(model, key) for key in entry}
    for key in own:
        if (least := own[key].least) and checked[key] < checked[least]:
            raise ConfigError(f"{places[key]} is {checked[key]}; expected at least {least}, {checked[least]}")
    _check_rates(checked, places)
    return checked


def _check_rates(flat: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Several rates are tried where training samples are held out to choose between them, and only there."""
    for key in ("train.base_lr", "train.lr"):
        rates, share = flat.get(key), flat.get("holdout_share")
        if rates is not None and isinstance(rates, list) != (share is not None):
            form = "one number" if share is None else "a list of the rates that are tried"
            raise ConfigError(f"{places[key]} is {rates!r}; expected {form}")
        if isinstance(rates, list) and len(rates) > 1 and not share:
            raise ConfigError(f"{places['holdout_share']} is {share}; expected a fraction above 0, of the training "
                              f"samples, to choose between the rates {rates}")  # fmt: skip


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
