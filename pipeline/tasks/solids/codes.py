"""Codes of frozen encoders, computed once: all that few-shot heads see of a part.

F faces of some parts together, D encoder width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmengine.device import get_device
from torch import Tensor, nn

from pipeline.data.solids import Parts


class Coded(NamedTuple):
    """Some parts as their heads see them.

    codes (F, D). links (·, 2): neighbouring faces, in both directions. owner (F,): the part of each.
    face_labels (F,) and labels (N,), of faces and parts.
    """

    codes: Tensor
    links: Tensor
    owner: Tensor
    face_labels: Tensor
    labels: Tensor

    def take(self, parts: Sequence[int]) -> "Coded":
        """Some of the parts, in this order."""
        places = torch.full((len(self.labels),), -1)
        places[list(parts)] = torch.arange(len(parts))
        owner = places[self.owner]
        kept = (owner >= 0).nonzero()[:, 0]
        kept = kept[owner[kept].argsort(stable=True)]
        faces = torch.full((len(owner),), -1)
        faces[kept] = torch.arange(len(kept))
        links = faces[self.links]
        links = links[links[:, 0] >= 0]  # neighbours are of one part
        return Coded(self.codes[kept], links, owner[kept], self.face_labels[kept], self.labels[list(parts)])


@torch.no_grad()
def encode(encoder: nn.Module, parts: Parts, batch_size: int) -> Coded:
    """All parts of a split."""
    device = get_device()
    encoder.to(device).eval()
    codes, links, owner, labels, faces = [], [], [], [], 0
    for first in range(0, len(parts), batch_size):
        indices = range(first, min(first + batch_size, len(parts)))
        batch: dict[str, Any] = parts.__getitems__([(0, index) for index in indices])
        solids = batch["solids"]
        codes.append(encoder.forward_features(solids.to(device)).float().cpu())
        links.append(solids.adjacent + faces)
        owner.append(solids.owner + first)
        labels.append(batch["face_labels"])
        faces += len(solids.faces)
    pairs = torch.cat(links)
    return Coded(torch.cat(codes), torch.cat([pairs, pairs.flip(1)]), torch.cat(owner), torch.cat(labels), parts.labels)
