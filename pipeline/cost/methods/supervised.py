"""Supervised baselines: the encoder on whole samples, and a classifier, which is too small to count."""

from __future__ import annotations

from typing import Any

from pipeline.cost.encoders import Encoder
from pipeline.cost.parts import Step


def step(settings: dict[str, Any], encoder: Encoder, teacher: Encoder | None) -> Step:
    return Step(embedded=encoder.embed, trained=encoder.body)
