"""Solids drawn: the true one from its triangles, the decoder's from its grids, faces in the colours of their classes.

T triangles, F faces, D encoder width.
"""

from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIZE, FINER = 150, 2  # pixels of a side, and how many make one of them
GRID = 32  # places a side at which the decoder is asked
MARGIN = 0.1  # beyond the unit square, as in sampling
COLOURS = np.array([*matplotlib.colormaps["tab20"].colors, *matplotlib.colormaps["tab20b"].colors])
VIEW = np.array([[0.77, -0.64, 0.0], [0.29, 0.35, 0.89], [-0.57, -0.69, 0.45]])  # right, up, towards the eye
LIGHT = np.array([-0.35, -0.6, 0.72])


def draw(corners: np.ndarray, colours: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Triangles as a picture.

    Args:
        corners: (T, 3, 3), in [-1, 1]³.
        colours: (T, 3) in [0, 1].

    Returns:
        (S, S, 3) uint8.
    """
    fine = size * FINER
    picture = np.ones((fine * fine, 3))
    if len(corners):
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        lengths = np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
        shades = (0.45 + 0.55 * np.abs(normals / lengths @ LIGHT))[:, None] * colours
        seen = corners @ VIEW.T  # right, up, depth
        seen[..., :2] = (seen[..., :2] / 1.75 * [1, -1] + 1) * fine / 2
        sides = np.abs(seen[:, :, :2] - np.roll(seen[:, :, :2], 1, axis=1)).max(axis=(1, 2))
        steps = np.ceil(1.5 * sides).astype(int).clip(1, 3 * fine)
        places, depths, paints = [], [], []
        for step in np.unique(steps):
            mine = steps == step
            i, j = (index.ravel() for index in np.indices((step + 1, step + 1)))
            weights = np.stack([i, j, step - i - j], axis=1)[i + j <= step] / step
            points = np.einsum("mc,tcx->tmx", weights, seen[mine])
            pixels = points[..., :2].astype(int).clip(0, fine - 1)
            places.append((pixels[..., 1] * fine + pixels[..., 0]).ravel())
            depths.append(points[..., 2].ravel())
            paints.append(np.repeat(np.flatnonzero(mine), len(weights)))
        nearest_last = np.argsort(np.concatenate(depths), kind="stable")
        picture[np.concatenate(places)[nearest_last]] = shades[np.concatenate(paints)[nearest_last]]
    whole = Image.fromarray((picture.reshape(fine, fine, 3) * 255).astype(np.uint8))
    return np.asarray(whole.reduce(FINER))


def true_solid(part: dict[str, Tensor], labels: Sequence[int]) -> np.ndarray:
    """A part as it is, its faces coloured by labels."""
    mesh, points = part["mesh"].numpy(), part["mesh_points"].numpy().astype(np.float64)
    return draw(points[mesh[:, :3]], _colours(labels)[mesh[:, 3]])


@torch.no_grad()
def decoded_solid(decode: Callable[[Tensor, Tensor], Tensor], codes: Tensor, labels: Sequence[int]) -> np.ndarray:
    """A part as a decoder redraws it from (F, D) codes: what it says lies inside.

    Args:
        decode: from (F, P, 2) places and codes to (F, P, 4) points and distances.
    """
    line = torch.linspace(-MARGIN, 1 + MARGIN, GRID)
    grid = torch.cartesian_prod(line, line)
    found = decode(grid.expand(len(codes), -1, -1), codes).float().cpu().numpy().astype(np.float64)
    first = np.arange(GRID * GRID).reshape(GRID, GRID)[:-1, :-1].ravel()
    triangles = np.concatenate([first[:, None] + [0, 1, GRID], first[:, None] + [1, GRID + 1, GRID]])
    corners = found[:, triangles]  # (F, T, 3, 4)
    inside = (corners[..., 3] <= 0).all(axis=2)
    faces = np.broadcast_to(np.arange(len(codes))[:, None], inside.shape)
    return draw(corners[inside][..., :3].clip(-1.6, 1.6), _colours(labels)[faces[inside]])


def montage(rows: Sequence[Sequence[np.ndarray]]) -> Image.Image:
    """Rows of pictures of one size as one picture."""
    return Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0))


def _colours(labels: Sequence[int]) -> np.ndarray:
    """(F, 3); grey where there is no label."""
    found = COLOURS[np.asarray(labels) % len(COLOURS)]
    return np.where((np.asarray(labels) < 0)[:, None], 0.7, found)
