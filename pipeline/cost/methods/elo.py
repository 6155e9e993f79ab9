"""ELo: networks of four modalities see each clip whole, put out of order and reversed, and one or two halves of it.

All losses are counted: which weights are zero is not known before they are evolved.
"""

from __future__ import annotations

from typing import Any

from pipeline.config import models
from pipeline.cost.encoders import Encoder, r2plus1d, resnet
from pipeline.cost.parts import NOTHING, Part, Step, conv, linear, normed

# As in pipeline/methods/elo.py and pipeline/nn/modalities.py, which need torch; a plan is made without it.
CHANNELS = {"rgb": 3, "grey": 1, "flow": 2, "sound": 1}
OTHER = {"rgb": "flow", "grey": "flow", "flow": "rgb", "sound": "flow"}  # that a modality is to become
BANDS = 80  # of a spectrogram; a set may have others, and sound is little of the whole
LONG, SHORT = 3, {"rgb": 2, "grey": 1, "flow": 2, "sound": 1}  # views of a whole clip, and of a half of it


def step(settings: dict[str, Any], encoder: Encoder, teacher: Encoder | None) -> Step:
    options, width = settings["options"], encoder.width
    embedded, trained = NOTHING, NOTHING
    for name, channels in CHANNELS.items():
        whole, half = (_network(settings, name, parts) for parts in (1, 2))
        embedded += whole.embed.passes(LONG) + _again(half.embed, SHORT[name])
        trained += whole.body.passes(LONG) + _again(half.body, SHORT[name])
        trained += _decoder(width, channels, options) * 2 + _decoder(width, CHANNELS[OTHER[name]], options)
        trained += linear(1, width, 1) * 3 + linear(1, 2 * width, width)  # order, arrow, align
    return Step(embedded=embedded, trained=trained)


def _network(settings: dict[str, Any], name: str, parts: int) -> Encoder:
    """That of a modality, on clips cut into so many parts."""
    size, augment = models()[settings["model"]], settings["augment"]
    if name != "sound":
        return r2plus1d(size, augment["image_size"], augment["num_frames"] // parts, CHANNELS[name])
    kernel = 7 if size["pooled_stem"] else size["stem_kernel"]
    sides = (BANDS, settings["sound_frames"] // parts)
    return resnet(size, sides, kernel=kernel, stride=2, pooled=size["pooled_stem"], channels=1)


def _again(part: Part, times: int) -> Part:
    """Passes through weights that are counted already."""
    return Part(part.linear * times, part.attention * times, 0.0, part.kept * times)


def _decoder(width: int, channels: int, options: dict[str, Any]) -> Part:
    """Transposed convolutions in space and then in time, which double the sides, and time while it can be."""
    inner, depth, frames = options["decoder_width"], options["decoder_depth"], options["target_frames"]
    doublings = min(depth, (frames & -frames).bit_length() - 1)
    moments, side = frames >> doublings, options["target_size"] >> depth
    found = linear(1, width, inner * moments * side**2)
    for place in range(depth):
        found += conv(moments * side**2, inner, inner, 16)  # a transposed one, whose places are those of its input
        side *= 2
        found += normed(moments * side**2, inner, inner, 4 if place < doublings else 1)
        moments *= 2 if place < doublings else 1
    return found + conv(moments * side**2, inner, channels, 1)
