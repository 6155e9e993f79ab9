"""Embedded solids: a cube with machined features, one part for each multiset of them, every face labelled.

The procedure by which MFCAD was made (Cao et al., "Graph Representation of 3D CAD Models for Machining Feature
Recognition with Deep Learning", ASME IDETC 2020), with round features beside its planar ones so that all five kinds of
surface occur. Written in MFCAD's layout and read back as it is read.

Departures: a feature is placed where no other reaches rather than wherever rays meet no material, so features do not
cut into each other; chamfers and rounds take whole edges of the cube.
"""

import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.config import ConfigError
from pipeline.config.types import Count, Fraction, Range, Seed, Share
from pipeline.data.brep import make
from pipeline.data.brep.features import FEATURES, LEAST, NAMES, SIDE, STOCK
from pipeline.data.brep.step import parts_of, write_step
from pipeline.data.progress import track
from pipeline.data.sources.solids import step_files

CLEARANCE, TRIES = 0.6, 30  # between features, and how often one is drawn anew


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the study says about this set.

    parts: how many, of both splits; no two have the same features.
    features: fewest and most of a part.
    kinds: of features, some of `NAMES`; null for all.
    val_share: of the parts, kept for validation.
    num_reference, num_points, near_share: see `pipeline.data.brep.faces.sample`.
    num_workers: processes that read.
    seed: of all of it.
    """

    parts: Count
    features: Range[Count]
    kinds: tuple[str, ...] | None
    val_share: Share
    num_reference: Count
    num_points: Count
    near_share: Fraction
    num_workers: Count
    seed: Seed

    def __post_init__(self) -> None:
        known = [name for name in NAMES if name != NAMES[STOCK]]
        if unknown := [name for name in self.kinds or () if name not in known]:
            raise ConfigError(f"kinds names {unknown[0]!r}; available: {', '.join(known)}")


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Makes the parts in `work/raw` and packs them by the reader of MFCAD."""
    root = work / "raw"
    write(options, root)
    shared = {key: getattr(options, key) for key in ("val_share", "seed", "num_reference", "num_points", "near_share",
                                                     "num_workers")}  # fmt: skip
    return step_files.prepare(step_files.Options(root=str(root), layout="mfcad", **shared, **step_files.MADE),
                              work, files, NAMES)  # fmt: skip


def write(options: Options, root: Path) -> None:
    """Writes `dataset/step/<features>.step` and `.face_truth` under `root`.

    Raises:
        ConfigError: there are not so many.
    """
    low, high = options.features
    kinds = [NAMES.index(name) for name in options.kinds or (name for name in NAMES if name != NAMES[STOCK])]
    every = [chosen for count in range(low, high + 1) for chosen in combinations_with_replacement(kinds, count)]
    rng = np.random.default_rng([options.seed, 20])
    order, made = rng.permutation(len(every)).tolist(), 0
    folder = root / "dataset/step"
    folder.mkdir(parents=True)
    for place in track(order, "making parts", min(options.parts, len(order))):
        if (found := build(every[place], rng)) is None:
            continue
        shape, labels = found
        name = "-".join(map(str, every[place]))
        (folder / f"{name}.step").write_bytes(write_step(shape, [str(number) for number in range(len(labels))]))
        (folder / f"{name}.face_truth").write_bytes(pickle.dumps(labels, protocol=2))
        made += 1
        if made == options.parts:
            return
    raise ConfigError(f"parts is {options.parts}, and {made} parts of {low} to {high} features could be made, no two "
                      "alike; lower it, or widen features")  # fmt: skip


def build(chosen: Sequence[int], rng: np.random.Generator) -> tuple[Any, list[int]] | None:
    """A part with the features chosen and the labels of its faces; None where they find no place."""
    placed = list[Placed]()
    for kind in sorted(chosen, key=lambda kind: FEATURES[kind].stage):
        drawn = (_placed(kind, [other.box for other in placed], rng) for _ in range(TRIES))
        if (found := next(filter(None, drawn), None)) is None:
            return None
        placed.append(found)
    return _made(placed)


class Placed(NamedTuple):
    """A feature where no other reaches.

    box: (2, 3) that it takes. tool: what makes the solid that is taken off.
    edge, size: without a tool, the (2, 3) ends of the cube's edge that it takes, and how far it reaches.
    """

    kind: int
    box: np.ndarray
    tool: Any = None
    edge: np.ndarray | None = None
    size: float = 0.0


def _placed(kind: int, taken: Sequence[np.ndarray], rng: np.random.Generator) -> Placed | None:
    """A feature drawn somewhere; None where it meets another."""
    if (draw := FEATURES[kind].draw) is None:
        size = float(rng.uniform(LEAST, 3.0))
        for ends in rng.permutation(EDGES):
            box = ends.copy()  # along the edge, and as far into the cube as it takes
            thin = ends[0] == ends[1]
            box[0, thin], box[1, thin] = (np.where(ends[0, thin] > 0, SIDE - size, 0.0),
                                          np.where(ends[0, thin] > 0, SIDE, size))  # fmt: skip
            if not _meets(box, taken):
                return Placed(kind, box, edge=ends, size=size)
        return None
    frame, drawn = SIDES[rng.integers(len(SIDES))], draw(rng)
    a0, a1, b0, b1, depth = drawn.extent
    corners = np.array([frame.at(a, b, c) for a in (a0, a1) for b in (b0, b1) for c in (0, depth)])
    box = np.array([corners.min(axis=0), corners.max(axis=0)])
    return None if _meets(box, taken) else Placed(kind, box, tool=lambda: drawn.tool(frame))


def _made(placed: Sequence[Placed]) -> tuple[Any, list[int]] | None:
    """The cube with all features; None unless it is one valid solid with the faces that were to be expected."""
    from OCP.BRepFilletAPI import BRepFilletAPI_MakeChamfer, BRepFilletAPI_MakeFillet
    from OCP.TopAbs import TopAbs_FACE

    def faces(shape: Any) -> list[Any]:
        return parts_of(shape, TopAbs_FACE)

    shape: Any = make.prism(make.WORLD, [(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)], SIDE)
    labels = [STOCK] * 6
    cuts = [(feature.tool(), feature.kind) for feature in placed if feature.tool]
    if cuts:  # all at once: they do not meet
        operation = make.cut(shape, *(tool for tool, _ in cuts))
        made = [(face, kind) for tool, kind in cuts for face in faces(tool)]
        before, shape = [*((face, STOCK) for face in faces(shape)), *made], operation.Shape()
        labels = make.carry_labels(operation, before, shape, STOCK)
    for feature in placed:
        if feature.edge is not None:
            operation = (BRepFilletAPI_MakeChamfer if feature.kind == 0 else BRepFilletAPI_MakeFillet)(shape)
            operation.Add(feature.size, make.edge_between(shape, *feature.edge))
            operation.Build()
            if not operation.IsDone():
                return None
            before, shape = list(zip(faces(shape), labels, strict=True)), operation.Shape()
            labels = make.carry_labels(operation, before, shape, feature.kind)
    expected = Counter[int]()
    for feature in placed:
        expected[feature.kind] += FEATURES[feature.kind].faces
    found = Counter(labels)
    whole = found.pop(STOCK) >= 6 and found == expected
    solid = make.single_solid(shape) if whole else None
    return None if solid is None else (solid, labels)


def _meets(box: np.ndarray, taken: Sequence[np.ndarray]) -> bool:
    """Whether a box, (2, 3), comes nearer to another than the clearance."""
    return any(((box[0] < other[1] + CLEARANCE) & (other[0] < box[1] + CLEARANCE)).all() for other in taken)


def _sides() -> list[make.Frame]:
    """Every side of the cube from each of its corners: c leads inwards, a and b along edges."""
    axes = [tuple(sign * float(axis == place) for place in range(3)) for axis in range(3) for sign in (1, -1)]
    pairs = [(a, b) for a in axes for b in axes if not any(x * y for x, y in zip(a, b, strict=True))]
    frames = [make.Frame((0.0, 0.0, 0.0), a, b) for a, b in pairs]
    steps = [[sum(part) for part in zip(frame.a, frame.b, frame.c, strict=True)] for frame in frames]
    return [frame._replace(origin=tuple(SIDE if step < 0 else 0.0 for step in move))
            for frame, move in zip(frames, steps, strict=True)]  # fmt: skip


SIDES = _sides()
CORNERS = np.array([(x, y, z) for x in (0.0, SIDE) for y in (0.0, SIDE) for z in (0.0, SIDE)])
EDGES = np.array([(low, high) for low, high in combinations(CORNERS, 2) if (low != high).sum() == 1])  # (12, 2, 3)
