"""MAE: the encoder sees the visible patches, the decoder all places."""

from __future__ import annotations

from typing import Any

from pipeline.cost.encoders import Transformer
from pipeline.cost.parts import Step, decoder


def step(settings: dict[str, Any], encoder: Transformer, teacher: Transformer | None) -> Step:
    options = settings["options"]
    visible = encoder.visible(options["mask_ratio"])
    out = 3 * encoder.patch_size**2
    painting = decoder(visible, encoder.places, encoder.width, options, out)
    return Step(embedded=encoder.embed, trained=encoder.blocks(visible) + painting)
