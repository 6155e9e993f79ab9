"""How well a decoder redraws faces from their codes: distances of points, and errors of the distance to the boundary.

Jones et al. 2023 (arXiv:2210.10807): means over samples of the distance between the true and the decoded point and of
the absolute error of the signed distance, averaged over a part's samples and then over parts; and the loss. Lengths are
of the part's frame, in which its longest side is 2; distances to the boundary are of a face's unit square.
"""

import time
from typing import Any

import torch
from mmengine import dist
from mmengine.device import get_device

from pipeline.cell import Cell
from pipeline.config import ConfigError
from pipeline.data.solids import Parts
from pipeline.engine.processes import connect
from pipeline.files import written
from pipeline.nn.encoders import load_encoder
from pipeline.tasks.solids.decoder import decoder_of
from pipeline.tasks.solids.drawing import decoded_solid, montage, true_solid

SHOWN = 8  # parts in the picture


@torch.no_grad()
def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Records, the picture and the cost of one cell."""
    connect()
    if not dist.is_main_process():  # it is over in seconds
        return None
    _settings, started = cell.settings, time.monotonic()
    if (decode := decoder_of(cell)) is None:
        raise ConfigError(f"{cell.run.name}, of method {cell.run.method}, has no decoder of faces; list the runs that "
                          "have one in the task's runs, such as those of brep_ssl")  # fmt: skip
    device, val = get_device(), Parts(cell.data, "val")
    encoder = load_encoder(cell.encoder).to(device).eval()
    decode.__self__.to(device)  # type: ignore[attr-defined]
    points, distances, faces, pictures = [], [], [], []
    for index in range(len(val)):
        batch: dict[str, Any] = val.__getitems__([(0, index)])
        codes = encoder.forward_features(batch["solids"].to(device))
        told = decode(batch["coordinates"].to(device), codes).float().cpu()
        error = told - batch["points"]
        points.append(error[..., :3].norm(dim=2).mean())
        distances.append(error[..., 3].abs().mean())
        faces.append(error.square().mean(dim=1))  # (F, 4)
        if index < SHOWN:
            labels = batch["face_labels"].tolist()
            decoded = decoded_solid(lambda at, of: decode(at.to(device), of), codes, labels)
            pictures.append([true_solid(val.part(index), labels), decoded])
    with written(cell.files / "solids.png") as path:
        montage(list(zip(*pictures, strict=True))).save(path, optimize=True)
    squares = torch.cat(faces)
    sizes = {"point_error": torch.stack(points).mean(), "distance_error": torch.stack(distances).mean(),
             "loss": squares[:, :3].mean() + squares[:, 3].mean(),
             "face_mse_median": squares.mean(dim=1).median()}  # fmt: skip
    seconds = time.monotonic() - started
    return {
        "records": [{"metric": name, "value": float(f"{float(value):.4g}"), "unit": "", "higher_is_better": False,
                     "count": len(val), "interval": None} for name, value in sizes.items()],
        "pictures": [{"path": "files/solids.png",
                      "caption": "validation parts: true above, redrawn from their faces' codes below"}],
        "cost": {"seconds": round(seconds, 3), "samples": len(val), "unit": "parts"},
    }  # fmt: skip
