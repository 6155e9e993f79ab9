"""Encoders of boundary representations: vertices tell edges, edges tell faces.

Jones et al., "Self-Supervised Representation Learning for CAD", CVPR 2023, arXiv:2210.10807, §3.2. F faces, D width.
What they are given is `pipeline.data.solids.Solids`.
"""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.nn.graphs import AttentionConv, MaxRelativeConv

VERTEX, EDGE, FACE = 3, 18, 21  # numbers of each


class AttentionEncoder(nn.Module):
    """The final encoder: one attention from vertices to edges, one from edges to faces."""

    def __init__(self, size: Mapping[str, Any]) -> None:
        super().__init__()
        width = self.embed_dim = size["width"]
        self.edges = AttentionConv(VERTEX, EDGE, 1, width, size["edge_heads"])
        self.faces = AttentionConv(width, FACE, 1, width, size["face_heads"])

    def forward_features(self, solids: Any) -> Tensor:
        """Codes of the faces, (F, D)."""
        edges = self.edges(solids.vertices, solids.edges, solids.ends, solids.starts)
        return self.faces(edges, solids.faces, solids.coedges, solids.against)


class RelativeEncoder(nn.Module):
    """The first preprint's encoder: each level mapped to one width, then what is around it taken in."""

    def __init__(self, size: Mapping[str, Any]) -> None:
        super().__init__()
        width = self.embed_dim = size["width"]
        self.vertices, self.edges, self.faces = (nn.Linear(numbers, width) for numbers in (VERTEX, EDGE, FACE))
        self.to_edges, self.to_faces = MaxRelativeConv(width), MaxRelativeConv(width)

    def forward_features(self, solids: Any) -> Tensor:
        """Codes of the faces, (F, D)."""
        vertices, edges, faces = (
            F.leaky_relu(getattr(self, name)(getattr(solids, name))) for name in ("vertices", "edges", "faces")
        )
        edges = self.to_edges(vertices, edges, solids.ends)
        return self.to_faces(edges, faces, solids.coedges)


class Raw(nn.Module):
    """No encoder: what describes a face is its code."""

    embed_dim = FACE

    def forward_features(self, solids: Any) -> Tensor:
        """(F, 21)."""
        return solids.faces


FORMS = {"attention": AttentionEncoder, "relative": RelativeEncoder, "raw": lambda size: Raw()}


def build(size: Mapping[str, Any]) -> nn.Module:
    """An encoder of the form that its size names."""
    return FORMS[size["form"]](size)


def fit_positions(state: dict[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """A saved state as it is: solids have no size that could differ."""
    return state
