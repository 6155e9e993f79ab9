"""The decoder that a run trained beside its encoder, if it has one."""

from collections.abc import Callable

from torch import Tensor

from pipeline.cell import Cell
from pipeline.engine.teachers import PublishedRun
from pipeline.methods import load_method


def decoder_of(cell: Cell) -> Callable[[Tensor, Tensor], Tensor] | None:
    """From (F, P, 2) places on faces and their (F, D) codes to (F, P, 4) points and distances; None without one."""
    run = PublishedRun(cell.encoder, num_classes=0)
    if not hasattr(load_method(run.settings["method"]), "decode"):
        return None
    return run.whole().decode  # type: ignore[no-any-return, operator]
