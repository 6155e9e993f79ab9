"""What recipes and protocols say of themselves above their sections: all that planning and report know of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.config.files import look
from pipeline.config.parse import parse

RECIPES = Path("config/recipes")
PROTOCOLS = Path("config/tasks")
METHODS = Path(__file__).parent.parent / "methods"


class Head(BaseModel):
    """What both have.

    version: raised when the same numbers begin to mean another computation.
    title: full name, as its authors write it. short: for narrow columns.
    kind: of the samples that are read.
    types: what each of its own settings may be, in the shape of its sections; see `pipeline.config.types`.
    names: settings by dotted name, as the report spells them where the name itself would not do.
    per_sample: whether a step's loss is the mean over samples that know nothing of one another: no BatchNorm, nothing
        mixed, pooled or drawn for a batch. Micro-batches are then no part of a cell's identity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: Annotated[int, Field(strict=True, title="a whole number")]
    title: str
    kind: str
    types: dict[str, Any] = {}
    names: dict[str, str] = {}
    per_sample: bool = False


class RecipeHead(Head):
    """A method.

    method: its module in `pipeline/methods/`, where the recipe has another name.
    encoders: families that it trains.
    teacher: methods whose runs it learns from, or `any`; None for none.
    needs_weights: whether a run of it must name `weights`, since it makes none itself.
    """

    method: str | None = None
    encoders: tuple[str, ...] = ("vit",)
    teacher: Literal["any"] | tuple[str, ...] | None = None
    needs_weights: bool = False


class ProtocolHead(Head):
    """A downstream task.

    takes: what the encoder must take, where that is not the kind that is read.
    needs: what the encoder must give.
    headline: metrics that stand for it in the leaderboard, the first of which ranks.
    metrics: how papers print a metric's name, where it is not the name itself.
    per_class: whether the number of labelled samples in a metric's name, such as `top1_n5`, is of each class.
    """

    short: str | None = None
    takes: str | None = None
    needs: Literal["features", "maps", "patches"]
    headline: Annotated[tuple[str, ...], Field(min_length=1)]
    metrics: dict[str, str] = {}
    per_class: bool = False


RECIPE_HEAD, PROTOCOL_HEAD = tuple(RecipeHead.model_fields), tuple(ProtocolHead.model_fields)


def recipe_head(name: str) -> RecipeHead:
    """The head of a method's recipe.

    Raises:
        ConfigError: it is missing or not understood.
    """
    path = RECIPES / f"{name}.yaml"
    raw = look(path, "recipe")
    return parse(RecipeHead, {key: value for key, value in raw.items() if key in RECIPE_HEAD}, str(path))


def protocol_head(name: str) -> ProtocolHead:
    """The head of a task's protocol.

    Raises:
        ConfigError: it is missing or not understood.
    """
    path = PROTOCOLS / f"{name}.yaml"
    raw = look(path, "protocol")
    return parse(ProtocolHead, {key: value for key, value in raw.items() if key in PROTOCOL_HEAD}, str(path))


def available_methods() -> list[str]:
    """Methods that can be named in a study: those with both a recipe and a module."""
    return sorted(file.stem for file in RECIPES.glob("*.yaml") if is_method(file.stem))


def is_method(name: str) -> bool:
    """Whether a study can name a method."""
    file = RECIPES / f"{name}.yaml"
    return file.is_file() and (METHODS / f"{_module(file)}.py").is_file()


def available_tasks() -> list[str]:
    """Tasks that can be named in a study: those with a protocol."""
    return sorted(file.stem for file in PROTOCOLS.glob("*.yaml"))


def _module(recipe: Path) -> str:
    return look(recipe, "recipe").get("method") or recipe.stem
