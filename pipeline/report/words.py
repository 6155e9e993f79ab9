"""How the report spells what recipes do not name: settings that all methods share, and values."""

from __future__ import annotations

from typing import Any

from pipeline.config import is_method, recipe_head

SETTINGS = {
    "stages": "number of stages",
    "teacher": "teacher of the first stage",
    "train.duration": "length of pretraining",
    "train.base_lr": "base learning rate",
    "train.lr": "learning rate",
    "train.inherit_optimizer": "optimiser kept between stages",
}


def method(name: str) -> str:
    """A method's name as its authors write it; quoted ones may have no recipe."""
    return recipe_head(name).title if is_method(name) else name


def setting(name: str, method: str) -> str:
    """`options.mask_ratio` as `mask ratio`, or as the method's recipe calls it."""
    own = recipe_head(method).names if is_method(method) else {}
    return own.get(name) or SETTINGS.get(name) or name.rpartition(".")[2].replace("_", " ")


def sentence(text: str) -> str:
    """A text with its first letter raised, as a title begins."""
    return text[:1].upper() + text[1:]


def value(content: Any) -> str:
    """A setting's value: `true` as `yes`, what is left open as `none`."""
    if isinstance(content, bool):
        return "yes" if content else "no"
    return "none" if content is None else str(content)
