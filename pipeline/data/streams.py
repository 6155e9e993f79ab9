"""Streams of tasks: how the classes of one prepared set are shared out over tasks that are learned one after the other.

Beside the packs of a stream stands `stream.json`, a list of tasks: `name`, `classes` (their positions in
`classes.json`; a sample's label in the task is the place in this list), and `permutation`, the seed of the order in
which the task sees pixels, or null.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import ConfigError
from pipeline.data.packed import read_json

NAME = "stream.json"
Task = dict[str, Any]


def divide(
    classes: Sequence[str],
    classes_per_task: int | None,
    tasks: Sequence[Sequence[str]] | None,
    permutations: int | None,
    seed: int,
) -> list[Task]:
    """The tasks of a stream, of which exactly one of these says what they are.

    Args:
        classes: of the set, in order.
        classes_per_task: as many of them for each task, in order.
        tasks: names of classes, for each task.
        permutations: as many tasks of all classes, each with its pixels in an order of its own.
        seed: of these orders.

    Raises:
        ConfigError: none or several are said; a task has one class; a class is in no task or in two.
    """
    ways = {"classes_per_task": classes_per_task, "tasks": tasks, "permutations": permutations}
    said = [way for way, value in ways.items() if value is not None]
    if len(said) != 1:
        raise ConfigError(f"the stream is said by {said or 'nothing'}; expected one of {list(ways)}, the others null")
    if permutations is not None:
        every = list(range(len(classes)))
        return [{"name": f"order {i + 1}", "classes": every, "permutation": [seed, i]} for i in range(permutations)]
    if classes_per_task is not None:
        if len(classes) % classes_per_task:
            raise ConfigError(
                f"classes_per_task is {classes_per_task}; expected a divisor of the {len(classes)} classes, "
                "or their names for each task: tasks"
            )
        tasks = [classes[first : first + classes_per_task] for first in range(0, len(classes), classes_per_task)]
    assert tasks is not None
    _check(classes, tasks)
    places = {name: place for place, name in enumerate(classes)}
    return [
        {"name": ", ".join(names), "classes": [places[name] for name in names], "permutation": None} for names in tasks
    ]


def write_stream(files: Path, stream: Sequence[Task]) -> None:
    """Writes a stream beside its packs."""
    (files / NAME).write_text(json.dumps(list(stream), indent=1) + "\n")


def read_stream(files: Path) -> list[Task]:
    """The stream of a prepared set.

    Raises:
        ConfigError: it is damaged.
    """
    stream: list[Task] = read_json(files / NAME, list)
    for number, task in enumerate(stream, start=1):
        if not isinstance(task, dict) or set(task) != {"name", "classes", "permutation"}:
            raise ConfigError(f"{files / NAME} is damaged (task {number} is {task!r}). Prepare it again")
    return stream


def order_of(permutation: Sequence[int], num_pixels: int) -> np.ndarray:
    """The order in which a task sees pixels: (num_pixels,)."""
    return np.random.default_rng(list(permutation)).permutation(num_pixels)


def _check(classes: Sequence[str], tasks: Sequence[Sequence[str]]) -> None:
    named = [name for names in tasks for name in names]
    if unknown := sorted(set(named) - set(classes)):
        raise ConfigError(f"tasks names {unknown[:5]}, which are no classes; available: {list(classes)[:20]}")
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise ConfigError(f"tasks names {twice[:5]} twice; expected each class in one task")
    if missing := [name for name in classes if name not in named]:
        raise ConfigError(f"tasks leaves out {missing[:5]}, {len(missing)} of {len(classes)} classes; expected all")
    for number, names in enumerate(tasks, start=1):
        if len(names) < 2:
            raise ConfigError(f"task {number} has the classes {list(names)}; expected two or more to tell apart")
