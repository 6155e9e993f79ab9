"""Packed solids as batches: some parts side by side as one graph, and samples of their faces.

F faces, E edges and V vertices of B parts together, P samples of a face.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.data.draws import uniform
from pipeline.data.held import held
from pipeline.data.packed import Packed, read_json
from pipeline.data.pictures import decode_packed

POINTS = 9  # a stream of draws
IN_MEMORY = 2**30  # bytes of packs up to which the parts are held in memory

Arrays = dict[str, Tensor]  # of one part, see `pipeline.data.brep.graph.Part`


class Solids(NamedTuple):
    """Parts as one graph; what encoders of solids are given.

    faces (F, 21), edges (E, 18), vertices (V, 3): float32, see `pipeline.data.brep.graph.Part`.
    ends (·, 2) and starts (·, 1): vertices with their edges, and whether the edge starts there.
    coedges (·, 2) and against (·, 1): edges with their faces, and whether the face runs against the edge.
    adjacent (·, 2): neighbouring faces, each pair once.
    owner (F,): the part that each face is of.
    """

    faces: Tensor
    edges: Tensor
    vertices: Tensor
    ends: Tensor
    starts: Tensor
    coedges: Tensor
    against: Tensor
    adjacent: Tensor
    owner: Tensor

    def to(self, device: str | torch.device) -> "Solids":
        return Solids(*(values.to(device) for values in self))


def join(parts: Sequence[Arrays]) -> Solids:
    """Several parts as one graph."""
    counts = torch.tensor([[len(part[name]) for name in ("vertices", "edges", "faces")] for part in parts])
    vertices, edges, faces = (counts.cumsum(0) - counts).unbind(1)

    def moved(name: str, *firsts: Tensor) -> Tensor:
        steps = torch.stack(firsts, dim=1)
        return torch.cat([part[name][:, : len(firsts)] + step for part, step in zip(parts, steps, strict=True)])

    ends, coedges = (torch.cat([part[name][:, 2:] for part in parts]).float() for name in ("ends", "coedges"))
    return Solids(
        *(torch.cat([part[name] for part in parts]) for name in ("faces", "edges", "vertices")),
        moved("ends", vertices, edges),
        ends,
        moved("coedges", edges, faces),
        coedges,
        moved("adjacent", faces, faces),
        torch.arange(len(parts)).repeat_interleave(counts[:, 2]),
    )


class Parts(Dataset[dict[str, Tensor]]):
    """Parts of one split.

    Args:
        folder: of the prepared set.
        split: `train` or `val`.
        num_points: P samples that a step sees of each face, others in each epoch; None for all there are.
        seed: of the run.

    Attributes:
        labels: (N,) classes of the parts, -1 where they have none. face_classes, classes: names of those of faces and
            of parts.
    """

    unit = "parts"

    def __init__(self, folder: Path, split: str, num_points: int | None = None, seed: int = 0) -> None:
        files = Path(folder) / "files"
        self.packed, self.num_points, self.seed = Packed(files, split), num_points, seed
        self.labels = torch.from_numpy(self.packed.labels)
        told = read_json(files / "classes.json", dict)
        self.face_classes, self.classes = list(told.get("faces", [])), list(told.get("parts", []))
        small = sum(path.stat().st_size for path in files.glob(f"{split}-*.bin")) <= IN_MEMORY
        self._held = held(self.packed, "solid", self._read_all) if small else None

    def __len__(self) -> int:
        return len(self.packed)

    def _read_all(self) -> list[Arrays]:
        return [self._read(index) for index in range(len(self))]

    def part(self, index: int) -> Arrays:
        """All that is kept of a part."""
        return self._held[index] if self._held is not None else self._read(index)

    def __getitem__(self, sample: tuple[int, int]) -> dict[str, Tensor]:
        """A batch of one part."""
        return self.__getitems__([sample])

    def __getitems__(self, samples: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """A batch.

        Args:
            samples: B (epoch, index) pairs.

        Returns:
            solids; coordinates (F, P, 2) and points (F, P, 4), see `pipeline.data.brep.faces.sample`; face_labels (F,);
            labels, epoch and index (B,).
        """
        epochs, indices = torch.tensor(samples, dtype=torch.int64).unbind(1)
        parts = [self.part(index) for index in indices.tolist()]
        total = parts[0]["points"].shape[1]
        count = min(self.num_points or total, total)
        # They were stored in random order, so any of them in a row are a random draw.
        starts = (uniform(self.seed, epochs, indices, 1, POINTS)[:, 0].double() * total).long()
        places = [(start + torch.arange(count)) % total for start in starts]
        coordinates, points = (
            torch.cat([part[name][:, place] for part, place in zip(parts, places, strict=True)])
            for name in ("coordinates", "points")
        )
        return {
            "solids": join(parts),  # type: ignore[dict-item]
            "coordinates": coordinates,
            "points": points,
            "face_labels": torch.cat([part["labels"] for part in parts]),
            "labels": self.labels[indices],
            "epoch": epochs,
            "index": indices,
        }

    def _read(self, index: int) -> Arrays:
        return decode_packed(self.packed, index, decode)


def decode(data: bytes) -> Arrays:
    """A part as it was packed. Raises ValueError where it is damaged."""
    try:
        found = load(data)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if missing := {"faces", "edges", "vertices", "ends", "coedges", "adjacent", "coordinates", "points", "mesh_points",
                   "mesh", "labels"} - set(found):  # fmt: skip
        raise ValueError(f"it lacks {sorted(missing)}")
    return {name: values.long() if values.dtype == torch.int32 else values for name, values in found.items()}
