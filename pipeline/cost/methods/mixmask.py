"""MixMask and its bases: passes of the encoder over clean, blended and filled views, and of its moving average."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from pipeline.cost.encoders import Encoder
from pipeline.cost.parts import NOTHING, Step, linear


def step(settings: dict[str, Any], encoder: Encoder, teacher: Encoder | None) -> Step:
    options = settings["options"]
    base, hidden, out = options["base"], options["projector_width"], options["projector_out"]
    widths = [encoder.width, hidden, *([hidden] if base == "simsiam" else []), out]
    projector = sum((linear(1, *pair) for pair in pairwise(widths)), NOTHING)
    predictor, contrast = NOTHING, NOTHING
    if base == "moco":
        contrast = linear(1, out, options["queue_size"])
    else:
        predictor = linear(1, out, options["predictor_width"]) + linear(1, options["predictor_width"], out)
    clean = 1 if base == "moco" else 2
    passes = clean + options["unmix"] + (options["fill"] != "none")
    keys = {"moco": 1, "byol": 2, "simsiam": 0}[base]
    answers = 2 * passes - clean  # a mixed view answers to both its images
    return Step(
        embedded=encoder.embed.passes(passes),
        trained=(encoder.body + projector + predictor).passes(passes),
        frozen=(encoder.whole + projector).passes(keys),
        passed=contrast.passes(answers),
    )
