"""Masks over tubelets: agnostic of space and time, whole tubes, whole frames, or cuboids.

Feichtenhofer et al. 2022 (arXiv:2205.09113), §3 and Figure 4; cuboids follow BEiT's algorithm as PySlowFast extends
it. B clips, t steps of S = rows x columns patches, L = t · S tokens.
"""

import math

import torch
from torch import Tensor

from pipeline.masking.uniform import Masking, masking_of, num_visible, uniform_mask

KINDS = ("agnostic", "space", "time", "block")
PROPOSALS = 256  # cuboids proposed per mask at most; what is still missing is then filled token by token
ASPECT = (0.3, 1 / 0.3)
MIN_SHARE = 0.2  # of a frame's patches: a cuboid's smallest area


def num_draws(kind: str, grid: tuple[int, int, int]) -> int:
    """Uniform draws that one mask takes.

    Raises:
        ValueError: for a kind that there is not.
    """
    steps, rows, columns = grid
    draws = {
        "agnostic": steps * rows * columns,
        "space": rows * columns,
        "time": steps,
        "block": 6 * PROPOSALS + steps * rows * columns,
    }
    if kind not in draws:
        raise ValueError(f"mask_kind is {kind!r}; available: {list(KINDS)}")
    return draws[kind]


def spacetime_mask(noise: Tensor, kind: str, grid: tuple[int, int, int], mask_ratio: float) -> Masking:
    """Hide tokens of each clip.

    Args:
        noise: (B, `num_draws(kind, grid)`) uniform draws; what has the smallest stays visible.
        kind: `agnostic`, any tokens; `space`, the same patches at all steps; `time`, all patches of some steps;
            `block`, cuboids.
        grid: t, rows and columns.
        mask_ratio: share to hide; `space` rounds the number of tubes and `time` that of steps, so that none is cut.

    Raises:
        ValueError: nothing would be hidden, or nothing left visible.
    """
    steps, rows, columns = grid
    if kind == "agnostic":
        return uniform_mask(noise, mask_ratio)
    if kind in ("space", "time"):
        num = noise.shape[1]
        kept = num_whole(num, kind, mask_ratio)
        hidden = noise.argsort(dim=1).argsort(dim=1) >= kept
        whole = hidden[:, None] if kind == "space" else hidden[:, :, None]
        mask = whole.expand(-1, steps, rows * columns).flatten(1)
        return masking_of(mask, (num - kept) * mask.shape[1] // num)
    num_hidden = steps * rows * columns - num_visible(steps * rows * columns, mask_ratio)
    return masking_of(cuboid_mask(noise, grid, num_hidden), num_hidden)


def num_whole(count: int, kind: str, mask_ratio: float) -> int:
    """Tubes or steps, of `count`, that stay visible."""
    visible = round(count * (1 - mask_ratio))
    if not 0 < visible < count:
        raise ValueError(f"mask_ratio {mask_ratio} leaves {visible} of {count} visible under {kind} masks; "
                         "expected at least one visible and one hidden")  # fmt: skip
    return visible


def cuboid_mask(noise: Tensor, grid: tuple[int, int, int], num_hidden: int) -> Tensor:
    """Hide cuboids until `num_hidden` tokens are hidden, then single tokens where no cuboid fits any more.

    A cuboid's area is uniform between a fifth of a frame and a whole one, its aspect ratio log-uniform, its duration
    uniform in 1…t, its place uniform; it is taken if it hides something new and not too much.

    Args:
        noise: (B, 6 · PROPOSALS + L) uniform draws.

    Returns:
        (B, L), True where hidden.
    """
    steps, rows, columns = grid
    low, high = (math.log(ratio) for ratio in ASPECT)
    step, row, column = (torch.arange(length, device=noise.device) for length in grid)
    mask = torch.zeros(len(noise), *grid, dtype=torch.bool, device=noise.device)
    for draws in noise[:, : 6 * PROPOSALS].double().unflatten(1, (PROPOSALS, 6)).unbind(1):
        missing = num_hidden - mask.sum(dim=(1, 2, 3))
        if noise.device.type == "cpu" and not (missing > 0).any():  # a GPU would wait for the answer at every cuboid
            break
        area = rows * columns * (MIN_SHARE + (1 - MIN_SHARE) * draws[:, 0])
        aspect = torch.exp(low + (high - low) * draws[:, 1])
        sides = (
            1 + (draws[:, 2] * steps).long(),
            (area * aspect).sqrt().round().long().clamp(1, rows),
            (area / aspect).sqrt().round().long().clamp(1, columns),
        )
        inside = []
        for places, side, drawn in zip((step, row, column), sides, draws[:, 3:].unbind(1), strict=True):
            first = (drawn * (len(places) - side + 1)).long()[:, None]
            inside.append((places >= first) & (places < first + side[:, None]))
        cuboid = inside[0][:, :, None, None] & inside[1][:, None, :, None] & inside[2][:, None, None, :]
        new = (cuboid & ~mask).sum(dim=(1, 2, 3))
        mask |= cuboid & ((new > 0) & (new <= missing))[:, None, None, None]
    mask = mask.flatten(1)
    first = (noise[:, 6 * PROPOSALS :] + 2 * mask).topk(num_hidden, dim=1).indices
    return torch.zeros_like(mask).scatter_(1, first, True)
