"""MAE-ST: MAE over tubelets, of which one frame is painted, or all."""

from __future__ import annotations

from typing import Any

from pipeline.cost.encoders import Transformer
from pipeline.cost.parts import Step, decoder


def step(settings: dict[str, Any], encoder: Transformer, teacher: Transformer | None) -> Step:
    options = settings["options"]
    visible = encoder.visible(options["mask_ratio"])
    if options["mask_kind"] == "space":  # the same patches at all moments
        visible = 1 + encoder.steps * round(encoder.patches / encoder.steps * (1 - options["mask_ratio"]))
    painted = settings["augment"]["num_frames"] // encoder.steps if options["target_frames"] == "all" else 1
    out = painted * 3 * encoder.patch_size**2
    painting = decoder(visible, encoder.places, encoder.width, options, out)
    return Step(embedded=encoder.embed, trained=encoder.blocks(visible) + painting)
