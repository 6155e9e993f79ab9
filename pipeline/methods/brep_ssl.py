"""B-Rep SSL: tell from a face's code where its surface is and how far its boundary.

Jones et al., "Self-Supervised Representation Learning for CAD", CVPR 2023, arXiv:2210.10807. A decoder is asked at
places (u, v) of a face for the point there, explicitly, and for the signed distance to the face's boundary, implicitly:
it redraws the face from its code alone.
F faces, P places on each, D encoder width.

Departures: from the authors' code (deGravity/hybridbrep).
- Their decoder of edges is left out: its loss is computed there and not added, so that nothing trains it.
- Loops between edges and faces, which only their first encoder could have, are left out; so are the normals of samples,
  which no loss uses.
- OpenCASCADE reads solids here, as in their build without Parasolid. The flag of a flipped face or edge is 1 where it
  says reversed, which is Parasolid's meaning; the major radius of an ellipse stands before the minor one. Surfaces and
  curves of other kinds are described by zeros, and such faces counted.
- Their released weights are read from no layout: none were released.
- Training has a length in epochs; theirs ends once the validation loss has not fallen for eight epochs, at 183 of them.
- The parts' box is that of OpenCASCADE's triangles.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from pipeline.methods.base import Context, Draw, Method, Step

LOSSES = ("sum", "channels")


@dataclass(frozen=True, kw_only=True)
class BRepSSLOptions:
    """The numbers of B-Rep SSL; `config/recipes/brep_ssl.yaml` gives them with their sources.

    loss: `sum`, the mean squared error of points plus that of distances; `channels`, the mean over all four numbers.
    decoder_width, decoder_depth: of the decoder.
    """

    loss: str
    decoder_width: int
    decoder_depth: int


class HybridDecoder(nn.Module):
    """(u, v) and a face's code to (x, y, z, distance): an MLP with weight norm that is shown its input in every layer.

    Args:
        code: D.
        width, depth: of the hidden layers, and how many layers there are.
    """

    def __init__(self, code: int, width: int, depth: int) -> None:
        super().__init__()
        sizes = [0, *[width] * (depth - 1), 4]
        self.layers = nn.ModuleList(
            weight_norm(nn.Linear(2 + code + before, after)) for before, after in itertools.pairwise(sizes)
        )

    def forward(self, coordinates: Tensor, codes: Tensor) -> Tensor:
        """(F, P, 2) and (F, D) -> (F, P, 4)."""
        hidden: Tensor | None = None
        for layer in self.layers:
            # What a layer makes of the code is the same at all places of a face.
            at, of, rest = layer.weight.split([2, codes.shape[1], layer.in_features - 2 - codes.shape[1]], dim=1)
            value = F.linear(coordinates, at) + F.linear(codes, of, layer.bias)[:, None]
            hidden = value if hidden is None else value + F.linear(hidden.relu(), rest)
        assert hidden is not None
        return hidden


class BRepSSL(Method):
    Options = BRepSSLOptions

    def __init__(self, encoder: nn.Module, options: BRepSSLOptions, context: Context) -> None:
        super().__init__(encoder, options, context)
        if options.loss not in LOSSES:
            raise ValueError(f"loss is {options.loss!r}; available: {list(LOSSES)}")
        self.decoder = HybridDecoder(encoder.embed_dim, options.decoder_width, options.decoder_depth)

    def inputs(self, batch: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
        return {name: batch[name] for name in ("solids", "coordinates", "points")}

    def forward(self, solids: Any, coordinates: Tensor, points: Tensor) -> Step:
        """One training step.

        Args:
            solids: parts as one graph, `pipeline.data.solids.Solids`.
            coordinates: (F, P, 2), places in the unit square of each face.
            points: (F, P, 4), the point there and the distance to the boundary, negative inside.

        Returns:
            loss (), and as parts the mean squared errors of points and of distances.
        """
        error = (self.decode(coordinates, self.encoder.forward_features(solids)).float() - points).square()
        explicit, implicit = error[..., :3].mean(), error[..., 3].mean()
        loss = explicit + implicit if self.options.loss == "sum" else error.mean()
        return Step(loss, parts={"points": explicit.detach(), "distances": implicit.detach()})

    def decode(self, coordinates: Tensor, codes: Tensor) -> Tensor:
        """What the decoder says of places on faces: (F, P, 2) and (F, D) -> (F, P, 4)."""
        return self.decoder(coordinates, codes)
