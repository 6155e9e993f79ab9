"""Machining features of a cube, as MFCAD has them, and round ones: how each is drawn at random in a side's frame.

Lengths are those of a cube of `SIDE`; a and b run along its edges, c inwards.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.brep import make

SIDE, LEAST = 10.0, 1.0  # of the cube, and from the edges of a side
STOCK = 15
NAMES = (
    "chamfer", "triangular passage", "rectangular passage", "6-sides passage", "triangular through slot",
    "rectangular through slot", "rectangular through step", "2-sides through step", "slanted through step",
    "triangular pocket", "rectangular pocket", "6-sides pocket", "rectangular blind slot", "triangular blind step",
    "rectangular blind step", "stock", "through hole", "blind hole", "spherical pocket", "ring groove", "round",
)  # fmt: skip


class Drawn(NamedTuple):
    """A feature in the frame of a side of the cube, whose c leads inwards.

    tool: makes what is taken off, in that frame.
    extent: smallest and largest a and b that it takes, and its depth.
    """

    tool: Callable[[make.Frame], Any]
    extent: tuple[float, float, float, float, float]


class Feature(NamedTuple):
    """A kind of feature.

    faces: that it makes where nothing disturbs it.
    stage: earlier ones are made first: steps, slots, passages, pockets, edges.
    draw: one at random; None for those that take an edge of the cube.
    """

    faces: int
    stage: int
    draw: Callable[[np.random.Generator], Drawn] | None


def _rectangle(a0: float, a1: float, b0: float, b1: float) -> list[tuple[float, float]]:
    return [(a0, b0), (a1, b0), (a1, b1), (a0, b1)]


def _span(rng: np.random.Generator, least: float = 1.5, most: float = 4.5) -> tuple[float, float]:
    """Where something lies along an edge, clear of its ends."""
    length = rng.uniform(least, most)
    start = rng.uniform(LEAST, SIDE - LEAST - length)
    return start, start + length


def _inside(corners: int, through: bool) -> Callable[[np.random.Generator], Drawn]:
    def draw(rng: np.random.Generator) -> Drawn:
        (a0, a1), (b0, b1) = _span(rng), _span(rng)
        points = _rectangle(a0, a1, b0, b1)
        if corners == 3:
            points = [(a0, b0), (a1, b0), (rng.uniform(a0, a1), b1)]
        elif corners == 6:
            radius = min(a1 - a0, b1 - b0) / 2
            turns = rng.uniform(0, np.pi / 3) + np.arange(6) * np.pi / 3
            points = [(a0 + radius * (1 + np.cos(turn)), b0 + radius * (1 + np.sin(turn))) for turn in turns.tolist()]
        return _prism(points, SIDE if through else _depth(rng))

    return draw


def _leaning(shape: str, through: bool) -> Callable[[np.random.Generator], Drawn]:
    """Sketches that lean on one edge of a side, on two at a corner, or on three, spanning the side."""

    def draw(rng: np.random.Generator) -> Drawn:
        (a0, a1), (h, k), depth = _span(rng), sorted(rng.uniform(LEAST, 4.0, 2)), SIDE if through else _depth(rng)
        k = max(k, h + 0.4)
        points = {
            "triangle": [(a0, 0), (a1, 0), (rng.uniform(a0, a1), h)],
            "rectangle": _rectangle(a0, a1, 0, h),
            "corner triangle": [(0, 0), (h, 0), (0, k)],
            "corner rectangle": _rectangle(0, h, 0, k),
            "whole": _rectangle(0, SIDE, 0, h),
            "roof": [(0, 0), (SIDE, 0), (SIDE, h), (rng.uniform(3, 7), k), (0, h)],
            "slant": [(0, 0), (SIDE, 0), (SIDE, h), (0, k)],
        }[shape]
        return _prism(points, depth)

    return draw


def _round(shape: str) -> Callable[[np.random.Generator], Drawn]:
    def draw(rng: np.random.Generator) -> Drawn:
        (a0, a1), r, depth = _span(rng, 2.0, 4.5), 0.0, _depth(rng)
        r = (a1 - a0) / 2
        a, b = a0 + r, rng.uniform(LEAST + r, SIDE - LEAST - r)
        minor = r * rng.uniform(0.15, 0.3)
        tools: dict[str, tuple[Callable[[make.Frame], Any], float]] = {
            "through": (lambda at: make.revolved(at, [(0, 0), (r, 0), (r, SIDE), (0, SIDE)]), SIDE),
            "blind": (
                lambda at: make.revolved(at, [(0, 0), (r, 0), (r, depth), (0, depth + 0.6 * r)]),
                depth + 0.6 * r,
            ),
            "ball": (lambda at: make.ball(at, r), r),
            "ring": (lambda at: make.ring(at, r - minor, minor), minor),
        }
        tool, reach = tools[shape]
        return Drawn(lambda side: tool(side._replace(origin=side.at(a, b))), (a - r, a + r, b - r, b + r, reach))

    return draw


def _prism(points: list[tuple[float, float]], depth: float) -> Drawn:
    (a0, b0), (a1, b1) = np.min(points, axis=0).tolist(), np.max(points, axis=0).tolist()
    return Drawn(lambda side: make.prism(side, points, depth), (a0, a1, b0, b1, depth))


def _depth(rng: np.random.Generator) -> float:
    return float(rng.uniform(1.5, 6.0))


FEATURES = {
    0: Feature(1, 4, None),
    1: Feature(3, 2, _inside(3, True)),
    2: Feature(4, 2, _inside(4, True)),
    3: Feature(6, 2, _inside(6, True)),
    4: Feature(2, 1, _leaning("triangle", True)),
    5: Feature(3, 1, _leaning("rectangle", True)),
    6: Feature(2, 0, _leaning("whole", False)),
    7: Feature(3, 0, _leaning("roof", False)),
    8: Feature(2, 0, _leaning("slant", False)),
    9: Feature(4, 3, _inside(3, False)),
    10: Feature(5, 3, _inside(4, False)),
    11: Feature(7, 3, _inside(6, False)),
    12: Feature(4, 1, _leaning("rectangle", False)),
    13: Feature(2, 0, _leaning("corner triangle", False)),
    14: Feature(3, 0, _leaning("corner rectangle", False)),
    16: Feature(1, 2, _round("through")),
    17: Feature(2, 3, _round("blind")),
    18: Feature(1, 3, _round("ball")),
    19: Feature(1, 3, _round("ring")),
    20: Feature(1, 4, None),
}
