"""CL-MAE: MAE, a module that makes its masks, and a pass of frozen MAE over all places that teaches the module."""

from __future__ import annotations

from typing import Any

from pipeline.cost.encoders import Transformer
from pipeline.cost.parts import Step, blocks, decoder, linear


def step(settings: dict[str, Any], encoder: Transformer, teacher: Transformer | None) -> Step:
    options, out = settings["options"], 3 * encoder.patch_size**2
    visible, places, width = encoder.visible(options["mask_ratio"]), encoder.places, encoder.width
    module = blocks(places, width, options["module_depth"]) + linear(1, width, encoder.patches)
    painting = decoder(visible, places, width, options, out)
    return Step(
        embedded=encoder.embed,
        trained=encoder.blocks(visible) + painting + module,
        passed=encoder.body + decoder(places, places, width, options, out),
    )
