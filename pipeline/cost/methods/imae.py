"""i-MAE: MAE on a blend, with a way into the shared decoder for each image and a frozen MAE's latents as targets."""

from __future__ import annotations

from typing import Any

from pipeline.cost.encoders import Transformer
from pipeline.cost.parts import NOTHING, Step, blocks, linear


def step(settings: dict[str, Any], encoder: Transformer, teacher: Transformer) -> Step:
    options = settings["options"]
    visible, inner = encoder.visible(options["mask_ratio"]), options["decoder_width"]
    branch = linear(visible, encoder.width, inner)
    painting = blocks(encoder.places, inner, options["decoder_depth"])
    painting += linear(encoder.places, inner, 3 * encoder.patch_size**2)
    taught = teacher.embed + teacher.blocks(visible) + linear(visible, teacher.width, inner)
    times = options["num_branches"]
    return Step(
        embedded=encoder.embed,
        trained=encoder.blocks(visible) + branch * times + painting.passes(times),
        frozen=taught.passes(times) if options["distill_weight"] else NOTHING,
    )
