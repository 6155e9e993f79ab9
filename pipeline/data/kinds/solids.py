"""Solids: boundary representations as graphs of faces, edges and vertices, with samples of their faces."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pipeline.data.brep.graph import EDGE, FACE
from pipeline.data.solids import Arrays, Parts, join

KEY = "solids"  # of a batch: what an encoder is given, `pipeline.data.solids.Solids`
ALL = 500  # points of a face of `example` where a recipe takes all that the set has


def open_train(folder: Path, settings: Mapping[str, Any], seed: int) -> Parts:
    """The training split as a recipe sees it: its `num_points`."""
    return Parts(folder, "train", settings["num_points"], seed)


def first_of_each(folder: Path, settings: Mapping[str, Any], seed: int, num: int) -> dict[str, Any]:
    """A batch of the first validation parts."""
    parts = Parts(folder, "val", settings.get("num_points"), seed)
    return parts.__getitems__([(0, index) for index in range(min(num, len(parts)))])


def example(settings: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    """A batch as `open_train` makes it, of cubes whose numbers are noise, always the same."""
    generator = torch.Generator().manual_seed(1)
    count = settings["num_points"] or ALL

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    # A cube: each corner has a bit for each direction, an edge changes one of them, a side holds one.
    edges = [(corner, corner | 1 << axis, axis) for axis in range(3) for corner in range(8) if not corner >> axis & 1]
    sides = [[2 * held + (corner >> held & 1) for held in range(3) if held != axis] for corner, _, axis in edges]
    ends = [(corner, place, starts) for place, (first, last, _) in enumerate(edges)
            for corner, starts in ((first, 1), (last, 0))]  # fmt: skip
    cube: Arrays = {
        "ends": torch.tensor(ends),
        "coedges": torch.tensor([(place, side, turn) for place, two in enumerate(sides)
                                 for turn, side in enumerate(two)]),
        "adjacent": torch.tensor([(*two, place) for place, two in enumerate(sides)]),
    }  # fmt: skip
    cubes = [{**cube, "faces": noise(6, FACE), "edges": noise(12, EDGE), "vertices": noise(8, 3)}
             for _ in range(batch_size)]  # fmt: skip
    places = torch.arange(batch_size)
    coordinates = torch.rand(6 * batch_size, count, 2, generator=generator)
    return {
        "solids": join(cubes),
        "coordinates": coordinates,
        "points": noise(6 * batch_size, 1, 4) + coordinates @ noise(6 * batch_size, 2, 4),  # each face is a plane
        "face_labels": torch.arange(6 * batch_size) % 4,
        "labels": places % 4,
        "epoch": torch.zeros_like(places),
        "index": places,
    }


def montage(rows: Mapping[str, Tensor]) -> Image.Image:
    """Rows of (B, 3, H, W) pictures in [0, 1] as one."""
    lines = [torch.cat(list(row), dim=2) for row in rows.values()]
    return Image.fromarray((torch.cat(lines, dim=1).clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy())
