"""M3AE: one encoder of visible patches and words, one decoder of all places, a head for each modality."""

from __future__ import annotations

from typing import Any

from pipeline.cost.encoders import Transformer
from pipeline.cost.parts import Part, Step, blocks, linear


def step(settings: dict[str, Any], encoder: Transformer, teacher: Transformer | None) -> Step:
    options, text = settings["options"], settings["text"]
    trained = _filled(encoder, options, encoder.patches, text["length"])
    if options["unpaired_text_weight"]:
        texts = _filled(encoder, options, 0, text["unpaired_length"])
        trained += Part(texts.linear, texts.attention)  # by the same weights
    vectors = Part(parameters=options["vocabulary_size"] * encoder.width)
    return Step(embedded=encoder.embed, trained=trained + vectors)


def _filled(encoder: Transformer, options: dict[str, Any], patches: int, words: int) -> Part:
    """What is hidden of so many patches and words, filled in."""
    inner, out = options["decoder_width"], 3 * encoder.patch_size**2
    visible = 1 + int(patches * (1 - options["image_mask_ratio"])) + int(words * (1 - options["text_mask_ratio"]))
    return (
        encoder.blocks(visible)
        + linear(visible, encoder.width, inner)
        + blocks(1 + patches + words, inner, options["decoder_depth"])
        + linear(patches, inner, out)
        + linear(words, inner, options["vocabulary_size"])
    )
