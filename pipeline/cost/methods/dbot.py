"""DBOT: MAE's student, or with `symmetric` one that sees all places, and a frozen teacher of the whole image."""

from __future__ import annotations

from typing import Any

from pipeline.cost.encoders import Transformer
from pipeline.cost.parts import Step, blocks, decoder, linear


def step(settings: dict[str, Any], encoder: Transformer, teacher: Transformer) -> Step:
    options = settings["options"]
    depth = teacher.depth if options["teacher_depth"] is None else options["teacher_depth"]
    frozen = teacher.embed + blocks(teacher.places, teacher.width, depth)
    out = teacher.width
    if options["teacher_output"] == "projected":
        out = teacher.projection
        frozen += linear(teacher.places, teacher.width, out)
    if options["symmetric"]:
        trained = encoder.body + linear(encoder.places, encoder.width, out)
    else:
        visible = encoder.visible(options["mask_ratio"])
        trained = encoder.blocks(visible) + decoder(visible, encoder.places, encoder.width, options, out)
    return Step(embedded=encoder.embed, trained=trained, frozen=frozen)
