"""Embedded solids with classes: washers, nuts, flanges, brackets and other hardware of random sizes.

Written as FabWave lays out its parts, and read back as they are read.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import ConfigError
from pipeline.config.types import Count, Fraction, Seed, Share
from pipeline.data.brep import make
from pipeline.data.brep.make import Frame, joined, prism, revolved, ring, without
from pipeline.data.brep.step import parts_of, write_step
from pipeline.data.progress import track
from pipeline.data.sources.solids import step_files

Random = np.random.Generator
UPRIGHT = Frame((0, 0, 0), (1, 0, 0), (0, 1, 0))


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the study says about this set.

    parts_per_class: of both splits.
    val_share: of each class, kept for validation.
    num_reference, num_points, near_share: see `pipeline.data.brep.faces.sample`.
    num_workers: processes that read.
    seed: of all of it.
    """

    parts_per_class: Count
    val_share: Share
    num_reference: Count
    num_points: Count
    near_share: Fraction
    num_workers: Count
    seed: Seed


def prepare(options: Options, work: Path, files: Path) -> dict[str, Any]:
    """Makes the parts in `work/raw` and packs them by the reader of FabWave."""
    root = work / "raw"
    write(options, root)
    shared = {key: getattr(options, key) for key in ("val_share", "seed", "num_reference", "num_points", "near_share",
                                                     "num_workers")}  # fmt: skip
    return step_files.prepare(step_files.Options(root=str(root), layout="fabwave", **shared, **step_files.MADE),
                              work, files)  # fmt: skip


def write(options: Options, root: Path) -> None:
    """Writes `<class>/STEP/<number>.stp` under `root`."""
    from OCP.TopAbs import TopAbs_FACE

    rng = np.random.default_rng([options.seed, 22])
    for name, build in track(CLASSES.items(), "making parts"):
        folder = root / name / "STEP"
        folder.mkdir(parents=True)
        for number in range(options.parts_per_class):
            shape = make.single_solid(build(rng))
            if shape is None:
                raise ConfigError(f"{name} {number} of seed {options.seed} is no valid solid; choose another seed")
            names = [""] * len(parts_of(shape, TopAbs_FACE))
            (folder / f"{number:04d}.stp").write_bytes(write_step(shape, names))


def _tube(inner: float, outer: float, height: float) -> Any:
    return revolved(UPRIGHT, [(inner, 0), (outer, 0), (outer, height), (inner, height)])


def _rod(radius: float, height: float, at: Frame = UPRIGHT) -> Any:
    return revolved(at, [(0, 0), (radius, 0), (radius, height), (0, height)])


def _hexagon(radius: float, height: float) -> Any:
    turns = [math.pi / 3 * step for step in range(6)]
    return prism(UPRIGHT, [(radius * math.cos(turn), radius * math.sin(turn)) for turn in turns], height)


def _moved(x: float, y: float, z: float = 0.0) -> Frame:
    return UPRIGHT._replace(origin=(x, y, z))


def _washer(rng: Random) -> Any:
    outer = rng.uniform(5, 10)
    return _tube(outer * rng.uniform(0.4, 0.7), outer, outer * rng.uniform(0.1, 0.3))


def _bushing(rng: Random) -> Any:
    outer = rng.uniform(4, 6)
    return _tube(outer * rng.uniform(0.5, 0.8), outer, outer * rng.uniform(1.5, 3))


def _nut(rng: Random) -> Any:
    radius = rng.uniform(5, 9)
    height = radius * rng.uniform(0.5, 1)
    return without(_hexagon(radius, height), _rod(radius * rng.uniform(0.35, 0.6), height))


def _bolt(rng: Random) -> Any:
    radius = rng.uniform(4, 6)
    head, shaft = radius * rng.uniform(0.5, 0.9), rng.uniform(10, 20)
    return joined(_hexagon(radius, head), _rod(radius * rng.uniform(0.4, 0.6), head + shaft))


def _flange(rng: Random) -> Any:
    outer, count = rng.uniform(8, 12), int(rng.integers(3, 7))
    height, bore = outer * rng.uniform(0.1, 0.25), outer * rng.uniform(0.2, 0.4)
    turns = [2 * math.pi * step / count for step in range(count)]
    holes = [_rod(outer * 0.08, height, _moved(0.75 * outer * math.cos(turn), 0.75 * outer * math.sin(turn)))
             for turn in turns]  # fmt: skip
    return without(_tube(bore, outer, height), *holes)


def _shaft(rng: Random) -> Any:
    profile, height = [(0.0, 0.0)], 0.0
    for radius in rng.permutation([1.5, 2.2, 3.0])[: rng.integers(2, 4)] * rng.uniform(0.9, 1.1):
        profile.append((radius, height))
        height += rng.uniform(4, 9)
        profile.append((radius, height))
    return revolved(UPRIGHT, [*profile, (0.0, height)])


def _pulley(rng: Random) -> Any:
    outer, height = rng.uniform(6, 10), rng.uniform(3, 5)
    groove, bore = outer * rng.uniform(0.6, 0.8), outer * rng.uniform(0.15, 0.3)
    return revolved(UPRIGHT, [(bore, 0), (outer, 0), (groove, height / 2), (outer, height), (bore, height)])


def _bracket(rng: Random) -> Any:
    long, wide, thick = rng.uniform(8, 12), rng.uniform(4, 8), rng.uniform(1, 2)
    side = Frame((0, 0, 0), (1, 0, 0), (0, 0, 1))  # its profile stands upright, extruded along -y
    whole = prism(side, [(0, 0), (long, 0), (long, thick), (thick, thick), (thick, long), (0, long)], wide)
    return without(whole, _rod(wide * 0.2, thick, _moved(long * 0.6, -wide / 2)))


def _channel(rng: Random) -> Any:
    wide, high, thick, long = rng.uniform(6, 9), rng.uniform(4, 7), rng.uniform(0.6, 1.4), rng.uniform(8, 20)
    corners = [(0, 0), (wide, 0), (wide, high), (wide - thick, high), (wide - thick, thick), (thick, thick),
               (thick, high), (0, high)]  # fmt: skip
    return prism(UPRIGHT, corners, long)


def _plate(rng: Random) -> Any:
    long, wide, thick = rng.uniform(8, 12), rng.uniform(6, 9), rng.uniform(0.8, 2)
    holes = [_rod(rng.uniform(0.5, 0.9), thick, _moved(x, y)) for x in (1.5, long - 1.5) for y in (1.5, wide - 1.5)]
    return without(prism(UPRIGHT, [(0, 0), (long, 0), (long, wide), (0, wide)], thick), *holes)


def _knob(rng: Random) -> Any:
    radius = rng.uniform(3, 5)
    height = radius * rng.uniform(1.5, 2.5)
    return joined(make.ball(_moved(0, 0, height), radius), _rod(radius * rng.uniform(0.3, 0.6), height))


def _seal(rng: Random) -> Any:
    radius = rng.uniform(6, 10)
    return ring(UPRIGHT, radius, radius * rng.uniform(0.08, 0.3))


CLASSES: dict[str, Callable[[Random], Any]] = {
    "bolt": _bolt, "bracket": _bracket, "bushing": _bushing, "channel": _channel, "flange": _flange, "knob": _knob,
    "nut": _nut, "plate": _plate, "pulley": _pulley, "seal": _seal, "shaft": _shaft, "washer": _washer,
}  # fmt: skip
