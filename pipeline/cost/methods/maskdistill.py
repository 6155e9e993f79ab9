"""MaskDistill: the student sees all places, mask tokens among them; a linear head, and a frozen teacher."""

from __future__ import annotations

from typing import Any

from pipeline.cost.encoders import Transformer
from pipeline.cost.parts import Step, linear


def step(settings: dict[str, Any], encoder: Transformer, teacher: Transformer) -> Step:
    out, frozen = teacher.width, teacher.whole
    if settings["options"]["teacher_output"] == "projected":
        out = teacher.projection
        frozen += linear(teacher.places, teacher.width, out)
    trained = encoder.body + linear(encoder.patches, encoder.width, out)
    return Step(embedded=encoder.embed, trained=trained, frozen=frozen)
