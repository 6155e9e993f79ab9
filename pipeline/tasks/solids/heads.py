"""Few-shot heads on frozen codes, as small as Jones et al. 2023 (arXiv:2210.10807) have them, and their training.

F faces of B parts, D encoder width, C classes.

Departure: codes narrower than the head, such as raw features of faces, are filled up with zeros to its width.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.nn.graphs import MaxRelativeConv, max_over
from pipeline.tasks.solids.codes import Coded


class SegmentationHead(nn.Module):
    """Max-relative convolutions over neighbouring faces, then two maps for each face.

    Args:
        width: of all layers. depth: convolutions; 0 for an MLP. num_classes: C.
    """

    def __init__(self, width: int, depth: int, num_classes: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.ModuleList(MaxRelativeConv(width) for _ in range(depth))
        self.hidden, self.last = nn.Linear(width, width), nn.Linear(width, num_classes)

    def forward(self, coded: Coded) -> Tensor:
        """Scores of the faces, (F, C)."""
        x = widened(coded.codes, self.width)
        for layer in self.layers:
            x = layer(x, x, coded.links)
        return self.last(F.leaky_relu(self.hidden(x)))


class ClassificationHead(nn.Module):
    """One map for each face, the maximum over faces, one map of that.

    Args:
        width: of the first map. num_classes: C.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.width = width
        self.hidden, self.last = nn.Linear(width, width), nn.Linear(width, num_classes)

    def forward(self, coded: Coded) -> Tensor:
        """Scores of the parts, (B, C)."""
        x = self.hidden(widened(coded.codes, self.width))
        return self.last(F.leaky_relu(max_over(x, coded.owner, len(coded.labels))))


def widened(codes: Tensor, width: int) -> Tensor:
    """(F, D) codes with zeros up to a width."""
    return F.pad(codes, (0, max(0, width - codes.shape[1])))


def fit_head(
    head: nn.Module,
    coded: Coded,
    train: Sequence[int],
    val: Sequence[int],
    labels: Callable[[Coded], Tensor],
    settings: Mapping[str, Any],
    generator: torch.Generator,
) -> nn.Module:
    """A head trained on some parts until others have not been told better for a while; the best of it.

    Args:
        labels: of what the head scores.
        settings: `lr`, `max_epochs`, `patience` and `batch_size`, in parts.
        generator: of the order of parts, where they are more than a batch.
    """
    # A plain loop: a head trains for a second, and a fit that was cut off is simply repeated.
    optimizer = torch.optim.Adam(head.parameters(), lr=settings["lr"], fused=True)
    size, best, best_loss, waited = settings["batch_size"], head.state_dict(), float("inf"), 0
    held, whole = coded.take(val), coded.take(train)
    for _ in range(settings["max_epochs"]):
        for batch in _batches(coded, whole, train, size, generator):
            optimizer.zero_grad()
            F.cross_entropy(head(batch), labels(batch)).backward()
            optimizer.step()
        with torch.no_grad():
            loss = float(F.cross_entropy(head(held), labels(held)))
        if loss < best_loss:
            best, best_loss, waited = copy.deepcopy(head.state_dict()), loss, 0
        elif (waited := waited + 1) >= settings["patience"]:
            break
    head.load_state_dict(best)
    return head.eval()


def _batches(
    coded: Coded, whole: Coded, train: Sequence[int], size: int, generator: torch.Generator
) -> Sequence[Coded]:
    if len(train) <= size:
        return [whole]
    order = torch.randperm(len(train), generator=generator).split(size)
    return [coded.take([train[place] for place in places.tolist()]) for places in order]
